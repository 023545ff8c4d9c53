"""Many simulated agents in one process: each is told what is its own, and nothing else."""

from collections.abc import Sequence

from agents.fleet import sharing
from domain.messages import AgentId
from infra.log import NewRecord, Record
from infra.memory_log import MemoryLog
from infra.settings import Settings
from infra.topics import PLACEMENTS, partition_of

SETTINGS = Settings(partitions=2)
TOPIC = SETTINGS.topic_prefix + PLACEMENTS
NAMES = [AgentId(f"simulated-{number}") for number in range(6)]


def log() -> MemoryLog:
    return MemoryLog({TOPIC: SETTINGS.partitions})


def order(to: str, text: bytes) -> NewRecord:
    return NewRecord(partition_of(SETTINGS, PLACEMENTS, to), to.encode(), (), text)


def texts(records: Sequence[Record]) -> list[bytes]:
    return [record.value for record in records]


async def test_each_agent_of_a_fleet_reads_its_own_orders_in_their_sequence() -> None:
    shared = log()
    async with sharing(SETTINGS, shared, NAMES) as logs:
        for text in (b"one", b"two"):
            await shared.append([order(name, text + name.encode()) for name in [*NAMES, "a-stranger"]])
        for name in NAMES:
            place = partition_of(SETTINGS, PLACEMENTS, name)
            async with logs[name].reader({place: 0}) as reader:
                heard = texts(await reader.batch(at_most=1, within=5))
                heard += texts(await reader.batch(at_most=9, within=5))
                assert heard == [b"one" + name.encode(), b"two" + name.encode()]
                assert await reader.batch(at_most=9, within=0.01) == []


async def test_an_agent_of_a_fleet_knows_of_no_order_from_before() -> None:
    shared = log()
    await shared.append([order(NAMES[0], b"old")])
    place = partition_of(SETTINGS, PLACEMENTS, NAMES[0])
    async with sharing(SETTINGS, shared, NAMES) as logs:
        journal = logs[NAMES[0]].journal()
        assert journal.fact("next_order") == 1
        assert journal.fact("journal") != logs[NAMES[0]].journal().fact("journal")
        async with logs[NAMES[0]].reader({place: 1}) as reader:
            assert await reader.batch(at_most=9, within=0.05) == []
            assert reader.position(place) == 1
            await shared.append([order(NAMES[0], b"new")])
            assert texts(await reader.batch(at_most=9, within=5)) == [b"new"]
            assert reader.position(place) == 2


async def test_who_reads_again_goes_on_where_he_was() -> None:
    shared = log()
    place = partition_of(SETTINGS, PLACEMENTS, NAMES[0])
    async with sharing(SETTINGS, shared, NAMES) as logs:
        await shared.append([order(NAMES[0], b"one"), order(NAMES[0], b"two")])
        for text in (b"one", b"two"):
            async with logs[NAMES[0]].reader({place: 0}) as reader:
                assert texts(await reader.batch(at_most=1, within=5)) == [text]
