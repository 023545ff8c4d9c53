"""What an agent finds when it starts: what runs, what it knows of it, and what of that is wanted."""

import asyncio
import random
import time
from collections.abc import Collection, Mapping, Set
from dataclasses import dataclass
from datetime import timedelta

import structlog

from agents.journal import Journal, Kept, Stage
from agents.orders import Orders
from agents.runtime import Runtime, RuntimeUnavailable
from domain.messages import KernelId
from domain.scheduling.messages import RunningKernel

_log = structlog.get_logger("agents")

_RETRY_SECONDS = 1.0

HEARD = "heard"
"""Fact of the journal: when the agent was heard last, in milliseconds since 1970."""

IN_DOUBT = "in_doubt"
"""Fact of the journal: until this agent is admitted, somebody else may carry out what is ordered. 0 or nothing: no."""

Here = tuple[KernelId, int]
"""A kernel and its incarnation."""


@dataclass(frozen=True)
class Stock:
    """`strays` run without anybody wanting them. `silence`: for how long the log has heard nothing of this agent."""

    incarnation: int
    journal: int
    kept: Collection[Kept]
    inventory: tuple[RunningKernel, ...]
    strays: Collection[Here]
    silence: timedelta


async def take_stock(runtime: Runtime, journal: Journal, orders: Orders) -> Stock:
    """Compare what runs with what is wanted. Nothing is touched. Raises `LogError`, if the journal was lost."""
    if journal.fact("next_order") is None:
        await _rebuild(journal, orders)
    running = await _running(runtime)
    kept = _kept(journal)
    heard = journal.fact(HEARD)
    stock = Stock(
        # Microseconds: two agents of one name that start at once are told apart. Grows also if the clock was put back.
        incarnation=max((journal.fact("incarnation") or 0) + 1, time.time_ns() // 1000),
        journal=journal.fact("journal") or 0,
        kept=kept.values(),
        inventory=_inventory(running, kept),
        strays=running - kept.keys(),
        silence=timedelta(0) if heard is None else timedelta(milliseconds=time.time() * 1000 - heard),
    )
    with journal.changes():
        journal.set_fact("incarnation", stock.incarnation)
    return stock


async def inventory_now(runtime: Runtime, journal: Journal) -> tuple[RunningKernel, ...]:
    """What runs here and is wanted."""
    return _inventory(await _running(runtime), _kept(journal))


async def stop_strays(runtime: Runtime, strays: Collection[Here]) -> None:
    """End what nobody wants."""
    for stray in strays:
        _log.warning("stopping what nobody wants", kernel=stray[0], incarnation=stray[1])
        while True:
            try:
                await runtime.stop(*stray, timedelta(0))
                await runtime.remove(*stray)
                break
            except RuntimeUnavailable as error:
                _log.warning("runtime does not answer", reason=str(error))
                await asyncio.sleep(_RETRY_SECONDS)


async def _rebuild(journal: Journal, orders: Orders) -> None:
    """No journal: a new host, or it was lost. Whatever was ordered here and not stopped may have run
    already, so it is taken as started: what runs is adopted, and of the rest the runtime or nobody knows
    how it ended."""
    history = await orders.history()
    with journal.changes():
        for start in history.wanted:
            journal.keep(start, Stage.STARTED)
        journal.set_fact("journal", random.SystemRandom().getrandbits(48))
        journal.set_fact("incarnation", history.incarnation)
        if history.incarnation:
            journal.set_fact(IN_DOUBT, 1)
        journal.set_fact("next_order", history.next_order)


async def _running(runtime: Runtime) -> set[Here]:
    while True:
        try:
            return {(KernelId(k.kernel_id), k.incarnation) for k in await runtime.list()}
        except RuntimeUnavailable as error:
            _log.warning("runtime does not answer", reason=str(error))
            await asyncio.sleep(_RETRY_SECONDS)


def _kept(journal: Journal) -> Mapping[Here, Kept]:
    return {(kept.order.kernel_id, kept.order.incarnation): kept for kept in journal.kernels()}


def _inventory(running: Set[Here], kept: Mapping[Here, Kept]) -> tuple[RunningKernel, ...]:
    return tuple(_line(kept[here]) for here in sorted(running & kept.keys()))


def _line(kept: Kept) -> RunningKernel:
    return RunningKernel(
        kernel_id=kept.order.kernel_id,
        incarnation=kept.order.incarnation,
        session_id=kept.order.session_id,
        owner=kept.order.owner,
    )
