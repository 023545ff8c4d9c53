"""Old shapes are read for ever. The shapes here are made up: none has changed yet."""

from collections.abc import Sequence
from typing import Literal

import pytest

from domain.messages import Command, Event, Message, Order
from domain.upcasting import STEPS, Shape, Steps, UnknownVersion, Upcaster, current_version, lift


def _gpus_became_slots(data: Shape) -> Shape:
    gpus = data.pop("gpus")
    return data | {"slots": {"cuda.device": gpus * 1000}}


def _owner_was_added(data: Shape) -> Shape:
    return {"owner": "unknown"} | data


MADE_UP: Steps = {"ThingAsked": (_gpus_became_slots, _owner_was_added)}


class ThingAsked(Event):
    version = 3

    type: Literal["ThingAsked"] = "ThingAsked"
    owner: str
    slots: dict[str, int]


@pytest.mark.parametrize(
    ("version", "data"),
    [
        (1, {"gpus": 2}),
        (2, {"slots": {"cuda.device": 2000}}),
        (3, {"slots": {"cuda.device": 2000}, "owner": "unknown"}),
    ],
)
def test_every_older_shape_is_read_as_todays(version: int, data: Shape) -> None:
    said = {"type": "ThingAsked", "at": "2026-01-01T00:00:00Z"} | data
    assert current_version("ThingAsked", MADE_UP) == ThingAsked.version
    thing = ThingAsked.model_validate(lift("ThingAsked", version, said, MADE_UP))
    assert (thing.owner, thing.slots) == ("unknown", {"cuda.device": 2000})


@pytest.mark.parametrize("version", [0, -1, 4])
def test_a_shape_nobody_knows_is_said_to_be_so(version: int) -> None:
    with pytest.raises(UnknownVersion):
        lift("ThingAsked", version, {}, MADE_UP)


def test_what_never_changed_is_read_as_it_is() -> None:
    assert lift("SessionRequested", 1, {"a": 1}) == {"a": 1}


def _all_messages(base: type[Message]) -> list[type[Message]]:
    return [each for sub in base.__subclasses__() for each in (sub, *_all_messages(sub))]


def test_every_class_of_a_higher_version_has_all_its_steps() -> None:
    for each in [cls for base in (Command, Event, Order) for cls in _all_messages(base)]:
        if each.__module__.startswith("domain."):
            assert each.version == current_version(each.__name__), each
    steps: Sequence[Upcaster]
    for steps in STEPS.values():
        assert steps
