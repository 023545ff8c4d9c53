"""An independent judge of an installation: reads only the log, the fake runtime's own records and the disk of a volume,
and nothing of Refold's decisions.

It knows the formats (headers, JSON) and the promises, and shares no code with the deciders, folds or shards it judges;
even the chain is computed here once more.
"""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from infra.log import Log, Partition, Record, read_until

CONTEXTS = ("session", "scheduling", "directory", "vfolder")


@dataclass
class Findings:
    """What is wrong, sorted by the promise it breaks; nothing when all is well."""

    broken: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def add(self, promise: str, what: str) -> None:
        self.broken[promise].append(what)

    def __bool__(self) -> bool:
        return bool(self.broken)

    def __str__(self) -> str:
        return "\n".join(
            f"{promise}: {len(found)}, e.g. {'; '.join(found[:3])}" for promise, found in self.broken.items()
        )


@dataclass(frozen=True)
class World:
    """Everything that is judged: records by topic (without prefix), what clients were told, what ran."""

    commands: Mapping[str, Sequence[Record]]
    events: Mapping[str, Sequence[Record]]
    acknowledged: Iterable[str]
    """Ids of commands whose senders were told that they are accepted."""
    starts: Sequence[Mapping[str, Any]] = ()
    """Lines of the fake runtimes' starts.jsonl."""
    folders: frozenset[str] | None = None
    """Ids of what lies on the volume, without dashes; None where there is none."""


async def read_world(
    log: Log,
    prefix: str,
    partitions: int,
    acknowledged: Iterable[str],
    runtimes: Iterable[Path],
    volume: Path | None = None,
) -> World:
    async def all_of(topic: str) -> list[Record]:
        places = [Partition(prefix + topic, number) for number in range(partitions)]
        ends = await log.ends(places)
        found = [r async for batch in read_until(log, await log.starts(places), ends) for r in batch]
        return sorted(found, key=lambda record: (record.partition.number, record.offset))

    return World(
        commands={context: await all_of(f"{context}.commands") for context in CONTEXTS},
        events={context: await all_of(f"{context}.events") for context in CONTEXTS},
        acknowledged=acknowledged,
        starts=[
            json.loads(line)
            for folder in runtimes
            if (folder / "starts.jsonl").exists()
            for line in (folder / "starts.jsonl").read_text().splitlines()
        ],
        folders=None if volume is None else _folders_of(volume),
    )


def _folders_of(volume: Path) -> frozenset[str]:
    return frozenset("".join(path.parts[-3:]) for path in volume.glob("??/??/*"))


def judge(world: World, *, all_ended: bool = True) -> Findings:
    """Every promise that can be judged from the outside. `all_ended`: sessions had the time to come to their end."""
    findings = Findings()
    for context in CONTEXTS:
        _one_outcome_each(context, world, findings)
        _chain_intact(context, world.events[context], findings)
    if "the chain is intact" in findings.broken:
        return findings  # what a changed log says about sessions means nothing
    _acknowledged_is_there(world, findings)
    _sessions_live_once(world, findings, all_ended=all_ended)
    _kernels_run_once(world, findings)
    _capacity_conserved(world, findings, all_ended=all_ended)
    _folders_on_disk(world, findings)
    return findings


def _one_outcome_each(context: str, world: World, findings: Findings) -> None:
    outcomes: dict[tuple[int, int], list[str]] = defaultdict(list)
    for record in world.events[context]:
        offset = record.header("ce_commandoffset")
        if offset is not None:
            outcomes[record.partition.number, int(offset)].append(record.header("ce_outcome") or "")
    given = {(record.partition.number, record.offset) for record in world.commands[context]}
    for place in given:
        parts = outcomes.pop(place, [])
        if not parts:
            findings.add("a command has an outcome", f"{context} {place} has none")
            continue
        count = int(parts[0].partition("/")[2])
        if parts != [f"{index}/{count}" for index in range(count)]:
            findings.add("a command has one outcome", f"{context} {place} has {parts}")
    for place in outcomes:
        findings.add("an outcome has a command", f"{context} {place}")


def _chain_intact(context: str, events: Sequence[Record], findings: Findings) -> None:
    links: dict[int, bytes] = {}
    for record in events:
        pieces = [links.get(record.partition.number, bytes(32)), record.key]
        for name, value in sorted(record.headers):
            if name != "ce_chain":
                pieces += [name.encode(), value]
        pieces.append(record.value)
        sha = hashlib.sha256()
        for piece in pieces:
            sha.update(len(piece).to_bytes(8, "big") + piece)
        links[record.partition.number] = sha.digest()
        stated = record.header("ce_chain")
        if stated != sha.hexdigest() and (stated is not None or record.header("ce_type") != "ShardOpened"):
            findings.add("the chain is intact", f"{context} {record.partition} offset {record.offset}")


def _acknowledged_is_there(world: World, findings: Findings) -> None:
    there = {record.header("ce_id") for records in world.commands.values() for record in records}
    for command_id in world.acknowledged:
        if command_id not in there:
            findings.add("what was acknowledged is in the log", command_id)


def _sessions_live_once(world: World, findings: Findings, *, all_ended: bool) -> None:
    requested: Counter[str] = Counter()
    ended: Counter[str] = Counter()
    for record in world.events["session"]:
        kind, session = record.header("ce_type"), record.header("ce_subject") or ""
        if kind == "SessionRequested":
            requested[session] += 1
        elif kind == "SessionEnded":
            ended[session] += 1
        elif ended[session] and kind in {"SessionScheduled", "SessionAdvanced", "KernelStarted"}:
            findings.add("an ended session stays ended", f"{session} has {kind} after its end")
    for session, times in requested.items():
        if times > 1:
            findings.add("a session is requested once", session)
        if ended[session] > 1:
            findings.add("a session ends once", session)
        if all_ended and not ended[session]:
            findings.add("no session is stuck", session)


def _kernels_run_once(world: World, findings: Findings) -> None:
    starts = Counter((line["kernel_id"], line["incarnation"]) for line in world.starts)
    for (kernel, incarnation), times in starts.items():
        if times > 1:
            findings.add("a kernel runs once", f"{kernel} incarnation {incarnation} started {times} times")
    over: set[tuple[str, int]] = set()
    begun: Counter[str] = Counter()
    kernels: dict[str, list[str]] = {}
    for record in world.events["session"]:
        kind, event = record.header("ce_type"), json.loads(record.value)
        if kind == "SessionRequested":
            kernels[event["session_id"]] = [seat["kernel_id"] for seat in event["kernels"]]
        elif kind == "KernelEnded":
            over.add((event["kernel_id"], event["incarnation"]))
        elif kind == "SessionScheduled":
            for kernel in kernels[event["session_id"]]:
                if begun[kernel] and (kernel, begun[kernel]) not in over:
                    findings.add(
                        "a kernel runs once", f"{kernel} placed again before incarnation {begun[kernel]} ended"
                    )
                begun[kernel] += 1
        elif kind == "SessionRestarted":  # the agent ends the incarnation before it starts the next
            begun.update(kernels[event["session_id"]])


def _capacity_conserved(world: World, findings: Findings, *, all_ended: bool) -> None:
    """Nothing is given twice: sums of what was placed and not released, against what the agent has."""
    capacity: dict[str, Counter[str]] = {}
    claims: dict[tuple[str, int], dict[str, int]] = {}
    held: dict[tuple[str, int, str], tuple[str, Counter[str]]] = {}
    used: dict[str, Counter[str]] = defaultdict(Counter)
    for record in world.events["scheduling"]:
        kind, event = record.header("ce_type"), json.loads(record.value)
        if kind == "AgentRegistered":
            capacity[event["agent_id"]] = _amounts(event["profile"]["slots"], event["profile"]["devices"])
        elif kind == "PlacementDemanded":
            claims[event["session_id"], event["attempt"]] = event["claim"]["slots"]
        elif kind == "PlacementDecided":
            for placement in event["placements"]:
                agent = placement["agent_id"]
                amounts = _amounts(claims[event["session_id"], event["attempt"]], placement["devices"])
                held[event["session_id"], event["attempt"], placement["kernel_id"]] = (agent, amounts)
                used[agent].update(amounts)
                for name, units in used[agent].items():
                    if units > capacity[agent][name]:
                        findings.add("capacity is never exceeded", f"{agent} {name} at offset {record.offset}")
        elif kind in {"CapacityReleased", "DemandWithdrawn"}:
            attempt = (event["session_id"], event["attempt"])
            for key in [k for k in held if k[:2] == attempt and event.get("kernel_id", k[2]) == k[2]]:
                agent, amounts = held.pop(key)
                used[agent].subtract(amounts)
    if all_ended:
        for key in held:
            findings.add("capacity comes back", f"{key} is still held")


def _folders_on_disk(world: World, findings: Findings) -> None:
    """What was made and not purged lies there, and nothing else; whatever was begun has come to its end."""
    if world.folders is None:
        return
    ready: set[str] = set()
    begun: set[str] = set()
    for record in world.events["vfolder"]:
        kind, folder = record.header("ce_type"), (record.header("ce_subject") or "").replace("-", "")
        match kind:
            case "FolderCreated" | "FolderPurging":
                begun.add(folder)
            case "FolderReady":
                ready.add(folder)
                begun.discard(folder)
            case "FolderPurged":
                ready.discard(folder)
                begun.discard(folder)
            case "FolderFailed":
                begun.discard(folder)
    for promise, found in (
        ("a folder of the log is on the disk", ready - world.folders),
        ("a folder on the disk is in the log", world.folders - ready),
        ("no folder is stuck", begun),
    ):
        for folder in sorted(found):
            findings.add(promise, folder)


def _amounts(slots: Mapping[str, int], devices: Mapping[str, Mapping[str, int]]) -> Counter[str]:
    """Units by slot, and by single device."""
    amounts = Counter(slots)
    for slot, by_device in devices.items():
        for device, units in by_device.items():
            amounts[f"{slot} {device}"] += units
    return amounts
