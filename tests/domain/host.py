"""A host as the contexts see it: takes orders, runs kernels, reports, and may be slow, fail, lose or repeat things."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, auto
from typing import Any

from domain.messages import AgentId, Command, KernelId
from domain.placements import AdmitAgent, StartKernel, StopKernel
from domain.scheduling.messages import RunningKernel
from domain.session.messages import (
    ReportKernelExited,
    ReportKernelFailed,
    ReportKernelGone,
    ReportKernelProgress,
    ReportKernelStarted,
)
from domain.session.status import KernelStatus, Reason


class Stage(Enum):
    ORDERED = auto()
    CREATING = auto()
    RUNNING = auto()


@dataclass
class Kernel:
    order: StartKernel
    stage: Stage = Stage.ORDERED
    stop: bool = False

    @property
    def here(self) -> tuple[KernelId, int]:
        return self.order.kernel_id, self.order.incarnation


@dataclass
class Host:
    agent_id: AgentId
    incarnation: int = 0
    cut_off: bool = False
    orders: dict[KernelId, deque[StartKernel | StopKernel]] = field(default_factory=dict)
    kernels: dict[tuple[KernelId, int], Kernel] = field(default_factory=dict)
    over: set[tuple[KernelId, int]] = field(default_factory=set)
    started: list[tuple[KernelId, int]] = field(default_factory=list)
    """Every start there ever was."""

    def take(self, order: AdmitAgent | StartKernel | StopKernel) -> None:
        if isinstance(order, AdmitAgent):
            return  # here is one agent of each name
        self.orders.setdefault(order.kernel_id, deque()).append(order)

    def inventory(self) -> Iterable[RunningKernel]:
        return [
            RunningKernel(
                kernel_id=kernel.order.kernel_id,
                incarnation=kernel.order.incarnation,
                session_id=kernel.order.session_id,
                owner=kernel.order.owner,
            )
            for kernel in self.kernels.values()
            if kernel.stage is Stage.RUNNING
        ]

    def lose_everything(self) -> None:
        """The host burns down. What was ordered from it is never carried out."""
        for order in [order for orders in self.orders.values() for order in orders]:
            self.over.add((order.kernel_id, order.incarnation))
        self.over.update(self.kernels)
        self.orders.clear()
        self.kernels.clear()

    def work(self, choice: int, now: datetime) -> list[Command]:
        """One thing that is to be done here, and how it comes out: mostly well."""
        ordered, kernels = list(self.orders), list(self.kernels.values())
        if not ordered and not kernels:
            return []
        which, choice = choice % (len(ordered) + len(kernels)), choice // (len(ordered) + len(kernels))
        if which >= len(ordered):
            return self._go_on(kernels[which - len(ordered)], choice, now)
        orders = self.orders[ordered[which]]
        order = orders[0] if choice % 8 == 7 else orders.popleft()  # read again after a crash
        if not orders:
            del self.orders[ordered[which]]
        return self._carry_out(order, now)

    def finish(self, now: datetime) -> list[Command]:
        """Everything that is to be done, done well; what runs goes on."""
        reports: list[Command] = []
        while self.orders or any(k.stop or k.stage is not Stage.RUNNING for k in self.kernels.values()):
            for orders in list(self.orders.values()):
                while orders:
                    reports += self._carry_out(orders.popleft(), now)
            self.orders.clear()
            for kernel in list(self.kernels.values()):
                if kernel.stop or kernel.stage is not Stage.RUNNING:
                    reports += self._go_on(kernel, 0, now)
        return reports

    def _carry_out(self, order: StartKernel | StopKernel, now: datetime) -> list[Command]:
        here = (order.kernel_id, order.incarnation)
        if isinstance(order, StartKernel):
            if here not in self.over and here not in self.kernels:
                self.kernels[here] = Kernel(order)
            return []
        concerned = [
            k for k in self.kernels.values() if k.here[0] == order.kernel_id and k.here[1] <= order.incarnation
        ]
        for kernel in concerned:
            kernel.stop = True
        if here in self.kernels:
            return []
        self.over.add(here)
        return [ReportKernelGone(**_about(order, now))]

    def _go_on(self, kernel: Kernel, choice: int, now: datetime) -> list[Command]:
        about = _about(kernel.order, now)
        if kernel.stop:
            ran = kernel.stage is Stage.RUNNING
            self._end(kernel)
            if not ran or choice % 4 == 3:
                return [ReportKernelGone(**about)]
            return [ReportKernelExited(**about, exit_code=143, how="killed")]
        match kernel.stage:
            case Stage.ORDERED:
                return self._prepare(kernel, choice, now)
            case Stage.CREATING:
                return self._start(kernel, choice, now)
            case Stage.RUNNING:
                return self._run(kernel, choice, now) if choice % 8 == 7 else []

    def _prepare(self, kernel: Kernel, choice: int, now: datetime) -> list[Command]:
        about = _about(kernel.order, now)
        if now > kernel.order.not_after:
            self._end(kernel)
            return [ReportKernelFailed(**about, reason=Reason.START_EXPIRED)]
        if choice % 8 == 7:
            self._end(kernel)
            return [ReportKernelFailed(**about, reason=Reason.IMAGE_UNAVAILABLE)]
        if choice % 8 == 6:
            self._end(kernel)
            return [ReportKernelGone(**about)]
        kernel.stage = Stage.CREATING
        way = (KernelStatus.PREPARING, KernelStatus.PULLING, KernelStatus.PREPARED, KernelStatus.CREATING)
        told = way[choice // 8 % 4 :]  # words that are not said at all
        return [ReportKernelProgress(**about, status=status) for status in told]

    def _start(self, kernel: Kernel, choice: int, now: datetime) -> list[Command]:
        about = _about(kernel.order, now)
        if any(other.here[0] == kernel.here[0] and other.here[1] < kernel.here[1] for other in self.kernels.values()):
            return []  # the earlier one has to be gone first
        if choice % 8 == 7:
            self._end(kernel)
            return [ReportKernelFailed(**about, reason=Reason.START_FAILED)]
        kernel.stage = Stage.RUNNING
        self.started.append(kernel.here)
        return [ReportKernelStarted(**about, runtime_id="r")] * (1 + (choice % 8 == 6))

    def _run(self, kernel: Kernel, choice: int, now: datetime) -> list[Command]:
        about = _about(kernel.order, now)
        self._end(kernel)
        match choice // 8 % 4:
            case 0:
                return [ReportKernelExited(**about, exit_code=0)] * 2
            case 1:
                return [ReportKernelExited(**about, exit_code=1)]
            case 2:
                return [ReportKernelExited(**about, exit_code=137, how="oom")]
            case _:
                return [ReportKernelGone(**about)]

    def _end(self, kernel: Kernel) -> None:
        del self.kernels[kernel.here]
        self.over.add(kernel.here)


def _about(order: StartKernel | StopKernel, now: datetime) -> dict[str, Any]:
    return {
        "at": now,
        "owner": order.owner,
        "session_id": order.session_id,
        "kernel_id": order.kernel_id,
        "incarnation": order.incarnation,
        "agent_id": order.agent_id,
    }
