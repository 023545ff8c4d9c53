"""The embedded Kafka and Postgres: real servers, killed and started again on the same data."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import psycopg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from infra.checks import KEPT
from infra.embedded.folder import CannotStart, ports
from infra.embedded.kafka import EmbeddedKafka
from infra.embedded.postgres import EmbeddedPostgres
from infra.embedded.server import Server

pytestmark = pytest.mark.cluster


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """Not under pytest's own folder: another pytest that starts meanwhile closes that to Postgres' user."""
    with TemporaryDirectory(prefix="refold-test-") as folder:
        yield Path(folder)


@asynccontextmanager
async def running(server: Server) -> AsyncIterator[None]:
    try:
        await server.start()
        await server.ready()
        yield
    finally:
        await server.kill()


async def test_postgres_keeps_what_was_committed_when_it_is_killed(data_dir: Path) -> None:
    postgres = EmbeddedPostgres(data_dir, ports(data_dir, "postgres")["postgres"])
    async with running(postgres):
        async with await psycopg.AsyncConnection.connect(postgres.dsn) as db:
            await db.execute("CREATE TABLE kept AS SELECT 1 AS one")
        await postgres.kill()
        await postgres.start()
        await postgres.ready()
        async with await psycopg.AsyncConnection.connect(postgres.dsn) as db:
            assert await (await db.execute("SELECT one FROM kept")).fetchone() == (1,)
        await postgres.stop()
        assert postgres.process is not None
        assert postgres.process.exit_code == 0


async def test_postgres_lets_nobody_in_without_the_password(data_dir: Path) -> None:
    postgres = EmbeddedPostgres(data_dir, ports(data_dir, "postgres")["postgres"])
    async with running(postgres):
        with pytest.raises(psycopg.OperationalError, match="password"):
            await psycopg.AsyncConnection.connect(
                host="127.0.0.1", port=postgres.port, user="refold", dbname="refold", password="guessed"
            )


async def test_a_pid_file_that_names_a_stranger_does_not_keep_postgres_down(data_dir: Path) -> None:
    postgres = EmbeddedPostgres(data_dir, ports(data_dir, "postgres")["postgres"])
    async with running(postgres):
        await postgres.kill()
        pid_file = postgres.folder / "postmaster.pid"
        lines = pid_file.read_text().splitlines()
        pid_file.write_text("\n".join(["1", *lines[1:]]) + "\n")  # 1 lives, and is not Postgres
        await postgres.start()
        await postgres.ready()


async def test_a_server_left_over_from_a_crash_is_ended_before_the_next_one_starts(data_dir: Path) -> None:
    port = ports(data_dir, "postgres")["postgres"]
    left_over = EmbeddedPostgres(data_dir, port)
    async with running(left_over), running(EmbeddedPostgres(data_dir, port)):
        assert left_over.process is not None
        await left_over.process.wait()


async def test_kafka_keeps_what_was_acknowledged_when_it_is_killed(data_dir: Path) -> None:
    chosen = ports(data_dir, "kafka", "kafka_controller")
    kafka = EmbeddedKafka(data_dir, chosen["kafka"], chosen["kafka_controller"], jars_dir=KEPT / "jars")
    async with running(kafka):
        admin = cast(Any, AIOKafkaAdminClient)(bootstrap_servers=kafka.bootstrap)
        await admin.start()
        await admin.create_topics([NewTopic("kept", 1, 1)])
        await admin.close()
        async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, acks="all") as producer:
            await producer.send_and_wait("kept", b"one")
        await kafka.kill()
        await kafka.start()
        await kafka.ready()
        consumer = AIOKafkaConsumer("kept", bootstrap_servers=kafka.bootstrap, auto_offset_reset="earliest")
        async with consumer:
            assert (await consumer.getone()).value == b"one"


async def test_a_port_in_use_ends_the_start_with_a_sentence(data_dir: Path) -> None:
    postgres = EmbeddedPostgres(data_dir, ports(data_dir, "postgres")["postgres"])
    async with running(postgres):
        second = EmbeddedPostgres(data_dir / "other", postgres.port)
        (data_dir / "other").mkdir()
        await second.start()
        with pytest.raises(CannotStart, match=r"Address already in use|could not create any TCP/IP sockets"):
            await second.ready()
        await second.kill()
