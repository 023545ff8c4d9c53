"""Freezes a history of today's shapes: `python -m tests.domain.recording NAME [CONTEXT…]`, once for each release that
changed one, of those contexts.

A file that stands is never written again: what was released is what has to be read.
"""

import json
import sys
from pathlib import Path
from random import Random
from typing import Any

from domain.contexts import CONTEXTS
from domain.directory.consequences import DIRECTORY
from domain.directory.messages.cluster import ManagerStatus
from domain.directory.state import Directory
from domain.messages import Event
from domain.scheduling.messages import ExcludeAgent, IncludeAgent
from domain.scheduling.state import Cell
from domain.session.state import Sessions
from domain.vfolder.state import Folders
from tests.domain import folders, people
from tests.domain.folder_world import FolderWorld
from tests.domain.world import AGENTS, CELL, World

FOLDER = Path(__file__).parent / "histories"
SEED, STEPS = 2403, 175
"""A life in which every event of the sessions and of the scheduler happens; found by trying."""


def facts(state: Any) -> Any:
    """What a history comes to, said so plainly that it means the same whatever the state is made of."""
    match state:
        case Sessions():
            return {
                "living": {each.name: [each.status, each.attempt] for each in state.living.values()},
                "unconfirmed": sorted(f"{kernel_id}/{number}" for kernel_id, number in state.unconfirmed),
                "limits": state.limits and state.limits.max_concurrent_sessions,
            }
        case Cell():
            agents = [agent for group in state.groups.values() for agent in group.agents.values()]
            return {
                "agents": {agent.agent_id: [agent.standing, dict(agent.free), agent.excluded] for agent in agents},
                "waiting": sorted(f"{session_id}/{attempt}" for session_id, attempt in state.demands),
                "placed": sorted(f"{session_id}/{attempt}" for session_id, attempt in state.grants),
            }
        case Folders():
            return {
                "folders": {
                    folder.name: [folder.status, folder.used_bytes, sorted(folder.members), sorted(folder.mounts)]
                    for folder in state.folders.values()
                },
                "names": sorted(state.names),
                "invited": sorted(f"{each.invitee} {each.permission}" for each in state.invitations.values()),
                "received": sorted(f"{each.name} {each.accepted}" for each in state.received.values()),
                "joined": {each.name: each.folder.scope for each in state.joined.values()},
                "quotas": dict(state.quotas),
                "may have": state.limits and state.limits.max_folders,
            }
        case Directory():
            return {
                "users": {user.email: [user.active, list(user.projects)] for user in state.users.values()},
                "may start": {key: state.limits(key) is not None for key in state.keypairs},
                "groups": sorted(state.groups),
                "projects": sorted(f"{each.domain}/{each.name}" for each in state.projects.values()),
                "frozen": state.manager_status is ManagerStatus.FROZEN,
                "registries": sorted(state.registries),
                "images": sorted("/".join(key) for key in state.images),
                "tasks": {task.task_id: task.end for task in state.tasks.values()},
            }


def _lives() -> dict[str, list[tuple[str, Event]]]:
    world, random = World(), Random(SEED)
    for _ in range(STEPS):
        world.step(random.getrandbits(20))
    world.register(0)
    for kind in (ExcludeAgent, IncludeAgent):  # which chance brings too seldom
        world.send("operator", "scheduling", kind(at=world.now, cell=CELL, agent_id=AGENTS[0]))
    world.deliver_all()
    lives = {
        name: [(key, event) for (context, key), events in world.history.items() if context == name for event in events]
        for name in ("session", "scheduling")
    }
    owners = FolderWorld()
    for told_to_folders in folders.life:
        owners.send("story", told_to_folders)
        owners.deliver_all()
    lives["vfolder"] = [(scope, event) for scope, events in owners.history.items() for event in events]
    given, told = people.nobody, list[Event]()
    for command in people.life:
        told += given.when(command).events
        given = given.and_when(command)
    return lives | {"directory": [(DIRECTORY.name, event) for event in told]}


def main(name: str, *contexts: str) -> None:
    for context, told in _lives().items():
        if contexts and context not in contexts:
            continue
        lines = [
            {"key": key, "type": type(event).__name__, "version": event.version, "data": event.model_dump(mode="json")}
            for key, event in told
        ]
        states: dict[str, Any] = {}
        for key, event in told:
            states[key] = CONTEXTS[context].evolve(states.get(key, CONTEXTS[context].empty), event)
        outcome = json.dumps({key: facts(state) for key, state in states.items()})
        events = ",\n".join(json.dumps(line) for line in lines)
        with (FOLDER / f"{name}-{context}.json").open("x") as file:
            file.write(f'{{"context": "{context}", "facts": {outcome}, "events": [\n{events}\n]}}\n')


if __name__ == "__main__":
    main(*sys.argv[1:])
