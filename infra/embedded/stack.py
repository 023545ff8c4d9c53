"""Which servers to use: those the environment names, and an embedded one for each that it does not name."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from infra.embedded import jars
from infra.embedded.folder import ports
from infra.embedded.kafka import EmbeddedKafka
from infra.embedded.postgres import EmbeddedPostgres
from infra.embedded.server import Server
from infra.supervise import Supervisor


@dataclass(frozen=True)
class Stack:
    """A Kafka and a Postgres. None stands for a server that is somebody else's: it is used and left alone."""

    kafka: EmbeddedKafka | None
    postgres: EmbeddedPostgres | None

    @property
    def embedded(self) -> list[Server]:
        """The servers that are ours to run."""
        return [server for server in (self.kafka, self.postgres) if server is not None]

    async def start(self, supervisor: Supervisor) -> None:
        """Lets the supervisor run what is ours; returns once all of it answers."""
        try:
            async with asyncio.TaskGroup() as group:
                for server in self.embedded:
                    group.create_task(server.run_by(supervisor))
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None  # one sentence is shown, so one is enough

    def addresses(self) -> dict[str, str]:
        """REFOLD_KAFKA and REFOLD_DATABASE of what is ours, once it was started."""
        found = {}
        if self.kafka is not None:
            found["REFOLD_KAFKA"] = self.kafka.bootstrap
        if self.postgres is not None:
            found["REFOLD_DATABASE"] = self.postgres.dsn
        return found


def choose(
    data_dir: Path,
    environ: Mapping[str, str],
    jars_dir: Path | None = None,
    kafka_port: int | None = None,
    postgres_port: int | None = None,
) -> Stack:
    """Chooses servers and ports, and fetches Kafka's jars where it is ours.

    Called before the event loop runs, so that Ctrl-C ends a slow download at once.
    """
    kafka = postgres = None
    if "REFOLD_KAFKA" not in environ:
        chosen = ports(data_dir, "kafka", "kafka_controller")
        kafka = EmbeddedKafka(data_dir, kafka_port or chosen["kafka"], chosen["kafka_controller"], jars_dir)
        jars.fetch(kafka.jars_dir, jars.locked())
    if "REFOLD_DATABASE" not in environ:
        postgres = EmbeddedPostgres(data_dir, postgres_port or ports(data_dir, "postgres")["postgres"])
    return Stack(kafka, postgres)
