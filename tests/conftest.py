"""What every test may ask for: the servers that `infra/test` has started."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

import pytest
from psycopg import AsyncConnection
from psycopg.conninfo import make_conninfo
from psycopg.sql import SQL, Identifier
from pydantic import SecretStr

from infra.postgres import Pool, migrate, open_pool
from infra.settings import Settings


@pytest.fixture(scope="session")
def kafka() -> str:
    """Bootstrap servers of a real Kafka."""
    servers = os.environ.get("REFOLD_TEST_KAFKA")
    if not servers:
        pytest.skip("needs a real Kafka: run infra/test, or set REFOLD_TEST_KAFKA")
    return servers


@pytest.fixture(scope="session")
def database() -> str:
    """URL of a real Postgres in which databases may be created."""
    url = os.environ.get("REFOLD_TEST_DATABASE")
    if not url:
        pytest.skip("needs a real Postgres: run infra/test, or set REFOLD_TEST_DATABASE")
    return url


@pytest.fixture
async def own_database(database: str) -> AsyncIterator[str]:
    """URL of an empty database of the test's own."""
    async with empty_database(database) as url:
        yield url


@asynccontextmanager
async def empty_database(server: str) -> AsyncIterator[str]:
    """URL of a database that is there for the block."""
    name = f"test_{uuid4().hex[:12]}"
    async with await AsyncConnection.connect(server, autocommit=True) as db:
        await db.execute(SQL("CREATE DATABASE {}").format(Identifier(name)))
        yield make_conninfo(server, dbname=name)
        await db.execute(SQL("DROP DATABASE {} WITH (FORCE)").format(Identifier(name)))


@pytest.fixture
async def pool(own_database: str) -> AsyncIterator[Pool]:
    """A pool on a database of the test's own, with the tables that are no projections."""
    async with open_pool(Settings(database=SecretStr(own_database))) as opened:
        async with opened.connection() as db:
            await migrate(db)
        yield opened
