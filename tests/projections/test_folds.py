"""The folds, without a database: what they show is what the contexts themselves know, after any history."""

from collections.abc import Sequence
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from domain.contexts import CONTEXTS
from domain.messages import AccessKey
from domain.scheduling.messages import ExcludeAgent, IncludeAgent, RegisterAgent, RemoveAgent
from domain.scheduling.state import Cell as CellState
from domain.session.state import Sessions
from infra.log import NewRecord, Record
from infra.settings import Settings
from projections import agents, command_outcomes, session_history, session_list
from projections.catalogue import PROJECTIONS, of_context
from projections.reading import after, read
from projections.store import Checkpoint
from projections.table import Rows
from tests.domain.world import AGENTS, CELL, OWNERS, profile
from tests.projections.story import START, Scribe, WrittenWorld, life, lives

SETTINGS = Settings(topic_prefix="t.", partitions=2)


def placed(transactions: Sequence[Sequence[NewRecord]]) -> list[Record]:
    """With offsets, and a hole after each transaction."""
    ends: dict[Any, int] = {}
    records = []
    for transaction in transactions:
        for new in transaction:
            offset = ends.get(new.partition, 0)
            ends[new.partition] = offset + 1
            records.append(Record(new.partition, offset, new.key, new.headers, new.value))
        for partition in {new.partition for new in transaction}:
            ends[partition] += 1
    return records


def folded(records: Sequence[Record]) -> Rows:
    rows = Rows([table for each in PROJECTIONS.values() for table in each.tables], complete=True)
    for record in records:
        context = record.partition.topic.split(".")[1]
        told = read(context, record)
        assert not isinstance(told, str)
        for projection in of_context(context):
            projection.fold(rows, told)
    return rows


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.integers(0, 10_000), max_size=150))
def test_after_any_history_the_rows_say_what_the_contexts_know(choices: list[int]) -> None:
    scribe = Scribe(SETTINGS)
    world = WrittenWorld(scribe)
    for choice in choices:
        world.step(choice)
    rows = folded(placed(scribe.written))
    for owner in OWNERS:
        sessions: Sessions = world.states["session", owner]
        listed = {
            key[1]: row
            for key, row in rows.known[session_list.SESSION_LIST].items()
            if key[0] == owner and row.ended_at is None
        }
        assert set(listed) == set(sessions.living)
        for session_id, session in sessions.living.items():
            row = listed[session_id]
            assert (row.name, row.status, row.reason) == (session.name, session.status, session.reason)
            assert (row.attempt, row.deadline) == (session.attempt, session.deadline)
            for kernel in session.kernels:
                shown = rows.known[session_list.KERNEL_LIST][owner, session_id, kernel.seat.kernel_id]
                going = shown.status == "TERMINATING" and kernel.alive
                assert going or shown.status == kernel.status
                assert shown.incarnation == kernel.incarnation
                assert shown.agent_id == kernel.agent_id
    cell: CellState = world.states["scheduling", CELL]
    for agent_id in AGENTS:
        agent = cell.agent(agent_id)
        shown = rows.known[agents.AGENTS].get((CELL, agent_id))
        if agent is None:
            assert shown is None or shown.status == "REMOVED"
            continue
        assert shown is not None
        assert shown.status == agent.standing.upper()
        assert shown.excluded == agent.excluded
        assert {slot: units for slot, units in shown.free.items() if units} == {
            slot: units for slot, units in agent.free.items() if units
        }
        assert set(shown.holds) == {f"{attempt}/{session_id}" for session_id, attempt, _ in agent.kernels}
    claims = {key for key, row in rows.known[agents.CLAIMS].items() if row is not None}
    assert claims == {(CELL, *attempt) for attempt in (*cell.demands, *cell.grants)}


def test_an_excluded_agent_stays_so_when_it_starts_again_and_not_when_it_is_removed() -> None:
    about: dict[str, Any] = {"at": START, "cell": CELL, "agent_id": AGENTS[0]}
    register = RegisterAgent(**about, incarnation=1, profile=profile(0))
    again = register.model_copy(update={"incarnation": 2})
    scribe, told = Scribe(SETTINGS), []
    for command in (register, ExcludeAgent(**about), again, IncludeAgent(**about), ExcludeAgent(**about)):
        scribe.settle("scheduling", [command])
        told.append(folded(placed(scribe.written)).known[agents.AGENTS][CELL, AGENTS[0]].excluded)
    scribe.settle("scheduling", [RemoveAgent(**about)])
    told.append(folded(placed(scribe.written)).known[agents.AGENTS][CELL, AGENTS[0]].excluded)
    assert told == [False, True, True, False, True, False]


def test_every_command_has_one_outcome_and_a_repeated_one_has_a_second_row() -> None:
    scribe = Scribe(SETTINGS)
    lives(scribe, 3, owners=1)
    records = placed(scribe.written)
    outcomes = folded(records).changed[command_outcomes.COMMAND_OUTCOMES]
    assert [row.command_offset for row in outcomes.values()] == list(range(len(outcomes)))
    request = next(row for row in outcomes.values() if row.event_type == "SessionRequested")
    assert (request.outcome, request.context, request.actor) == ("events", "session", "user:ada")
    started = next(row for row in outcomes.values() if row.event_type == "KernelStarted")
    assert started.last_offset == started.first_offset + 1  # the session runs, too


def test_a_command_is_reflected_when_the_last_record_of_its_outcome_is() -> None:
    scribe = Scribe(SETTINGS)
    lives(scribe, 1, owners=1)
    checkpoint, seen = Checkpoint(), []
    for record in placed(scribe.written):
        checkpoint = after(checkpoint, [(record, read("session", record))])
        seen.append((record.header("ce_outcome"), checkpoint.command_offset))
    halves = [offset for outcome, offset in seen if outcome == "0/2"]
    wholes = [offset for outcome, offset in seen if outcome == "1/2"]
    assert halves
    assert [offset + 1 for offset in halves] == wholes


def test_the_history_tells_each_status_of_a_session_once_in_order() -> None:
    scribe = Scribe(SETTINGS)
    lives(scribe, 2, owners=1)
    history = folded(placed(scribe.written)).changed[session_history.SESSION_HISTORY].values()
    second = [row for row in history if row.session_id == list(history)[-1].session_id]
    assert [row.status for row in second if row.kernel_id is None] == [
        "PENDING", "SCHEDULED", "PREPARING", "PULLING", "PREPARED", "CREATING", "RUNNING", "TERMINATING", "TERMINATED",
    ]  # fmt: skip
    assert all(row.agents == ["agent-1"] for row in second if row.status == "RUNNING")


def test_a_refused_command_is_told_with_its_code_and_field() -> None:
    scribe = Scribe(SETTINGS)
    lives(scribe, 1, owners=1)
    request = next(iter(life(0, AccessKey("AK000000000000000000"), START)))
    lives_on = request.model_copy(update={"name": "unique"})
    namesake = lives_on.model_copy(update={"session_id": "another"})
    scribe.settle("session", [lives_on.model_copy(update={"session_id": "one"}), namesake])
    row = list(folded(placed(scribe.written)).changed[command_outcomes.COMMAND_OUTCOMES].values())[-1]
    assert (row.outcome, row.code, row.field) == ("refused", "session_name_taken", "name")
    assert row.subject is None


def test_what_became_of_a_command_is_known_in_every_context() -> None:
    assert set(command_outcomes.PROJECTION.contexts) == set(CONTEXTS)
