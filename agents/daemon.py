"""The agent's loops: take orders, send reports, show that it lives, look at its images. They share the journal.

An outage of Kafka or of everything else costs nothing here: kernels go on, their ends are journalled with
their true times, and the reports go out when somebody listens again. Only kernels whose session asked for it
are ended when that takes too long (`agents/fencing.py`).
"""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import structlog
from prometheus_client import Counter, Gauge

from agents.fencing import GRACE_SECONDS, Heard
from agents.given.outfits import Outfits
from agents.images.keeping import Images
from agents.images.pulling import Pulling
from agents.journal import Journal, JournalUnavailable, Kept, Stage
from agents.minding import Minder, tell
from agents.orders import FencedOut, Orders
from agents.outbox import Outbox
from agents.runtime import Runtime, RuntimeUnavailable
from agents.stock import HEARD, IN_DOUBT, Stock, inventory_now, stop_strays, take_stock
from agents.telling import Telling
from domain.messages import AgentId, Cell, KernelId
from domain.placements import AdmitAgent, AgentOrder, ImageOrder, StartKernel, StopImageTask, StopKernel
from domain.scheduling.messages import AgentProfile, RegisterAgent, RetireAgent, RunningKernel
from domain.session.messages import ReportKernelGone, ReportKernelProgress
from domain.session.status import KernelStatus
from domain.telemetry import Heartbeat
from infra.log import Log, LogError, Reader
from infra.sending import Sender
from infra.settings import Settings
from infra.topics import PLACEMENTS, partition_of

_log = structlog.get_logger("agents")

_RUNNING = Gauge("refold_agent_kernels", "Kernels this agent looks after.")
_ORDERS = Counter("refold_agent_orders", "Orders taken in.", ["type"])

_RETRY_SECONDS = 1.0
_TIDY_SECONDS = 3600.0
_FENCE_SECONDS = 1.0


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
        outfits: Outfits,
        journal: Journal,
    ) -> None:
        self._settings = settings
        self._agent_id = agent_id
        self._cell = Cell(settings.agent_cell)
        self._profile = profile
        self._log = log
        self._runtime = runtime
        self._outfits = outfits
        self._journal = journal
        self._place = partition_of(settings, PLACEMENTS, agent_id)
        self._orders = Orders(log, self._place, agent_id)
        self._telling = Telling(settings, agent_id, log)
        self._minders: dict[tuple[KernelId, int], tuple[Minder, asyncio.Task[None]]] = {}
        self._heard = Heard()
        self._outbox = Outbox(journal, sender, agent_id, self._heard)
        self._images = Images(settings, runtime, journal, agent_id, outfits.account, self._outbox.wake)
        self._pulling = Pulling(runtime, journal, settings.agent_auto_pull, self._telling.tell)
        self._incarnation = 0
        self.registered = asyncio.Event()
        """It was admitted: its orders are its own."""

    async def run(self) -> None:
        """Raises `FencedOut` when another agent of this name is admitted; what runs here runs on then, too."""
        stock = await self._register()
        try:
            async with asyncio.TaskGroup() as loops:
                loops.create_task(self._outbox.run())
                loops.create_task(self._beat())
                loops.create_task(self._fence())
                loops.create_task(self._take_orders(stock))
                loops.create_task(self._tidy())
                loops.create_task(self._images.run())
        except BaseExceptionGroup as failed:
            if (fenced := failed.subgroup(FencedOut)) is None:
                raise
            await self._let_all_go()
            end = fenced.exceptions[0]
            assert isinstance(end, FencedOut)
            with suppress(JournalUnavailable), self._journal.changes():
                self._journal.set_fact("incarnation", end.incarnation)  # whoever is started after this is newer still
            raise end from None

    async def retire(self) -> None:
        """Say in good order that nothing new can be started here for now."""
        self._report(
            "scheduling",
            RetireAgent(at=_now(), cell=self._cell, agent_id=self._agent_id, incarnation=self._incarnation),
        )
        await self._let_all_go()
        try:
            async with asyncio.timeout(3):
                await self._outbox.send_all()
        except (LogError, JournalUnavailable, TimeoutError) as error:
            _log.warning("could not say goodbye", reason=str(error))

    # -- on start ------------------------------------------------------------------------------------------------------

    async def _register(self) -> Stock:
        """Tell what is here, and look after what runs. The rest waits until this agent is admitted: what does not run
        here may run where another of its name is."""
        while True:
            try:
                stock = await take_stock(self._runtime, self._journal, self._orders)
                with self._journal.changes():
                    self._offer(stock.incarnation, stock.journal, stock.inventory)
                break
            except (LogError, JournalUnavailable) as error:
                _log.warning("cannot take stock", reason=str(error))
                await asyncio.sleep(_RETRY_SECONDS)
        self._incarnation = stock.incarnation
        self._heard.not_since(stock.silence)
        _log.info("took stock", agent=self._agent_id, incarnation=stock.incarnation, adopted=len(stock.inventory))
        running = {(kernel.kernel_id, kernel.incarnation) for kernel in stock.inventory}
        for kept in stock.kept:
            if (kept.order.kernel_id, kept.order.incarnation) in running:
                self._look_after(kept)
        return stock

    async def offer(self, profile: AgentProfile) -> None:
        """What is here is not what it was: a device has failed, or recovered. Raises `JournalUnavailable`."""
        self._profile = profile
        if not self._incarnation:
            return  # it has yet to be told for the first time
        inventory = await inventory_now(self._runtime, self._journal)
        with self._journal.changes():
            self._offer(self._incarnation, self._journal.fact("journal") or 0, inventory)

    def _offer(self, incarnation: int, journal: int, inventory: tuple[RunningKernel, ...]) -> None:
        self._report(
            "scheduling",
            RegisterAgent(
                at=_now(),
                cell=self._cell,
                agent_id=self._agent_id,
                incarnation=incarnation,
                journal=journal,
                profile=self._profile,
                kernels=inventory,
            ),
        )

    # -- orders --------------------------------------------------------------------------------------------------------

    async def _take_orders(self, stock: Stock) -> None:
        while True:
            try:
                place = self._journal.fact("next_order") or 0
                async with self._log.reader({self._place: place}) as reader:
                    if not self.registered.is_set():
                        await self._enter(reader, stock)
                    while True:
                        if batch := await reader.batch(at_most=500, within=1.0):
                            self._take(list(self._orders.read(batch)), reader.position(self._place))
            except (LogError, JournalUnavailable) as error:
                _log.warning("orders cannot be taken", reason=str(error))
                await asyncio.sleep(_RETRY_SECONDS)

    async def _enter(self, reader: Reader, stock: Stock) -> None:
        """Wait to be admitted; then set about the orders that were missed, and about what was not begun."""
        is_certain = not self._journal.fact(IN_DOUBT)
        backlog = await self._orders.until_admitted(reader, stock.incarnation, stock.journal, is_certain=is_certain)
        doubtful = 0 if backlog.certain else len(backlog.before)
        with self._journal.changes():
            if not backlog.certain:
                self._journal.doubt()
            self._journal.set_fact(IN_DOUBT, 0)
            self._note([*backlog.before, *backlog.after], reader.position(self._place), doubtful)
        self.registered.set()
        self._set_about([*backlog.before, *backlog.after])
        self._look_after_all()
        await stop_strays(self._runtime, stock.strays)

    def _take(self, orders: Sequence[AgentOrder], next_order: int) -> None:
        """Journal the orders of a batch and its place in the log together, then set about them."""
        with self._journal.changes():
            is_new = self._note(orders, next_order)
        self._set_about(orders)
        if is_new:
            self._look_after_all()

    def _note(self, orders: Sequence[AgentOrder], next_order: int, doubtful: int = 0) -> bool:
        """Within changes of the journal. Whether there are kernels to start; the first `doubtful` orders start none."""
        is_new = False
        for number, order in enumerate(orders):
            match order:
                case StartKernel() if number < doubtful:
                    self._journal.keep(order, Stage.STARTED)
                case StartKernel():
                    if self._journal.keep(order):
                        is_new = True
                        preparing = KernelStatus.PREPARING
                        tell(self._journal, order, ReportKernelProgress, name=preparing, status=preparing)
                case StopKernel():
                    known = self._journal.stop_up_to(order.kernel_id, order.incarnation, order.grace_seconds)
                    if not known:
                        tell(self._journal, order, ReportKernelGone)
                case ImageOrder() | StopImageTask():
                    self._images.orders.journal(order)
                case AdmitAgent(incarnation=admitted) if admitted > self._incarnation:
                    break
            _ORDERS.labels(order.type).inc()
        self._journal.set_fact("next_order", next_order)
        return is_new

    def _set_about(self, orders: Sequence[AgentOrder]) -> None:
        """What is journalled already. Raises `FencedOut` for what comes after another agent's admission."""
        for order in orders:
            match order:
                case StopKernel():
                    self._stop(order)
                case ImageOrder() | StopImageTask():
                    self._images.orders.heed(order)
                case AdmitAgent(incarnation=admitted) if admitted > self._incarnation:
                    raise FencedOut(order)
        if orders:
            self._outbox.wake()

    def _look_after_all(self) -> None:
        for kept in self._journal.kernels():
            if (kept.order.kernel_id, kept.order.incarnation) not in self._minders:
                self._look_after(kept)

    def _look_after(self, kept: Kept) -> None:
        here = (kept.order.kernel_id, kept.order.incarnation)
        earlier = [task for (kernel, _), (_, task) in self._minders.items() if kernel == here[0]]
        minder = Minder(self._runtime, self._outfits, self._pulling, self._journal, kept, self._outbox.wake)
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
                asyncio.get_running_loop().call_later(_RETRY_SECONDS, self._look_after_all)

    def _stop(self, order: StopKernel) -> None:
        for (kernel_id, incarnation), (minder, _) in self._minders.items():
            if kernel_id == order.kernel_id and incarnation <= order.incarnation:
                minder.stop(order.grace_seconds)

    async def _let_all_go(self) -> None:
        """What they look after runs on."""
        tasks = [task for _, task in self._minders.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # -- reports -------------------------------------------------------------------------------------------------------

    def _report(self, context: str, command: RegisterAgent | RetireAgent) -> None:
        self._journal.report(context, str(uuid4()), command.model_dump_json())
        self._outbox.wake()

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
            began = self._heard.now()
            try:
                await self._telling.tell(beat)
            except LogError as error:
                _log.debug("heartbeat not sent", reason=str(error))
            else:
                self._heard.at(began)
                self._remember_heard()
            await asyncio.sleep(self._settings.agent_heartbeat_seconds)

    # -- kernels that are not to run on when nobody can be told of them ------------------------------------------------

    async def _fence(self) -> None:
        while True:
            silence = self._heard.silence
            for (kernel_id, incarnation), (minder, _) in list(self._minders.items()):
                if minder.fence_after is not None and silence >= minder.fence_after and not minder.is_fenced:
                    _log.warning("fenced: nobody could be told of it", kernel=kernel_id, seconds=round(silence))
                    with suppress(JournalUnavailable), self._journal.changes():
                        self._journal.fence(kernel_id, incarnation, GRACE_SECONDS)
                    minder.fence(GRACE_SECONDS)
            await asyncio.sleep(_FENCE_SECONDS)

    def _remember_heard(self) -> None:
        """For the next agent, if it matters."""
        if any(minder.fence_after is not None for minder, _ in self._minders.values()):
            with suppress(JournalUnavailable), self._journal.changes():
                self._journal.set_fact(HEARD, round((time.time() - self._heard.silence) * 1000))

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
