"""Every setting there is. Each is read from the environment as REFOLD_<NAME>; the README lists them in one table."""

import json
from functools import lru_cache
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """What differs between one installation and another. A field's description is its row in the README."""

    model_config = SettingsConfigDict(env_prefix="REFOLD_", extra="ignore", frozen=True)

    data_dir: Path = Field(Path(".refold"), description="Folder of everything the embedded servers and the agent keep.")
    kafka: str = Field("127.0.0.1:9092", description="Kafka bootstrap servers, comma separated.")
    database: SecretStr = Field(
        SecretStr("postgresql://refold@127.0.0.1:5432/refold"), description="Postgres connection URL."
    )
    deployment: str = Field(
        "refold",
        pattern=r"^[a-z0-9][a-z0-9-]{0,40}$",
        description="Name of this installation: prefix of transactional ids, consumer groups and container labels.",
    )
    topic_prefix: str = Field("refold.", description="Prefix of every topic name.")
    partitions: int = Field(6, ge=1, le=1000, description="Partitions of each commands and events topic.")
    replication_factor: int = Field(1, ge=1, le=9, description="Copies of each partition; 3 in production.")
    min_insync_replicas: int = Field(
        1,
        ge=1,
        le=9,
        description="Copies that must hold a record before it counts as written; 2 in production.",
    )

    master_key: SecretStr = Field(
        SecretStr(""), description="32 bytes in base64: wraps the keys that seal secrets in the log."
    )
    master_key_old: SecretStr = Field(
        SecretStr(""), description="The master key before, while `python -m infra.keys rotate` has yet to run."
    )
    internal_key: SecretStr = Field(
        SecretStr(""), description="Shared secret that signs the tokens with which the api talks to agents."
    )

    log_format: Literal["human", "json"] = Field("human", description="Form of the log lines on stderr.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least severe line shown.")

    api_host: str = Field("127.0.0.1", description="Address the api listens on.")
    api_port: int = Field(8081, ge=0, le=65535, description="Port the api listens on; 0 takes a free one.")
    api_url: str = Field("http://127.0.0.1:8081", description="Where agents reach the api.")
    outcome_timeout: float = Field(
        10.0, gt=0, description="Seconds a write waits for its outcome before it answers 202."
    )
    append_timeout: float = Field(4.0, gt=0, le=5, description="Seconds an append may take before the api answers 503.")
    read_timeout: float = Field(
        5.0, gt=0, description="Seconds a read waits for the position it was given before it answers 504."
    )
    appends_in_flight_max: int = Field(
        2000, ge=1, description="Unfinished appends in one api process beyond which it answers 429."
    )
    streams_per_key_max: int = Field(
        50, ge=1, description="Event streams an access key may have open at one api process; beyond, it answers 429."
    )

    kernel_connections_per_key_max: int = Field(
        200,
        ge=1,
        description="Connections into sessions an access key may have open at one api process; beyond, it answers 429.",
    )

    signed_bodies: bool = Field(
        False, description="Whether a signature must cover the body; the public client's does not, and is then refused."
    )
    trusted_proxies: str = Field(
        "",
        description="Addresses or networks, comma separated, whose X-Forwarded-For and -Proto are believed.",
    )
    unsigned_requests_max: int = Field(
        5000, ge=1, description="Requests a client address may make unsigned within 15 minutes; beyond, 429."
    )
    sign_ins_max: int = Field(
        200, ge=1, description="Times a client address may try a password within 15 minutes; beyond, 429."
    )
    signup: bool = Field(False, description="Whether strangers may make themselves users, of the domain they name.")
    sign_in_seconds: int = Field(
        604_800, ge=60, le=10**9, description="Seconds after which a browser's sign-in ends, unless it is extended."
    )

    unregistered_images: bool = Field(
        True, description="Whether sessions may start from images that no registry is known to have."
    )
    graphql_introspection: bool = Field(False, description="Whether clients may ask the GraphQL schema what it holds.")

    worker_health_port: int = Field(
        0, ge=0, le=65535, description="Port of a worker's /health, /ready and /metrics; 0 takes a free one."
    )
    lease_seconds: float = Field(
        3.0, ge=1, description="Seconds after which a silent worker's partitions may be taken over."
    )
    batch_max: int = Field(500, ge=1, description="Commands settled in one transaction at most.")
    handled_window: int = Field(
        50_000,
        ge=1,
        description="Command ids each shard remembers, to answer a repeated one with its first outcome.",
    )

    agent_id: str = Field("", description="Name of this agent; the host name when empty.")
    agent_runtime: Literal["docker", "process", "fake"] = Field(
        "process", description="What the agent starts kernels with."
    )
    agent_group: str = Field("default", description="Resource group the agent belongs to.")
    agent_cell: str = Field("default", description="Scheduling cell of that resource group.")
    agent_slots: dict[str, str] = Field(
        default_factory=dict,
        description='Slots offered, as JSON, e.g. {"cpu": "8", "mem": "16g"}; measured from the host when empty.',
    )
    agent_reserved_cpu: str = Field("0", description="Processors of a measured host that kernels do not get.")
    agent_reserved_mem: str = Field("0", description="Memory of a measured host that kernels do not get, e.g. 1g.")
    agent_cpu_pinning: bool = Field(
        False, description="Whether each kernel gets processors of its own, which the scheduler chooses."
    )
    agent_device_plugins: str = Field(
        "cuda", description="Device plugins beside cpu and mem, comma separated; others than cuda are entry points."
    )
    agent_accelerators: dict[str, dict[str, str | int]] = Field(
        default_factory=dict,
        description='Devices offered in shares, as JSON, e.g. {"cuda": {"allocation_mode": "fractional", '
        '"unit_mem": "2g", "unit_proc": 8}}.',
    )
    agent_mock_devices: str = Field("", description="File that declares devices to pretend; none when empty.")
    agent_host: str = Field("127.0.0.1", description="Internal address the agent serves logs on.")
    agent_port: int = Field(0, ge=0, le=65535, description="Port of that address; 0 takes a free one.")
    agent_heartbeat_seconds: float = Field(2.0, gt=0, description="Seconds between two heartbeats.")
    agent_lost_after: float = Field(
        30.0, gt=0, description="Seconds of silence after which an agent gets no new kernels."
    )
    agent_log_bytes_max: int = Field(10 * 1024 * 1024, ge=4096, description="Bytes of output kept for each kernel.")
    agent_kept_days: float = Field(
        7.0, ge=0, le=36500, description="Days for which output and files of ended kernels are kept."
    )
    docker_socket: str = Field("/var/run/docker.sock", description="Unix socket of the Docker daemon.")

    def environment(self) -> dict[str, str]:
        """What was chosen, as a process started with it reads it. Holds secrets in clear."""
        texts: dict[str, str] = {}
        for name in self.model_fields_set:
            value = getattr(self, name)
            if isinstance(value, SecretStr):
                value = value.get_secret_value()
            texts[f"REFOLD_{name.upper()}"] = json.dumps(value) if isinstance(value, dict) else str(value)
        return texts


@lru_cache
def settings() -> Settings:
    """The process' settings, read once."""
    return Settings()
