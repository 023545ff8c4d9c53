"""How large a query may be: found out before anything of it is done.

A query costs one for each field it asks for; the fields below a list count as often as the list may be long. Fragments
are followed, so that a small text cannot stand for a large query.
"""

from collections.abc import Mapping
from typing import Any, Final

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    InlineFragmentNode,
    IntValueNode,
    OperationDefinitionNode,
    SelectionSetNode,
    StringValueNode,
    VariableNode,
    Visitor,
    parse,
    visit,
)

from projections.listing import LIMIT_MAX

TEXT_MAX: Final = 64 * 1024
TOKENS_MAX: Final = 4000
DEPTH_MAX: Final = 12
FIELDS_AT_ROOT_MAX: Final = 20
"""Queries in one request, under whatever aliases."""

COST_MAX: Final = 100_000
_UNPAGED: Final = 20
"""What a list without a page counts as: most are short, and none is fetched anew for each item of another."""

_LISTS: Final = frozenset(
    {
        "domains",
        "groups",
        "groups_by_name",
        "users",
        "keypairs",
        "scaling_groups",
        "resource_presets",
        "containers",
        "compute_sessions",
        "compute_containers",
        "dependencies",
        "images",
        "container_registries",
        "vfolders",
        "model_cards",
    }
)


def parsed(query: str) -> DocumentNode:
    """Raises `GraphQLError` for what is no GraphQL, or too long."""
    if len(query) > TEXT_MAX:
        raise GraphQLError(f"the query is too long: {TEXT_MAX} characters are allowed")
    try:
        document = parse(query, max_tokens=TOKENS_MAX)
    except RecursionError:
        raise GraphQLError("the query is nested too deeply") from None
    visit(document, _NoNul())
    return document


def check(document: DocumentNode, variables: Mapping[str, Any], name: str | None = None) -> None:
    """Raises `GraphQLError` for an operation that is deeper, wider or dearer than allowed, and where none is meant."""
    fragments = {each.name.value: each for each in document.definitions if isinstance(each, FragmentDefinitionNode)}
    operations = [each for each in document.definitions if isinstance(each, OperationDefinitionNode)]
    if name is None and len(operations) > 1:
        raise GraphQLError("operationName must say which of the operations is meant")
    for operation in operations:
        walk = _Walk(fragments, variables)
        walk.follow(operation.selection_set, depth=1, nested=0, times=1)
        if walk.at_root > FIELDS_AT_ROOT_MAX:
            raise GraphQLError(f"a request may ask for {FIELDS_AT_ROOT_MAX} things at once")


class _Walk:
    def __init__(self, fragments: Mapping[str, FragmentDefinitionNode], variables: Mapping[str, Any]) -> None:
        self._fragments = fragments
        self._variables = variables
        self._cost = 0
        self.at_root = 0

    def follow(self, selections: SelectionSetNode, depth: int, nested: int, times: int) -> None:
        """`depth` counts fields, `nested` fragments in fragments."""
        if depth > DEPTH_MAX or nested > DEPTH_MAX:
            raise GraphQLError(f"the query is nested too deeply: {DEPTH_MAX} levels are allowed")
        for node in selections.selections:
            match node:
                case FieldNode():
                    self._count(depth, times)
                    if node.selection_set is not None:
                        self.follow(node.selection_set, depth + 1, 0, times * self._length(node))
                case InlineFragmentNode():
                    self.follow(node.selection_set, depth, nested + 1, times)
                case FragmentSpreadNode() if (fragment := self._fragments.get(node.name.value)) is not None:
                    self.follow(fragment.selection_set, depth, nested + 1, times)

    def _count(self, depth: int, times: int) -> None:
        self.at_root += depth == 1
        self._cost += times
        if self._cost > COST_MAX:
            raise GraphQLError(f"the query asks for too much at once: it may cost {COST_MAX}")

    def _length(self, node: FieldNode) -> int:
        for argument in node.arguments or ():
            if argument.name.value in {"limit", "first"}:
                value: Any = None
                match argument.value:
                    case IntValueNode(value=text):
                        value = int(text) if len(text) < 10 else LIMIT_MAX
                    case VariableNode():
                        value = self._variables.get(argument.value.name.value)
                return min(LIMIT_MAX, max(1, value)) if isinstance(value, int) else LIMIT_MAX
        return _UNPAGED if node.name.value in _LISTS else 1


class _NoNul(Visitor):
    """Neither a container nor a database takes NUL characters."""

    def enter_string_value(self, node: StringValueNode, *_: Any) -> None:
        if "\x00" in node.value:
            raise GraphQLError("NUL characters are not allowed", node)
