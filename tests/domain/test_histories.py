"""Every event shape that was ever released is read and folded, and means what it meant."""

import json
from pathlib import Path
from typing import Any, get_args

import pytest

from domain.contexts import CONTEXTS
from domain.directory.messages import DirectoryEvents
from domain.scheduling.messages import SchedulingEvents
from domain.session.messages import SessionEvents
from domain.upcasting import lift
from domain.vfolder.messages import FolderEvents
from tests.domain.recording import FOLDER, facts

FILES = sorted(FOLDER.glob("*.json"))


def _read(path: Path) -> dict[str, Any]:
    history: dict[str, Any] = json.loads(path.read_text())
    return history


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_frozen_history_is_folded_to_what_it_meant(path: Path) -> None:
    history = _read(path)
    context = CONTEXTS[history["context"]]
    states: dict[str, Any] = {}
    for line in history["events"]:
        shape = lift(line["type"], line["version"], line["data"])
        event = context.events.validate_json(json.dumps(shape))
        states[line["key"]] = context.evolve(states.get(line["key"], context.empty), event)
    outcome = {key: facts(state) for key, state in states.items()}
    assert json.loads(json.dumps(outcome)) == history["facts"]


@pytest.mark.parametrize("union", [SessionEvents, SchedulingEvents, DirectoryEvents, FolderEvents])
def test_every_event_there_is_happens_in_some_history(union: Any) -> None:
    classes = {(each.__name__, each.version) for each in get_args(get_args(union)[0])}
    seen = {(line["type"], line["version"]) for path in FILES for line in _read(path)["events"]}
    assert not classes - seen, "record one: python -m tests.domain.recording NAME"
