"""Amounts: read as people write them, kept as whole numbers, shown again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from domain.messages import Refused
from domain.slots import Amounts, is_whole, lacking, minus, parse, plus, show, total

names = st.sampled_from(["cpu", "mem", "cuda.device", "cuda.shares"])
slots = st.dictionaries(names, st.integers(0, 2**63 - 1))


@pytest.mark.parametrize(
    ("name", "text", "units"),
    [
        ("cpu", "1", 1000),
        ("cpu", "0.5", 500),
        ("cpu", 2, 2000),
        ("cpu", 0.25, 250),
        ("cuda.shares", "1e-3", 1),
        ("mem", "512m", 512 << 20),
        ("mem", "1.5g", 3 << 29),
        ("mem", "16GiB", 16 << 30),
        ("mem", "1024", 1024),
        ("mem", 1073741824, 1 << 30),
        ("mem", "2tb", 2 << 40),
    ],
)
def test_amounts_are_read_as_people_write_them(name: str, text: str | int | float, units: int) -> None:
    assert parse({name: text}) == {name: units}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("cpu", "-1"),
        ("cpu", "0.0001"),
        ("cpu", "many"),
        ("cpu", "NaN"),
        ("cpu", "sNaN"),
        ("cpu", "Infinity"),
        ("cpu", "1e999999"),
        ("cpu", "1e999990"),
        ("cpu", ""),
        ("mem", "1x"),
        ("mem", "-1g"),
        ("mem", "9" * 40),
        ("mem", ""),
        ("CPU", "1"),
        ("cuda.", "1"),
        ("a.b.c", "1"),
    ],
)
def test_an_impossible_amount_is_refused_and_its_field_named(name: str, text: str) -> None:
    with pytest.raises(Refused) as refused:
        parse({"cpu": "1", name: text}, field="config.resources")
    assert (refused.value.code, refused.value.field) == ("bad_slots", f"config.resources.{name}")


@given(slots)
def test_what_is_shown_is_read_as_the_same(amounts: dict[str, int]) -> None:
    assert parse(show(amounts)) == amounts


def test_amounts_are_shown_without_a_scale() -> None:
    assert show({"cpu": 500, "mem": 512 << 20, "cuda.device": 2000}) == {
        "cpu": "0.5",
        "mem": "536870912",
        "cuda.device": "2",
    }
    assert show({"cpu": 0, "cuda.shares": 10000}) == {"cpu": "0", "cuda.shares": "10"}


@given(slots, slots)
def test_taking_away_what_was_added_leaves_what_was_there(some: dict[str, int], more: dict[str, int]) -> None:
    assert {name: units for name, units in minus(plus(some, more), more).items() if name in some} == some
    assert plus(some, more) == total([some, more])


@given(slots, slots)
def test_what_lacks_nothing_fits(wanted: dict[str, int], free: dict[str, int]) -> None:
    fits = all(units <= free.get(name, 0) for name, units in wanted.items())
    assert fits is not bool(lacking(wanted, free))
    assert not lacking(wanted, plus(free, lacking(wanted, free)))


@pytest.mark.parametrize("bad", [{"cpu": -1}, {"cpu": 2**63}, {"no slot": 1}, {"cpu": 0.5}])
def test_a_message_cannot_ask_for_less_than_nothing(bad: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Amounts).validate_python(bad)


def test_devices_are_whole_and_shares_are_not() -> None:
    assert [name for name in ("cpu", "mem", "cuda.device", "cuda.shares", "cuda.mig-1g") if is_whole(name)] == [
        "cuda.device",
        "cuda.mig-1g",
    ]
