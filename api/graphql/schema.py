"""The schema, put together: names stay as they are written (`total_count`), scalars are the public client's."""

from collections.abc import Iterable
from typing import Any, Final

import strawberry
from graphql import GraphQLError
from strawberry.extensions import DisableIntrospection, SchemaExtension
from strawberry.schema.config import StrawberryConfig

from api.graphql.mutations import Mutation
from api.graphql.queries import Query
from api.graphql.scalars import SCALARS


class Schema(strawberry.Schema):
    def process_errors(self, errors: list[GraphQLError], execution_context: Any = None) -> None:
        """Whoever executes tells them (`api.graphql.routes`)."""


def make_schema(*, introspection: bool) -> Schema:
    """Without introspection, clients cannot ask the schema what it holds."""
    extensions: Iterable[type[SchemaExtension]] = () if introspection else (DisableIntrospection,)
    return Schema(
        query=Query,
        mutation=Mutation,
        config=StrawberryConfig(auto_camel_case=False, disable_field_suggestions=True, scalar_map=SCALARS),
        extensions=extensions,
    )


SCHEMAS: Final = {introspection: make_schema(introspection=introspection) for introspection in (False, True)}
"""By whether introspection is allowed."""
