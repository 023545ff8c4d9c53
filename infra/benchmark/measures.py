"""The single measurements. Each returns figures by flat key, units in the name (the README describes them)."""

import asyncio
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from uuid import uuid4

import orjson

from domain.contexts import CONTEXTS
from domain.messages import AccessKey, Command, SessionId
from domain.session.messages import (
    CancelSession,
    Limits,
    RequestSession,
    Seat,
    SessionSpec,
    SetSessionLimits,
)
from infra.benchmark.installation import ADMIN, ROOT, Installation
from infra.benchmark.load import Answer, Keypair, Load, Signer, quantile
from infra.kafka import KafkaLog
from infra.log import Log, Partition, Reader
from infra.postgres import Pool, open_pool
from infra.sending import Sender
from infra.topics import events

Figures = dict[str, float]
Say = Callable[[str], None]

_KEYPAIR = Keypair(ADMIN.access_key, ADMIN.secret_key)
_OWNERS = [AccessKey(f"AKIABENCH{number:011d}") for number in range(24)]  # enough to reach every partition


_LOOP_TURNS = 2_000_000


async def machine() -> Figures:
    """How fast this machine is at all: nanoseconds for one turn of a Python loop that adds, the best of five."""

    def turns() -> float:
        began, total = time.perf_counter(), 0
        for turn in range(_LOOP_TURNS):
            total += turn
        return time.perf_counter() - began

    return {"machine_loop_ns": min(turns() for _ in range(5)) / _LOOP_TURNS * 1e9}


async def shard_commands(here: Installation, count: int, say: Say) -> Figures:
    """Commands settled a second: `count` are there before a worker starts, half requests, half their cancellations,
    each of which leads to a command of the scheduling context that is settled by the same process."""
    async with KafkaLog(here.settings) as log:
        sender = Sender(here.settings, log, "bench")
        given = [("session", command, str(uuid4())) for command in _requests_and_cancellations(count)]
        for start in range(0, len(given), 1000):
            await sender.send_all(given[start : start + 1000], "bench")
        say(f"{len(given)} commands are in the log")
        await here.start("workers", "--part", "shards")
        seconds = await _outcomes(log, here, len(given))
        await _quiet(log, here)
    return {"shard_commands_per_second": len(given) / seconds}


def _requests_and_cancellations(count: int) -> list[Command]:
    now = datetime.now(UTC)
    limits = Limits(max_concurrent_sessions=10**6, max_kernels_per_session=1)
    commands: list[Command] = [SetSessionLimits(at=now, owner=owner, limits=limits) for owner in _OWNERS]
    spec = SessionSpec(image="bench/image", slots={"cpu": 1000, "mem": 2**28}, resource_group="nowhere")
    for number in range(count // 2):
        owner, session_id = _OWNERS[number % len(_OWNERS)], SessionId(str(uuid4()))
        seat = Seat.model_validate({"kernel_id": session_id, "role": "main", "index": 1})
        commands.append(
            RequestSession(at=now, owner=owner, session_id=session_id, name=f"b-{number}", spec=spec, kernels=(seat,))
        )
        commands.append(CancelSession(at=now, owner=owner, session_id=session_id))
    return commands


async def _outcomes(log: Log, here: Installation, count: int) -> float:
    """Seconds from the first outcome of a command to the last."""
    places = _events(here, "session")
    first = last = 0.0
    seen = 0
    async with log.reader(dict.fromkeys(places, 0)) as reader:
        while seen < count:
            for record in await reader.batch(at_most=5000, within=1.0):
                outcome = record.header("ce_outcome")
                if outcome is not None and outcome.startswith("0/") and record.header("ce_type") != "ShardOpened":
                    first = first or time.monotonic()
                    seen += 1
            last = time.monotonic()
    return last - first


async def _quiet(log: Log, here: Installation, every: float = 1.0) -> int:
    """Wait until no context writes events any more; how many offsets there are then."""
    places = [place for context in CONTEXTS for place in _events(here, context)]
    before = -1
    while True:
        now = sum((await log.ends(places)).values())
        if now == before:
            return now
        before = now
        await asyncio.sleep(every)


def _events(here: Installation, context: str) -> list[Partition]:
    topic = here.settings.topic_prefix + events(context)
    return [Partition(topic, number) for number in range(here.settings.partitions)]


async def takeover(here: Installation, say: Say) -> Figures:
    """From killing a worker with -9 until every partition has given an outcome again; another worker stands by."""
    await here.start("workers", "--part", "shards", called="workers-2")
    async with KafkaLog(here.settings) as log, open_pool(here.settings) as pool:
        victim = await _holder_of_session_0(here, pool)
        limits = Limits(max_concurrent_sessions=10**6, max_kernels_per_session=2)
        commands = [SetSessionLimits(at=datetime.now(UTC), owner=owner, limits=limits) for owner in _OWNERS]
        given = [("session", command, str(uuid4())) for command in commands]
        async with log.reader(dict.fromkeys(_events(here, "session"), -1)) as reader:
            here.running[victim].kill()
            began = time.monotonic()
            await Sender(here.settings, log, "bench").send_all(given, "bench")
            await _all_told(reader, given)
            seconds = time.monotonic() - began
    say(f"{victim} was killed; {len(given)} commands to all partitions were settled {seconds:.1f} s later")
    await here.stop("workers", "workers-2")
    return {"takeover_seconds": seconds}


async def _holder_of_session_0(here: Installation, pool: Pool) -> str:
    """Which of our workers it is, once all of them have their share."""
    while True:
        async with pool.connection() as db:
            rows = await (await db.execute("SELECT worker_id, context, partition FROM shard_leases")).fetchall()
        shards = [row for row in rows if row[1] in CONTEXTS]
        if len({worker for worker, _, _ in rows}) > 1 and len(shards) == len(CONTEXTS) * here.settings.partitions:
            [holder] = [worker for worker, context, number in rows if (context, number) == ("session", 0)]
            return next(name for name, process in here.running.items() if holder.endswith(f"-{process.pid}"))
        await asyncio.sleep(0.1)


async def live_fold(here: Installation, count: int, say: Say) -> Figures:
    """Events folded a second by the Faust handlers, all projections together. They are stopped for a moment with
    everything assigned to them, `count` commands are settled meanwhile, and they go on."""
    async with KafkaLog(here.settings) as log, open_pool(here.settings) as pool:
        await here.start("workers", "--part", "handlers", called="handlers")
        await _until_folded(log, pool, here)
        await here.start("workers", "--part", "shards")
        await asyncio.sleep(3)  # shards open, and their `ShardOpened` records are folded
        await _until_folded(log, pool, here)
        before = await _folded(pool)
        here.running["handlers"].send_signal(signal.SIGSTOP)
        sender = Sender(here.settings, log, "bench")
        given = [("session", command, str(uuid4())) for command in _requests_and_cancellations(count)]
        async with log.reader(dict.fromkeys(_events(here, "session"), -1)) as reader:
            await sender.send_all(given, "bench")
            await _all_told(reader, given)
        goal = await _quiet(log, here, every=0.2)
        here.running["handlers"].send_signal(signal.SIGCONT)
        began = time.monotonic()
        while await _folded(pool) == before:  # until they have woken up
            began = time.monotonic()
            await asyncio.sleep(0.01)
        await _until_folded(log, pool, here)
        seconds = time.monotonic() - began
        await here.stop("workers", "handlers")
    say(f"{goal - before} offsets folded in {seconds:.2f} s")
    return {"live_fold_events_per_second": (goal - before) / seconds}


async def _all_told(reader: Reader, given: Sequence[tuple[str, Command, str]]) -> None:
    """Wait until each of the commands has an outcome."""
    waiting = {command_id for _, _, command_id in given}
    while waiting:
        told = await reader.batch(at_most=5000, within=1.0)
        waiting -= {record.header("ce_causationid") or "" for record in told}


async def _until_folded(log: Log, pool: Pool, here: Installation) -> None:
    """Wait until the checkpoints are at the ends, but for a control record in each partition."""
    places = [place for context in CONTEXTS for place in _events(here, context)]
    while True:
        goal = sum((await log.ends(places)).values())
        if await _folded(pool) >= goal - 2 * len(places):
            return
        await asyncio.sleep(0.02)


async def _folded(pool: Pool) -> int:
    """Offsets that every projection of their context has folded."""
    with suppress(Exception):  # the handlers may not have made the tables yet
        async with pool.connection() as db:
            rows = await (
                await db.execute("SELECT topic, partition, min(next_offset) FROM checkpoints GROUP BY topic, partition")
            ).fetchall()
        return sum(offset for _, _, offset in rows)
    return 0


async def rebuild(here: Installation, say: Say) -> Figures:
    """Events a second of `python -m projections rebuild sessions`, from its own report."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "projections", "rebuild", "sessions"),
        cwd=ROOT,
        env=dict(os.environ) | here.settings.environment(),
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    told = out.decode().strip().splitlines()[-1]
    say(told)
    return {"rebuild_events_per_second": float(told.rpartition("(")[2].removesuffix("/s)"))}


async def accepts(here: Installation, seconds: float, say: Say) -> Figures:
    """Durable accepts a second of one api process, while workers and handlers work on them too; then the latency of
    accepting at 70 % of that."""
    port = here.settings.api_port
    signer = Signer("127.0.0.1", port, _KEYPAIR)
    async with Load("127.0.0.1", port, connections=64) as load:
        await load.as_fast_as_answered(_session_requests(signer, 2000, "nowhere"), 1.0)
        fast = await load.as_fast_as_answered(_session_requests(signer, int(4000 * seconds), "nowhere"), seconds)
        rate = fast.rate()
        say(f"{rate:.0f} accepts/s")
        await asyncio.sleep(2)
        steady = await load.at_rate(_session_requests(signer, int(rate * 0.7 * seconds), "nowhere"), rate * 0.7)
    latencies = steady.latencies()
    return {
        "accepts_per_second": rate,
        "accepts_not_accepted": float(len(fast.all) - len(fast.accepted())),
        "accept_at_70_percent_p50_ms": quantile(latencies, 0.5) * 1e3,
        "accept_at_70_percent_p99_ms": quantile(latencies, 0.99) * 1e3,
    }


async def signed_requests(here: Installation, seconds: float, say: Say) -> Figures:
    """Signed requests a second that one api process lets in and answers from memory (`GET /auth`); then their latency
    at 70 % of that."""
    port = here.settings.api_port
    request = Signer("127.0.0.1", port, _KEYPAIR).request("GET", "/auth")
    async with Load("127.0.0.1", port, connections=64) as load:
        await load.as_fast_as_answered([request] * 20_000, 1.0)
        fast = await load.as_fast_as_answered([request] * int(20_000 * seconds), seconds)
        rate = fast.rate()
        say(f"{rate:.0f} signed requests/s")
        steady = await load.at_rate([request] * int(rate * 0.7 * seconds), rate * 0.7)
    latencies = steady.latencies()
    return {
        "signed_requests_per_second": rate,
        "signed_request_at_70_percent_p50_ms": quantile(latencies, 0.5) * 1e3,
        "signed_request_at_70_percent_p99_ms": quantile(latencies, 0.99) * 1e3,
    }


def _session_requests(
    signer: Signer, count: int, group: str, image: str = "bench/image", names: list[str] | None = None
) -> list[bytes]:
    requests = []
    for _ in range(count):
        name = f"b{uuid4().hex[:20]}"
        if names is not None:
            names.append(name)
        body = {
            "name": name,
            "image": image,
            "enqueueOnly": True,
            "config": {"resources": {"cpu": "0.1", "mem": "64m"}, "scalingGroup": group},
        }
        requests.append(signer.request("POST", "/session", orjson.dumps(body), "Prefer: respond-async\r\n"))
    return requests


async def accept_to_start(here: Installation, per_second: float, seconds: float, say: Say) -> Figures:
    """From the api's 202 to the call of the runtime's start, at a moderate rate of sessions that end at once."""
    port = here.settings.api_port
    signer = Signer("127.0.0.1", port, _KEYPAIR)
    names: list[str] = []
    requests = _session_requests(signer, int(per_second * seconds), "default", "fake/exit:0", names)
    accepted_at: dict[str, float] = {}
    offset = time.time() - time.monotonic()

    def note(answer: Answer) -> None:
        accepted_at[names[answer.number]] = answer.answered_at + offset

    async with Load("127.0.0.1", port, connections=16) as load, open_pool(here.settings) as pool:
        await load.at_rate(_session_requests(signer, 120, "default", "fake/exit:0"), 20)  # processes start slowly
        await load.at_rate(requests, per_second, note)
        called = await _starts(here, pool, set(names))
    delays = sorted(called[name] - accepted_at[name] for name in called)
    say(f"{len(delays)} of {len(names)} sessions started")
    return {
        "accept_to_start_p50_ms": quantile(delays, 0.5) * 1e3,
        "accept_to_start_p99_ms": quantile(delays, 0.99) * 1e3,
    }


async def _starts(here: Installation, pool: Pool, names: set[str]) -> dict[str, float]:
    """When the runtime's start was called for each session, by name, once all of them are there."""
    file = here.settings.data_dir / "agents" / "bench" / "starts.jsonl"
    deadline = time.monotonic() + 30
    while True:
        async with pool.connection() as db:
            rows = await (await db.execute("SELECT session_id, name FROM session_list")).fetchall()
        name_of = {session_id: name for session_id, name in rows if name in names}
        lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
        called = {
            name_of[line["session_id"]]: datetime.fromisoformat(line["called_at"]).timestamp()
            for line in lines
            if line["session_id"] in name_of
        }
        if len(called) == len(names) or time.monotonic() > deadline:
            return called
        await asyncio.sleep(0.5)


async def visible(here: Installation, per_second: float, seconds: float, say: Say) -> Figures:
    """From sending a command to a read that sees it (it carries the write's position), at a constant rate of commands;
    every tenth is read back."""
    port = here.settings.api_port
    signer = Signer("127.0.0.1", port, _KEYPAIR)
    sessions = await _living(here, signer, 50)
    dice = random.Random(1)
    targets = [dice.choice(sessions) for _ in range(int(per_second * seconds))]
    renames = [
        signer.request(
            "POST",
            "/refold/commands",
            orjson.dumps(
                {
                    "type": "RenameSession",
                    "owner": _KEYPAIR.access_key,
                    "session_id": session,
                    "name": f"r{uuid4().hex[:20]}",
                }
            ),
            "Prefer: respond-async\r\n",
        )
        for session in targets
    ]
    seen: list[float] = []
    failed: list[int] = []
    reads: set[asyncio.Task[None]] = set()
    async with Load("127.0.0.1", port, connections=32) as load, Load("127.0.0.1", port, connections=32) as reading:

        async def read_back(answer: Answer) -> None:
            target = f"/session/{targets[answer.number]}"
            position = answer.header("x-refold-position")
            request = signer.request("GET", target, headers=f"X-Refold-Position: {position}\r\n")
            read = await reading.ask(request)
            if read.status == 200:
                seen.append(read.answered_at - answer.sent_at)
            else:
                failed.append(read.status)

        def then(answer: Answer) -> None:
            if answer.number % 10 == 0 and answer.status < 300:
                task = asyncio.create_task(read_back(answer))
                reads.add(task)
                task.add_done_callback(reads.discard)

        sent = await load.at_rate(renames, per_second, then)
        await asyncio.gather(*reads)
    seen.sort()
    say(f"{len(sent.accepted())} of {len(sent.all)} commands accepted, {len(seen)} read back, {len(failed)} not")
    return {
        "visible_p50_ms": quantile(seen, 0.5) * 1e3,
        "visible_p99_ms": quantile(seen, 0.99) * 1e3,
        "visible_commands_per_second": sent.rate(),
    }


async def _living(here: Installation, signer: Signer, count: int) -> Sequence[str]:
    """Sessions that wait for ever: what they are is of no matter."""
    names: list[str] = []
    port = here.settings.api_port
    async with Load("127.0.0.1", port, connections=8) as load, open_pool(here.settings) as pool:
        await load.at_rate(_session_requests(signer, count, "nowhere", names=names), 100)
        while True:
            async with pool.connection() as db:
                rows = await (
                    await db.execute("SELECT session_id FROM session_list WHERE name = ANY(%s)", (names,))
                ).fetchall()
            if len(rows) == count:
                return [session_id for (session_id,) in rows]
            await asyncio.sleep(0.1)
