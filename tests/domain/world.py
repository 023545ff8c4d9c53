"""A whole cluster in memory: users, sessions, the scheduler and hosts, wired by the contexts' own consequences.

What comes next is chosen by a number, so a list of numbers is a history, and hypothesis can look for a short one that
breaks a rule. Messages of one sender to one receiver keep their order, as in a partition; everything else may overtake.
Each command is handled as a shard would, and then once more, which must change nothing.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from domain.context import PLACEMENTS, Alarm
from domain.contexts import CONTEXTS
from domain.messages import AccessKey, AgentId, Cell, Command, Event, KernelId, Refused, SessionId, Unneeded
from domain.scheduling.messages import (
    AgentProfile,
    Constraint,
    ExcludeAgent,
    IncludeAgent,
    MarkAgentFound,
    MarkAgentLost,
    RegisterAgent,
    RemoveAgent,
    RetireAgent,
)
from domain.scheduling.placing import could_ever, place
from domain.scheduling.state import Cell as CellState
from domain.session.messages import (
    CancelSession,
    Limits,
    RenameSession,
    RequestSession,
    RestartSession,
    Seat,
    SessionSpec,
    SetSessionLimits,
    TerminateSession,
)
from domain.session.state import Sessions
from domain.session.status import ClusterMode, SessionType
from tests.domain.host import Host
from tests.domain.ledger import Ledger

CELL = Cell("default")
OWNERS = (AccessKey("ADA"), AccessKey("EVE"))
AGENTS = (AgentId("a1"), AgentId("a2"), AgentId("a3"))
SLOTS = (
    {"cpu": 1000},
    {"cpu": 2000, "mem": 1 << 30},
    {"cpu": 1000, "cuda.device": 1000},
    {"cuda.device": 2000},
    {"cpu": 500, "cuda.shares": 600},
    {"cpu": 64000},
)


def profile(number: int) -> AgentProfile:
    """Three kinds of hosts: whole GPUs, shared GPUs, none; the fourth is the first with less. The third takes no part
    in what runs on several."""
    gpus = [{"cuda.device": {"g0": 1000, "g1": 1000}}, {"cuda.shares": {"g0": 1000, "g1": 1000}}, {}]
    devices = gpus[number % 3]
    slots = {"cpu": 4000 if number < 3 else 2000, "mem": 4 << 30}
    slots |= {slot: sum(units.values()) for slot, units in devices.items()}
    return AgentProfile(
        resource_group="default",
        slots=slots,
        devices=devices,
        address="http://a",
        runtime="fake",
        capabilities=("cluster:single-node",) if number % 3 == 2 else ("cluster:single-node", "cluster:multi-node"),
    )


@dataclass
class World:
    now: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    states: dict[tuple[str, str], Any] = field(default_factory=dict)
    channels: dict[tuple[str, str, str], deque[Any]] = field(default_factory=dict)
    alarms: dict[tuple[str, str], Alarm] = field(default_factory=dict)
    history: dict[tuple[str, str], list[Event]] = field(default_factory=dict)
    hosts: dict[AgentId, Host] = field(default_factory=dict)
    ledger: Ledger = field(default_factory=Ledger)
    requested: int = 0

    def __post_init__(self) -> None:
        for owner in OWNERS:
            self.set_limits(owner, Limits(max_concurrent_sessions=4, max_kernels_per_session=3))
        for number in range(len(AGENTS)):
            self.register(number)
        self.deliver_all()

    # -- a shard -------------------------------------------------------------------------------------------------------

    def handle(self, name: str, command: Command) -> None:
        """Decide, keep the events, send what follows."""
        context, key = CONTEXTS[name], command.key
        command = context.commands.validate_json(command.model_dump_json())
        before = self.states.get((name, key), context.empty)
        try:
            events = context.decide(command, before)
        except (Refused, Unneeded):
            return
        state = before
        for event in events:
            assert context.events.validate_json(event.model_dump_json()) == event
            self.ledger.note(event, key)
            for send in context.consequences(event, state):
                self.send(f"{name}/{key}", send.to, send.message)
            if (alarm := context.alarm(event, state)) is not None:
                self.alarms[name, alarm.subject] = alarm
            state = context.evolve(state, event)
            self.history.setdefault((name, key), []).append(event)
        self.states[name, key] = state
        self._again_changes_nothing(name, command, state)

    def _again_changes_nothing(self, name: str, command: Command, state: Any) -> None:
        try:
            events = CONTEXTS[name].decide(command, state)
        except (Refused, Unneeded):
            return
        assert not events, f"{command} twice: {events}"

    def _nobody_waits_for_what_is_free(self) -> None:
        cell: CellState = self.states["scheduling", CELL]
        for group in cell.groups.values():
            if group.line:
                assert group.head == min(group.line)
                head = cell.demands[group.line[group.head]]
                assert head.constraint is Constraint.BUSY
                assert place(head.claim, group.agents) is None, f"{head} could have been placed"
                assert could_ever(head.claim, group.agents), f"{head} blocks the others for ever"
            for attempt in group.aside.values():
                assert not could_ever(cell.demands[attempt].claim, group.agents)

    def _nothing_runs_twice_at_once(self) -> None:
        running: dict[KernelId, list[int]] = {}
        for host in self.hosts.values():
            for kernel in host.inventory():
                running.setdefault(kernel.kernel_id, []).append(kernel.incarnation)
        for kernel_id, numbers in running.items():
            written_off = [n for n in numbers if (kernel_id, n) in self.ledger.presumed]
            assert len(numbers) - len(written_off) <= 1, f"{kernel_id} runs as {numbers} at once"

    def send(self, sender: str, to: str, message: Any) -> None:
        self.channels.setdefault((sender, to, message.key), deque()).append(message)

    def deliver(self, channel: tuple[str, str, str]) -> None:
        _, to, key = channel
        message = self.channels[channel].popleft()
        if not self.channels[channel]:
            del self.channels[channel]
        if to != PLACEMENTS:
            self.handle(to, message)
        elif (host := self.hosts.get(AgentId(key))) is not None:
            host.take(message)

    def open_channels(self) -> list[tuple[str, str, str]]:
        """Those with something in them that are not cut off: a lost host neither hears nor is heard."""
        cut_off = {host.agent_id for host in self.hosts.values() if host.cut_off}
        return [each for each in self.channels if each[0] not in cut_off and each[2] not in cut_off]

    # -- what may happen -----------------------------------------------------------------------------------------------

    def step(self, choice: int) -> None:
        """The thing to happen that this number stands for, if it can happen now."""
        number = choice // len(_ACTIONS)
        _ACTIONS[choice % len(_ACTIONS)](self, number)
        self.ledger.check()
        self._nobody_waits_for_what_is_free()
        self._nothing_runs_twice_at_once()

    def deliver_some(self, number: int) -> None:
        for _ in range(1 + number % 6):
            if channels := self.open_channels():
                self.deliver(channels[number // 6 % len(channels)])

    def let_a_host_work(self, number: int) -> None:
        hosts = list(self.hosts.values())
        if hosts:
            host = hosts[number % len(hosts)]
            self._send_reports(host, host.work(number // len(hosts), self.now))

    def _send_reports(self, host: Host, reports: list[Command]) -> None:
        for report in reports:
            self.send(host.agent_id, "session", report)

    def request(self, number: int) -> None:
        self.requested += 1
        name = f"s{self.requested}"
        kernels = 1 + number // 2 % 3
        spec = SessionSpec(
            session_type=(SessionType.INTERACTIVE, SessionType.BATCH)[number // 6 % 2],
            image="fake",
            slots=SLOTS[number // 12 % len(SLOTS)] if number % 5 else {"cpu": 1000},
            environ={"TOKEN": "c2VhbGVk"} if number % 2 else {},
            startup_command="true",
            cluster_mode=(ClusterMode.SINGLE_NODE, ClusterMode.MULTI_NODE)[number // 72 % 2],
            cell=CELL,
        )
        seats = [
            Seat(kernel_id=KernelId(f"{name}-k{n}"), role="sub" if n else "main", index=n or 1) for n in range(kernels)
        ]
        self.by_user(
            RequestSession(
                at=self.now,
                owner=OWNERS[number % 2],
                session_id=SessionId(name),
                name=name,
                spec=spec,
                kernels=tuple(seats),
            )
        )

    def change(self, number: int) -> None:
        owner = OWNERS[number % 2]
        sessions: Sessions = self.states["session", owner]
        if not sessions.living:
            return
        living = sorted(sessions.living)
        one: Any = {"at": self.now, "owner": owner, "session_id": living[number // 2 % len(living)]}
        number = number // 2 // len(living)
        changes: list[Command] = [
            TerminateSession(**one),
            TerminateSession(**one),
            RestartSession(**one),
            CancelSession(**one),
            TerminateSession(**one, forced=True),
            RenameSession(**one, name=f"n{number}"),
        ]
        self.by_user(changes[number % len(changes)])

    def by_user(self, command: Command) -> None:
        self.send(f"user/{command.key}", "session", command)

    def change_limits(self, number: int) -> None:
        limits = Limits(
            max_concurrent_sessions=4, max_kernels_per_session=3, max_lifetime_seconds=3600 * (number // 4 % 2)
        )
        self.set_limits(OWNERS[number % 2], None if number // 2 % 4 == 3 else limits)

    def set_limits(self, owner: AccessKey, limits: Limits | None) -> None:
        self.send("directory", "session", SetSessionLimits(at=self.now, owner=owner, limits=limits))

    def pass_time(self, number: int) -> None:
        """The next deadline comes, or just a moment goes by."""
        due = sorted((alarm.due, place, alarm) for place, alarm in self.alarms.items() if alarm.due and alarm.command)
        if not due or number % 4:
            self.now += timedelta(seconds=10)
            return
        when, (name, subject), alarm = due[0]
        self.now = max(self.now, when)
        del self.alarms[name, subject]
        assert alarm.command is not None
        self.send(f"clock/{subject}", name, alarm.command)

    def change_a_host(self, number: int) -> None:
        which, number = number % len(AGENTS), number // len(AGENTS)
        agent_id = AGENTS[which]
        host = self.hosts.get(agent_id)
        about: dict[str, Any] = {"at": self.now, "cell": CELL, "agent_id": agent_id}
        match number % 8:
            case 0 if host is not None and not host.cut_off:
                host.cut_off = True
                self.send("heartbeats", "scheduling", MarkAgentLost(**about, incarnation=host.incarnation))
            case 1 | 2 | 3 if host is not None and host.cut_off:
                self.reconnect(host)
            case 4 if number // 8 % 4 == 0 and host is not None:
                self.send(agent_id, "scheduling", RetireAgent(**about, incarnation=host.incarnation))
            case 5 | 6:
                self.register(which, smaller=bool(number // 8 % 2))
            case 7 if number // 8 % 2:
                self.send("operator", "scheduling", RemoveAgent(**about))
                if number // 16 % 2 and host is not None:  # truly gone; otherwise the operator was wrong
                    host.lose_everything()
            case 7:
                kind = ExcludeAgent if number // 16 % 2 else IncludeAgent
                self.send("operator", "scheduling", kind(**about))
            case _:
                pass

    def reconnect(self, host: Host) -> None:
        host.cut_off = False
        found = MarkAgentFound(at=self.now, cell=CELL, agent_id=host.agent_id, incarnation=host.incarnation)
        self.send("heartbeats", "scheduling", found)

    def register(self, number: int, *, smaller: bool = False) -> None:
        """The agent program of a host (re)starts and says what runs there."""
        host = self.hosts.setdefault(AGENTS[number], Host(AGENTS[number]))
        host.incarnation += 1
        registration = RegisterAgent(
            at=self.now,
            cell=CELL,
            agent_id=host.agent_id,
            incarnation=host.incarnation,
            profile=profile(number + 3 * smaller),
            kernels=tuple(host.inventory()),
        )
        self.send(host.agent_id, "scheduling", registration)

    # -- the end -------------------------------------------------------------------------------------------------------

    def deliver_all(self) -> None:
        while channels := self.open_channels():
            self.deliver(channels[0])

    def settle(self) -> None:
        """Every host can be reached and does all it was told, every message arrives, every deadline comes."""
        for number in range(len(AGENTS)):
            self.register(number)
        for host in self.hosts.values():
            self.reconnect(host)
        for _ in range(1000):
            self.deliver_all()
            for host in self.hosts.values():
                self._send_reports(host, host.finish(self.now))
            if self.open_channels():
                continue
            if not any(alarm.due and alarm.command for alarm in self.alarms.values()):
                break
            self.pass_time(0)
        else:
            raise AssertionError("the cluster does not come to rest")
        self.ledger.check()

    def end_all_sessions(self) -> None:
        for owner in OWNERS:
            for session_id in sorted(self.states["session", owner].living):
                self.by_user(TerminateSession(at=self.now, owner=owner, session_id=session_id))
        self.settle()


_Action = Callable[[World, int], None]
_ACTIONS: list[_Action] = [
    *[World.deliver_some] * 10,
    *[World.let_a_host_work] * 10,
    *[World.request] * 2,
    *[World.change] * 2,
    World.pass_time,
    World.change_a_host,
    World.change_limits,
]
"""Each as often as it is likely."""
