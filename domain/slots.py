"""Amounts of resources, as whole numbers.

A slot is named `<device>` or `<device>.<kind>`: `cpu`, `mem`, `cuda.device`, `cuda.shares`. Bytes (`mem`) are
counted in bytes, everything else in thousandths, so that half a GPU and a quarter of a core are whole numbers too and
no sum ever drifts. What people read and write is text: `parse` and `show`.
"""

import re
from collections.abc import Mapping
from decimal import Decimal, DecimalException, InvalidOperation
from typing import Annotated

from pydantic import Field

from domain.messages import Refused

_NAME = re.compile(r"[a-z][a-z0-9_-]*(\.[a-z0-9_-]+)?")
_BYTES = re.compile(r"(?P<number>\d+(?:\.\d+)?)(?P<unit>[kmgtpezy]?)(?:i?b)?", re.IGNORECASE)
_SCALE: dict[str, int] = {unit: 1024**power for power, unit in enumerate(["", *"kmgtpezy"])}
_LARGEST = 2**63 - 1  # what a bigint column holds

Slots = Mapping[str, int]
"""Slot name → amount, in bytes or thousandths."""

SlotName = Annotated[str, Field(pattern=rf"^{_NAME.pattern}$", max_length=64)]
Amount = Annotated[int, Field(ge=0, le=_LARGEST)]
Amounts = dict[SlotName, Amount]
"""`Slots` as a field of a message: what is asked for, or is there, is never less than nothing."""

WHOLE = 1000
"""Units of one device that is given as a whole."""


def is_bytes(name: str) -> bool:
    """Whether amounts of this slot are bytes."""
    return name == "mem"


def is_whole(name: str) -> bool:
    """Whether it counts things that go to one kernel as a whole: `cuda.device`, but not `cuda.shares` or `cpu`."""
    return "." in name and not name.endswith(".shares")


def parse(amounts: Mapping[str, str | int | float], field: str = "slots") -> dict[str, int]:
    """Read amounts as people write them: `{"cpu": "0.5", "mem": "512m"}` → `{"cpu": 500, "mem": 536870912}`.

    Raises `Refused("bad_slots")` naming the entry at fault.
    """
    return {name: _amount(name, str(text), f"{field}.{name}") for name, text in amounts.items()}


def show(slots: Slots) -> dict[str, str]:
    """Amounts as unscaled decimal text: `{"cpu": "0.5", "mem": "536870912"}`."""
    return {name: str(units) if is_bytes(name) else _decimal(units) for name, units in slots.items()}


def total(amounts: "list[Slots] | tuple[Slots, ...]") -> dict[str, int]:
    """The sum by slot."""
    summed: dict[str, int] = {}
    for slots in amounts:
        for name, units in slots.items():
            summed[name] = summed.get(name, 0) + units
    return summed


def plus(slots: Slots, more: Slots) -> dict[str, int]:
    """The sum of two; slots that only one of them names included."""
    return {name: slots.get(name, 0) + more.get(name, 0) for name in (*slots, *(n for n in more if n not in slots))}


def minus(slots: Slots, less: Slots) -> dict[str, int]:
    """The difference; may go below zero."""
    return {name: slots.get(name, 0) - less.get(name, 0) for name in (*slots, *(n for n in less if n not in slots))}


def lacking(wanted: Slots, free: Slots) -> dict[str, int]:
    """What is missing of `wanted`, by slot; empty when it fits."""
    return {name: units - free.get(name, 0) for name, units in wanted.items() if units > free.get(name, 0)}


def _amount(name: str, text: str, field: str) -> int:
    if not _NAME.fullmatch(name):
        raise Refused("bad_slots", f"{name!r} is no slot name", field)
    try:
        units = _byte_units(text) if is_bytes(name) else Decimal(text) * 1000
    except DecimalException:  # not only InvalidOperation: `1e999999` overflows
        raise Refused("bad_slots", f"{text!r} is no amount of {name}", field) from None
    if not units.is_finite() or not 0 <= units <= _LARGEST or units != int(units):
        raise Refused("bad_slots", f"{text!r} is not a possible amount of {name}", field)
    return int(units)


def _byte_units(text: str) -> Decimal:
    match = _BYTES.fullmatch(text.strip())
    if match is None:
        raise InvalidOperation
    amount: Decimal = Decimal(match["number"]) * _SCALE[match["unit"].lower()]
    return amount.to_integral_value()


def _decimal(thousandths: int) -> str:
    return format((Decimal(thousandths) / 1000).normalize(), "f")
