"""What a keypair may still ask for: its policy, project and domain say how much, the agents how much is there. Pure.

An amount is a whole number as in `domain.slots`, or `NO_LIMIT`.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from domain.directory.messages.groups import PresetSpec
from domain.directory.messages.policies import KeypairPolicySpec, Unspecified
from domain.directory.state import Directory, PresetKey
from domain.slots import Slots, show
from projections.capacity import Capacity

NO_LIMIT: Final = math.inf
INTRINSIC: Final = frozenset({"cpu", "mem"})

Limited = Mapping[str, float]
"""Slot → amount or `NO_LIMIT`."""


@dataclass(frozen=True, slots=True)
class Situation:
    """What is allowed, what is there, and the resource groups that may be used."""

    keypair_policy: KeypairPolicySpec
    project_total: Slots
    domain_total: Slots
    capacity: Capacity
    groups: Sequence[str]
    presets: Mapping[PresetKey, PresetSpec]


def check_presets(now: Situation) -> dict[str, Any]:
    """The answer to `POST /resource/check-presets`."""
    there = now.capacity
    slots = sorted(there.slots | INTRINSIC)
    policy = now.keypair_policy
    unspecified = NO_LIMIT if policy.default_for_unspecified is Unspecified.UNLIMITED else 0
    limits = {slot: policy.total_resource_slots.get(slot, unspecified) for slot in slots}
    project_limits = {slot: now.project_total.get(slot, NO_LIMIT) for slot in slots}
    domain_limits = {slot: now.domain_total.get(slot, NO_LIMIT) for slot in slots}
    project_left = _left(project_limits, there.held.project)
    left = _least(_left(limits, there.held.keypair), project_left, _left(domain_limits, there.held.domain))
    free = {group: _sum(slots, [each for of, each in there.free if of == group]) for group in now.groups}
    return {
        "keypair_limits": shown(limits),
        "keypair_using": shown(_only(slots, there.held.keypair)),
        "keypair_remaining": shown(left),
        "group_limits": shown(project_limits),
        "group_using": shown(_only(slots, there.held.project)),
        "group_remaining": shown(project_left),
        "scaling_group_remaining": shown(_least(left, _sum(slots, free.values()))),
        "scaling_groups": {
            group: {
                "using": shown(_only(slots, there.held_by_group.get(group, {}))),
                "remaining": shown(_least(left, free[group])),
            }
            for group in now.groups
        },
        "presets": [
            {**preset(name, spec, there.slots), "allocatable": _is_allocatable(of, spec, left, now)}
            for (of, name), spec in in_order(now.presets, now.groups)
        ],
    }


def in_order(presets: Mapping[PresetKey, PresetSpec], groups: Sequence[str]) -> list[tuple[PresetKey, PresetSpec]]:
    """Those of all resource groups and those of some, by name."""
    found = [(key, spec) for key, spec in presets.items() if key[0] is None or key[0] in groups]
    return sorted(found, key=lambda each: (each[0][1], each[0][0] or ""))


def preset(name: str, spec: PresetSpec, slots: frozenset[str]) -> dict[str, Any]:
    """As clients read it, without slots that this cluster does not have."""
    known = slots | INTRINSIC
    return {
        "name": name,
        "resource_slots": show({slot: units for slot, units in spec.resource_slots.items() if slot in known}),
        "shared_memory": None if spec.shared_memory is None else str(spec.shared_memory),
    }


def shown(amounts: Limited) -> dict[str, str]:
    """As text; without a limit it is `Infinity`."""
    finite = show({slot: int(units) for slot, units in amounts.items() if units != NO_LIMIT})
    return {slot: finite.get(slot, "Infinity") for slot in amounts}


def groups_of(domain: str, access_key: str, directory: Directory) -> list[str]:
    """The resource groups a keypair may use in any of its user's projects, by name."""
    identity = directory.identity(access_key)
    projects = () if identity is None else identity.user.projects
    found = {name for each in (None, *projects) for name in directory.groups_for(domain, each, access_key)}
    return sorted(found)


def _is_allocatable(group: str | None, spec: PresetSpec, left: Limited, now: Situation) -> bool:
    """Whether one agent has room for it, and the limits too."""
    wanted = {slot: units for slot, units in spec.resource_slots.items() if slot in left}
    return all(units <= left[slot] for slot, units in wanted.items()) and any(
        all(units <= free.get(slot, 0) for slot, units in wanted.items())
        for of, free in now.capacity.free
        if of in now.groups and group in (None, of)
    )


def _left(limits: Limited, held: Slots) -> Limited:
    return {slot: max(0, limit - held.get(slot, 0)) for slot, limit in limits.items()}


def _least(first: Limited, *others: Limited) -> Limited:
    return {slot: min(units, *(other[slot] for other in others)) for slot, units in first.items()}


def _sum(slots: Iterable[str], amounts: Iterable[Limited]) -> Limited:
    known = list(amounts)
    return {slot: sum(max(0, each.get(slot, 0)) for each in known) for slot in slots}


def _only(slots: Iterable[str], amounts: Slots) -> Limited:
    return {slot: amounts.get(slot, 0) for slot in slots}
