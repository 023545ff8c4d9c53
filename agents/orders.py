"""What the log has for one agent: who of its name is admitted, and orders.

Of several agents that go by one name only one carries out orders. The scheduler admits whoever registers, by a word
among the orders themselves (`AdmitAgent`), and all of them read the same sequence. So what stands before an admission
belongs to whoever was admitted before, what comes after it to the new one, and no order is carried out by two. The
agent that started last goes on; the others end.

An agent that starts again continues with the orders it has missed, as long as its journal says what it has carried out,
and nobody with another journal was admitted meanwhile. Else each of them may have been carried out already, here or
elsewhere: such a kernel is never started, only looked for.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import structlog

from domain.messages import AgentId, KernelId
from domain.placements import ORDERS, AdmitAgent, AgentOrder, StartKernel, StopKernel
from infra.decoding import Unreadable, read_message
from infra.log import Log, Partition, Reader, Record

_log = structlog.get_logger("agents")

_PATIENCE_SECONDS = 30.0


class FencedOut(Exception):
    """Another agent of this name was admitted later: this one has nothing to say any more, and touches nothing."""

    def __init__(self, admitted: AdmitAgent) -> None:
        super().__init__(
            f"another agent registered as {admitted.agent_id} (incarnation {admitted.incarnation}): this one ends, its "
            "kernels run on. Two hosts must not go by one name: see REFOLD_AGENT_ID"
        )
        self.incarnation = admitted.incarnation


@dataclass(frozen=True)
class History:
    """What all that is kept of the orders comes to: what should run, and who was admitted last."""

    wanted: Sequence[StartKernel]
    incarnation: int
    next_order: int


@dataclass
class Backlog:
    """The orders `before` an admission, and those `after` it that came with it.

    `certain`: nobody but the agent of this journal can have carried out those before.
    """

    before: list[AgentOrder] = field(default_factory=list)
    after: list[AgentOrder] = field(default_factory=list)
    certain: bool = True


class Orders:
    """`place`: the partition that has the orders to this agent, and to others."""

    def __init__(self, log: Log, place: Partition, agent_id: AgentId) -> None:
        self._log = log
        self._place = place
        self._agent_id = agent_id

    async def history(self) -> History:
        """Read everything that is kept. Raises `LogError`."""
        wanted: dict[tuple[KernelId, int], StartKernel] = {}
        incarnation = 0
        first = (await self._log.starts([self._place]))[self._place]
        end = (await self._log.ends([self._place]))[self._place]
        async with self._log.reader({self._place: first}) as reader:
            while reader.position(self._place) < end:
                for order in self.read(await reader.batch(at_most=1000, within=1.0)):
                    match order:
                        case AdmitAgent():
                            incarnation = max(incarnation, order.incarnation)
                        case StartKernel():
                            wanted[order.kernel_id, order.incarnation] = order
                        case StopKernel():
                            for here in [h for h in wanted if h[0] == order.kernel_id and h[1] <= order.incarnation]:
                                del wanted[here]
            return History(list(wanted.values()), incarnation, reader.position(self._place))

    async def until_admitted(self, reader: Reader, incarnation: int, journal: int, *, is_certain: bool) -> Backlog:
        """Read on to the admission of this agent. `is_certain`: nobody with another journal was admitted before.

        Raises `FencedOut` if somebody was admitted later, and `LogError`.
        """
        backlog = Backlog(certain=is_certain)
        began, is_told = time.monotonic(), False
        while True:
            if not is_told and time.monotonic() - began > _PATIENCE_SECONDS:
                is_told = True
                _log.warning("not admitted yet, so no order is taken: do workers run?", agent=self._agent_id)
            orders = self.read(await reader.batch(at_most=500, within=1.0))
            for order in orders:
                match order:
                    case AdmitAgent(incarnation=admitted) if admitted > incarnation:
                        raise FencedOut(order)
                    case AdmitAgent() if (order.incarnation, order.journal) == (incarnation, journal):
                        backlog.after += orders
                        return backlog
                    case AdmitAgent():
                        backlog.certain = backlog.certain and order.journal == journal
                    case _:
                        backlog.before.append(order)

    def read(self, records: Sequence[Record]) -> Iterator[AgentOrder]:
        """Those for this agent: agents that share a partition pass over each other's."""
        for record in records:
            if record.key.decode() != self._agent_id:
                continue
            headers = dict(record.headers)
            try:
                yield read_message(ORDERS, headers["ce_type"].decode(), headers, record.value)
            except (Unreadable, KeyError) as error:
                _log.error("unreadable order", offset=record.offset, reason=str(error))
