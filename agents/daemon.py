"""The agent's loops: take orders, send reports, show that it lives, look at its images. They share the journal.

An outage of Kafka or of everything else costs nothing here: kernels go on, their ends are journalled with
their true times, and the reports go out when somebody listens again.
"""

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import structlog
from prometheus_client import Counter, Gauge
from pydantic import TypeAdapter

from agents.environ import Environs
from agents.images import Images
from agents.journal import Journal, Kept, Stage
from agents.minding import Minder, tell
from agents.runtime import Runtime, RuntimeUnavailable
from domain.directory.messages import COMMANDS as DIRECTORY_COMMANDS
from domain.messages import AgentId, Cell, KernelId
from domain.placements import ORDERS, AgentOrder, ImageOrder, StartKernel, StopImageTask, StopKernel
from domain.scheduling.messages import COMMANDS as SCHEDULING_COMMANDS
from domain.scheduling.messages import AgentProfile, RegisterAgent, RetireAgent, RunningKernel
from domain.session.messages import COMMANDS as SESSION_COMMANDS
from domain.session.messages import ReportKernelGone, ReportKernelProgress
from domain.session.status import KernelStatus
from domain.telemetry import Heartbeat
from infra.decoding import Unreadable, read_message
from infra.envelope import Cause, record_of
from infra.log import Log, LogError, Partition, Record
from infra.sending import Sender
from infra.settings import Settings
from infra.topics import PLACEMENTS, TELEMETRY, partition_of

_log = structlog.get_logger("agents")

_RUNNING = Gauge("refold_agent_kernels", "Kernels this agent looks after.")
_ORDERS = Counter("refold_agent_orders", "Orders taken in.", ["type"])
_REPORTS = Counter("refold_agent_reports", "Reports sent.")

_RETRY_SECONDS = 1.0
_TIDY_SECONDS = 3600.0
_ADAPTERS: dict[str, TypeAdapter[Any]] = {
    "session": SESSION_COMMANDS,
    "scheduling": SCHEDULING_COMMANDS,
    "directory": DIRECTORY_COMMANDS,
}


class Daemon:
    """One agent of one incarnation. `run` ends when cancelled; what it started runs on."""

    def __init__(
        self,
        settings: Settings,
        agent_id: AgentId,
        profile: AgentProfile,
        log: Log,
        sender: Sender,
        runtime: Runtime,
        environs: Environs,
        journal: Journal,
    ) -> None:
        self._settings = settings
        self._agent_id = agent_id
        self._cell = Cell(settings.agent_cell)
        self._profile = profile
        self._log = log
        self._sender = sender
        self._runtime = runtime
        self._environs = environs
        self._journal = journal
        self._orders = partition_of(settings, PLACEMENTS, agent_id)
        self._minders: dict[tuple[KernelId, int], tuple[Minder, asyncio.Task[None]]] = {}
        self._unsent = asyncio.Event()
        self._images = Images(runtime, journal, agent_id, self._unsent.set)
        self._incarnation = 0
        self.registered = asyncio.Event()

    async def run(self) -> None:
        await self._take_stock()
        async with asyncio.TaskGroup() as loops:
            loops.create_task(self._send_reports())
            loops.create_task(self._beat())
            loops.create_task(self._take_orders())
            loops.create_task(self._tidy())
            loops.create_task(self._images.run())

    async def retire(self) -> None:
        """Say in good order that nothing new can be started here for now."""
        self._report(
            "scheduling",
            RetireAgent(at=_now(), cell=self._cell, agent_id=self._agent_id, incarnation=self._incarnation),
        )
        for _, task in self._minders.values():
            task.cancel()
        await asyncio.gather(*(task for _, task in self._minders.values()), return_exceptions=True)
        try:
            async with asyncio.timeout(3):
                await self._send_all()
        except (LogError, TimeoutError) as error:
            _log.warning("could not say goodbye", reason=str(error))

    # -- on start ------------------------------------------------------------------------------------------------------

    async def _take_stock(self) -> None:
        """Compare what runs with what is wanted: adopt, stop what nobody wants, and report the inventory."""
        if self._journal.fact("next_order") is None:
            await self._rebuild_journal()
        last = self._journal.fact("incarnation") or 0
        self._incarnation = max(last + 1, int(time.time()))  # grows also when the journal was lost
        running = await self._list_running()
        kept = {(kept.order.kernel_id, kept.order.incarnation): kept for kept in self._journal.kernels()}
        for stray in running - kept.keys():
            _log.warning("stopping what nobody wants", kernel=stray[0], incarnation=stray[1])
            await self._runtime.stop(*stray, timedelta(0))
            await self._runtime.remove(*stray)
        inventory = tuple(
            RunningKernel(
                kernel_id=kept[here].order.kernel_id,
                incarnation=kept[here].order.incarnation,
                session_id=kept[here].order.session_id,
                owner=kept[here].order.owner,
            )
            for here in sorted(running & kept.keys())
        )
        with self._journal.changes():
            self._journal.set_fact("incarnation", self._incarnation)
            self._report(
                "scheduling",
                RegisterAgent(
                    at=_now(),
                    cell=self._cell,
                    agent_id=self._agent_id,
                    incarnation=self._incarnation,
                    profile=self._profile,
                    kernels=inventory,
                ),
            )
        _log.info("took stock", agent=self._agent_id, incarnation=self._incarnation, adopted=len(inventory))
        for each in kept.values():
            self._look_after(each)

    async def _list_running(self) -> set[tuple[KernelId, int]]:
        while True:
            try:
                return {(KernelId(k.kernel_id), k.incarnation) for k in await self._runtime.list()}
            except RuntimeUnavailable as error:
                _log.warning("runtime does not answer", reason=str(error))
                await asyncio.sleep(_RETRY_SECONDS)

    async def _rebuild_journal(self) -> None:
        """No journal: a new host, or it was lost. Whatever was ordered here and not stopped may have run
        already, so it is taken as started: what runs is adopted, and of the rest the runtime or nobody knows
        how it ended."""
        wanted: dict[tuple[KernelId, int], StartKernel] = {}
        place = 0
        async with self._log.reader({self._orders: await self._first_order()}) as reader:
            end = (await self._log.ends([self._orders]))[self._orders]
            while reader.position(self._orders) < end:
                for record in await reader.batch(at_most=1000, within=1.0):
                    match self._read(record):
                        case StartKernel() as order:
                            wanted[order.kernel_id, order.incarnation] = order
                        case StopKernel() as order:
                            for here in [h for h in wanted if h[0] == order.kernel_id and h[1] <= order.incarnation]:
                                del wanted[here]
            place = reader.position(self._orders)
        with self._journal.changes():
            for start in wanted.values():
                self._journal.keep(start, Stage.STARTED)
            self._journal.set_fact("next_order", place)

    async def _first_order(self) -> int:
        return (await self._log.starts([self._orders]))[self._orders]

    # -- orders --------------------------------------------------------------------------------------------------------

    async def _take_orders(self) -> None:
        while True:
            try:
                place = self._journal.fact("next_order") or 0
                async with self._log.reader({self._orders: place}) as reader:
                    while True:
                        batch = await reader.batch(at_most=500, within=1.0)
                        if batch:
                            self._take(batch, reader.position(self._orders))
            except LogError as error:
                _log.warning("orders not readable", reason=str(error))
                await asyncio.sleep(_RETRY_SECONDS)

    def _take(self, batch: Sequence[Record], next_order: int) -> None:
        """Journal the orders of a batch and its place in the log together, then set about them."""
        orders = [order for record in batch if (order := self._read(record)) is not None]
        new: list[StartKernel] = []
        with self._journal.changes():
            for order in orders:
                match order:
                    case StartKernel():
                        if self._journal.keep(order):
                            new.append(order)
                            preparing = KernelStatus.PREPARING
                            tell(self._journal, order, ReportKernelProgress, name=preparing, status=preparing)
                    case StopKernel():
                        known = self._journal.stop_up_to(order.kernel_id, order.incarnation, order.grace_seconds)
                        if not known:
                            tell(self._journal, order, ReportKernelGone)
                    case ImageOrder() | StopImageTask():
                        self._images.journal(order)
                _ORDERS.labels(order.type).inc()
            self._journal.set_fact("next_order", next_order)
        for order in orders:
            if isinstance(order, StopKernel):
                self._stop(order)
            elif isinstance(order, ImageOrder | StopImageTask):
                self._images.heed(order)
        stopped = {(k.order.kernel_id, k.order.incarnation): k for k in self._journal.kernels()} if new else {}
        for start in new:
            self._look_after(stopped[start.kernel_id, start.incarnation])
        if orders:
            self._unsent.set()

    def _read(self, record: Record) -> AgentOrder | None:
        """The order, if it is one for this agent: agents that share a partition pass over each other's."""
        if record.key.decode() != self._agent_id:
            return None
        headers = dict(record.headers)
        try:
            order: AgentOrder = read_message(ORDERS, headers["ce_type"].decode(), headers, record.value)
        except (Unreadable, KeyError) as error:
            _log.error("unreadable order", offset=record.offset, reason=str(error))
            return None
        return order

    def _look_after(self, kept: Kept) -> None:
        here = (kept.order.kernel_id, kept.order.incarnation)
        earlier = [task for (kernel, _), (_, task) in self._minders.items() if kernel == here[0]]
        minder = Minder(self._runtime, self._environs, self._journal, kept, self._unsent.set)
        task = asyncio.create_task(minder.run(after=earlier[-1] if earlier else None), name=f"kernel {here}")
        self._minders[here] = (minder, task)
        task.add_done_callback(lambda done: self._let_go(here, done))
        _RUNNING.set(len(self._minders))

    def _let_go(self, here: tuple[KernelId, int], task: "asyncio.Task[None]") -> None:
        self._minders.pop(here, None)
        _RUNNING.set(len(self._minders))
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("minder failed", kernel=here[0], exc_info=error)
            kept = [k for k in self._journal.kernels() if (k.order.kernel_id, k.order.incarnation) == here]
            if kept:  # a defect of ours, perhaps for a moment only: the kernel is still ours to look after
                asyncio.get_running_loop().call_later(_RETRY_SECONDS, self._look_after, kept[0])

    def _stop(self, order: StopKernel) -> None:
        for (kernel_id, incarnation), (minder, _) in self._minders.items():
            if kernel_id == order.kernel_id and incarnation <= order.incarnation:
                minder.stop(order.grace_seconds)

    # -- reports -------------------------------------------------------------------------------------------------------

    def _report(self, context: str, command: RegisterAgent | RetireAgent) -> None:
        self._journal.report(context, str(uuid4()), command.model_dump_json())
        self._unsent.set()

    async def _send_reports(self) -> None:
        self._unsent.set()
        while True:
            await self._unsent.wait()
            self._unsent.clear()
            try:
                await self._send_all()
            except LogError as error:
                _log.warning("reports not sent, kept for later", reason=str(error))
                await asyncio.sleep(_RETRY_SECONDS)
                self._unsent.set()

    async def _send_all(self) -> None:
        while reports := self._journal.reports(at_most=500):
            await self._sender.send_all(
                [
                    (report.context, _ADAPTERS[report.context].validate_json(report.command), report.command_id)
                    for report in reports
                ],
                actor=f"agent:{self._agent_id}",
            )
            with self._journal.changes():
                self._journal.reported(reports[-1].number)
            _REPORTS.inc(len(reports))
            self.registered.set()

    async def _beat(self) -> None:
        while True:
            beat = Heartbeat(
                at=_now(),
                agent_id=self._agent_id,
                cell=self._cell,
                incarnation=self._incarnation,
                interval_seconds=self._settings.agent_heartbeat_seconds,
                kernels=len(self._minders),
            )
            beat_id = str(uuid4())
            cause = Cause(f"agent:{self._agent_id}", beat_id, beat_id)
            where: Partition = partition_of(self._settings, TELEMETRY, self._agent_id)
            try:
                await self._log.append([record_of(beat, beat_id, f"agent/{self._agent_id}", cause, where, beat.key)])
            except LogError as error:
                _log.debug("heartbeat not sent", reason=str(error))
            await asyncio.sleep(self._settings.agent_heartbeat_seconds)

    # -- what is left of ended kernels ---------------------------------------------------------------------------------

    async def _tidy(self) -> None:
        while True:
            try:
                keep = {kept.order.kernel_id for kept in self._journal.kernels()}
                before = _now() - timedelta(days=self._settings.agent_kept_days)
                if forgotten := await self._runtime.tidy(before, keep):
                    _log.info("deleted what was left of ended kernels", kernels=len(forgotten))
            except (OSError, RuntimeUnavailable) as error:
                _log.warning("cannot tidy up", reason=str(error))
            await asyncio.sleep(_TIDY_SECONDS)


def _now() -> datetime:
    return datetime.now(UTC)
