"""An auditor: adds up by itself what the events say, and complains at the first that cannot be."""

from dataclasses import dataclass, field, replace

from domain.messages import AgentId, Event, KernelId, SessionId
from domain.scheduling.messages import (
    AgentProfile,
    AgentRegistered,
    AgentRemoved,
    CapacityReleased,
    Claim,
    DemandWithdrawn,
    Placement,
    PlacementDecided,
    PlacementDemanded,
)
from domain.session.messages import (
    KernelAdvanced,
    KernelEnded,
    KernelStarted,
    SessionAdvanced,
    SessionEnded,
    SessionRequested,
    SessionRescheduled,
    SessionRestarted,
    SessionScheduled,
)
from domain.session.status import TRANSITIONS, KernelStatus, Reason, SessionStatus, derive, may_follow
from domain.slots import is_whole

Slot = tuple[AgentId, str]
Device = tuple[AgentId, str, str]


@dataclass(frozen=True)
class Seen:
    """A kernel as its events tell it."""

    session_id: SessionId
    status: KernelStatus = KernelStatus.PENDING
    incarnation: int = 0


@dataclass
class Ledger:
    profiles: dict[AgentId, AgentProfile] = field(default_factory=dict)
    claims: dict[tuple[SessionId, int], Claim] = field(default_factory=dict)
    given: dict[tuple[SessionId, int, KernelId], Placement] = field(default_factory=dict)
    used: dict[Slot, int] = field(default_factory=dict)
    used_devices: dict[Device, int] = field(default_factory=dict)
    statuses: dict[SessionId, SessionStatus] = field(default_factory=dict)
    kernels: dict[KernelId, Seen] = field(default_factory=dict)
    given_up: set[tuple[KernelId, int]] = field(default_factory=set)
    """Ends that nobody has confirmed yet."""
    presumed: set[tuple[KernelId, int]] = field(default_factory=set)
    """All that may run on although it was written off: never confirmed, or on a host that was removed by mistake."""
    confirmed: set[tuple[KernelId, int]] = field(default_factory=set)
    numbers: dict[tuple[SessionId, int, KernelId], int] = field(default_factory=dict)
    """The last incarnation of each kernel in each attempt."""
    attempts: dict[SessionId, int] = field(default_factory=dict)

    def note(self, event: Event, key: str) -> None:
        match event:
            case AgentRegistered():
                self.profiles[event.agent_id] = event.profile
            case AgentRemoved():
                for each in [e for e, placement in self.given.items() if placement.agent_id == event.agent_id]:
                    self.presumed.add((each[2], self.numbers.get(each, 0)))
                    self._give_back(each)
            case PlacementDemanded():
                assert (event.session_id, event.attempt) not in self.claims, "demanded twice"
                self.claims[event.session_id, event.attempt] = event.claim
            case PlacementDecided():
                self._place(event)
            case CapacityReleased():
                place = (event.session_id, event.attempt, event.kernel_id)
                assert (event.kernel_id, self.numbers[place]) in self.confirmed, "free before it is known to be gone"
                self._give_back(place)
            case DemandWithdrawn():
                for each in [e for e in self.given if e[:2] == (event.session_id, event.attempt)]:
                    self._give_back(each)
            case SessionRequested():
                assert event.owner == key
                self.statuses[event.session_id] = SessionStatus.PENDING
                for seat in event.kernels:
                    self.kernels[seat.kernel_id] = Seen(event.session_id)
            case SessionScheduled():
                self.attempts[event.session_id] = event.attempt
                self._go(event.session_id, SessionStatus.SCHEDULED)
                for kernel_id, seen in self._of(event.session_id):
                    assert seen.status is KernelStatus.PENDING
                    self._start(kernel_id, seen, KernelStatus.SCHEDULED)
            case SessionRestarted():
                self._go(event.session_id, SessionStatus.RESTARTING)
                for kernel_id, seen in self._of(event.session_id):
                    self._start(kernel_id, seen, KernelStatus.RESTARTING)
            case SessionRescheduled():
                self._go(event.session_id, SessionStatus.PENDING)
                for kernel_id, seen in self._of(event.session_id):
                    assert seen.status in {KernelStatus.TERMINATED, KernelStatus.ERROR}, "something of it is left"
                    self.kernels[kernel_id] = replace(seen, status=KernelStatus.PENDING)
            case SessionAdvanced() | SessionEnded():
                self._go(event.session_id, event.status)
            case KernelAdvanced():
                self._advance(event, event.status)
            case KernelStarted():
                self._advance(event, KernelStatus.RUNNING)
            case KernelEnded():
                self._end(event)
            case _:
                pass

    def check(self) -> None:
        """What must hold after every decision: a session's status is what its kernels' say."""
        for session_id, status in self.statuses.items():
            kernels = [seen.status for _, seen in self._of(session_id)]
            assert derive(status, kernels) is status, f"{session_id} is {status}, its kernels {kernels}"
            ended = not TRANSITIONS[status]
            assert ended is all(not TRANSITIONS.get(SessionStatus(kernel.value), True) for kernel in kernels)

    # -- capacity ------------------------------------------------------------------------------------------------------

    def _place(self, event: PlacementDecided) -> None:
        claim = self.claims[event.session_id, event.attempt]
        assert sorted(p.kernel_id for p in event.placements) == sorted(claim.kernels), "not all kernels, or one twice"
        assert len({p.agent_id for p in event.placements}) == 1 or not claim.together
        for placement in event.placements:
            place = (event.session_id, event.attempt, placement.kernel_id)
            assert place not in self.given, "placed twice"
            self.given[place] = placement
            self._add(claim, placement, 1)
            profile = self.profiles[placement.agent_id]
            for slot, units in claim.slots.items():
                used = self.used.get((placement.agent_id, slot), 0)
                assert not units or used <= profile.slots.get(slot, 0), (
                    f"{placement.agent_id} is given out twice: {slot}"
                )
                if units and slot in profile.devices:
                    assert sum(placement.devices[slot].values()) == units
            for slot, devices in placement.devices.items():
                for device, units in devices.items():
                    assert units == 1000 or not is_whole(slot)
                    there = profile.devices[slot][device]
                    assert self.used_devices[placement.agent_id, slot, device] <= there, f"{device} is given out twice"

    def _give_back(self, place: tuple[SessionId, int, KernelId]) -> None:
        self._add(self.claims[place[:2]], self.given.pop(place), -1)

    def _add(self, claim: Claim, placement: Placement, sign: int) -> None:
        for slot, units in claim.slots.items():
            at = (placement.agent_id, slot)
            self.used[at] = self.used.get(at, 0) + sign * units
        for slot, devices in placement.devices.items():
            for device, units in devices.items():
                where = (placement.agent_id, slot, device)
                self.used_devices[where] = self.used_devices.get(where, 0) + sign * units

    # -- lives ---------------------------------------------------------------------------------------------------------

    def _of(self, session_id: SessionId) -> list[tuple[KernelId, Seen]]:
        return [(kernel_id, seen) for kernel_id, seen in self.kernels.items() if seen.session_id == session_id]

    def _go(self, session_id: SessionId, status: SessionStatus) -> None:
        before = self.statuses[session_id]
        assert status in TRANSITIONS[before], f"{before} → {status}"
        self.statuses[session_id] = status

    def _start(self, kernel_id: KernelId, seen: Seen, status: KernelStatus) -> None:
        self.kernels[kernel_id] = replace(seen, status=status, incarnation=seen.incarnation + 1)
        self.numbers[seen.session_id, self.attempts[seen.session_id], kernel_id] = seen.incarnation + 1

    def _advance(self, event: KernelAdvanced | KernelStarted, status: KernelStatus) -> None:
        seen = self.kernels[event.kernel_id]
        assert seen.incarnation == event.incarnation
        assert may_follow(seen.status, status), f"{seen.status} → {status}"
        self.kernels[event.kernel_id] = replace(seen, status=status)

    def _end(self, event: KernelEnded) -> None:
        seen = self.kernels[event.kernel_id]
        here = (event.kernel_id, event.incarnation)
        if event.status is KernelStatus.CANCELLED:
            assert seen.status is KernelStatus.PENDING
        elif here in self.given_up:
            assert event.confirmed
            self.given_up.discard(here)
            self.confirmed.add(here)
            return
        else:
            assert seen.incarnation == event.incarnation
            assert here not in self.confirmed, "ended twice"
            (self.confirmed if event.confirmed else self.given_up).add(here)
            if not event.confirmed or event.reason is Reason.AGENT_REMOVED:
                self.presumed.add(here)
        self.kernels[event.kernel_id] = replace(seen, status=event.status)
