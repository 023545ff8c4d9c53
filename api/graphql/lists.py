"""Lists and their pages, in the words of clients of every age."""

from collections.abc import Sequence
from typing import Any, Final, Generic, TypeVar

import strawberry

from projections.filtering import BadQuery
from projections.listing import LIMIT_MAX, Page, Query

T = TypeVar("T")

WHOLE: Final = Query(limit=LIMIT_MAX)
"""A list without pages."""


@strawberry.type
class PaginatedList(Generic[T]):
    """`total_count`: of all that fit, on this page or not. `next`: what to ask `after` for the next page, if any.

    That takes as long for the last page as for the first, and a large `offset` does not.
    """

    items: list[T]
    total_count: int
    next: str | None = None


def listed(items: Sequence[T], page: Page[Any]) -> PaginatedList[T]:
    return PaginatedList(items=list(items), total_count=page.total, next=page.next)


def whole(found: PaginatedList[T], pages: str) -> list[T]:
    """All of a list that is asked for without pages. Raises `BadQuery` where it is too long for that.

    `pages`: the query that has pages of it. A process that answers with thousands of items at once answers nobody else.
    """
    if found.total_count > len(found.items):
        raise BadQuery("limit", "too_many", f"there are {found.total_count}: ask {pages} for some at a time")
    return found.items


def query_of(
    limit: int,
    offset: int,
    filter_: str | None,
    order: str | None,
    order_key: str | None,
    order_asc: bool | None,
    after: str | None = None,
) -> Query:
    """`order_key` and `order_asc` are how older clients say `order`."""
    if order is None and order_key is not None:
        order = ("-" if order_asc is False else "+") + order_key
    return Query(filter=filter_, order=order, limit=limit, offset=offset, after=after)


def statuses(text: str | None) -> tuple[str, ...] | None:
    """Of a list with commas; None for nothing."""
    found = tuple(part.strip().upper() for part in (text or "").split(",") if part.strip())
    return found or None
