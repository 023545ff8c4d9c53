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
        SecretStr(""), description="Secret of the api from which each agent's key is derived; signs their tokens."
    )
    agent_key: SecretStr = Field(
        SecretStr(""),
        description="An agent's own key, from `python -m infra.keys agent ID`: it needs no internal key then.",
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

    proxy_host: str = Field("127.0.0.1", description="Address the app proxy listens on, for itself and for apps.")
    proxy_port: int = Field(8082, ge=0, le=65535, description="Port of the app proxy itself; 0 takes a free one.")
    proxy_url: str = Field(
        "", description="Where clients reach the app proxy, unless their resource group names another; none when empty."
    )
    proxy_apps_url: str = Field(
        "http://127.0.0.1:{port}",
        pattern=r"^https?://([^/{}]*\{subdomain\}[^/{}]*|[^/{}]+:\{port\})$",
        description="Where browsers find an app: with {port} each has a port of its own, with {subdomain} a name.",
    )
    proxy_ports: str = Field(
        "10205-10399",
        pattern=r"^\d{1,5}-\d{1,5}$",
        description="Ports for apps, first to last; where they have names, the first of these carries them all.",
    )
    proxy_public_apps: bool = Field(
        False, description="Whether users may open an app of theirs to everybody, who then needs no sign-in."
    )
    proxy_tcp_apps: bool = Field(
        False, description="Whether apps that do not speak HTTP get a port, where nobody is asked who he is."
    )
    proxy_idle_seconds: float = Field(
        3600.0, gt=0, description="Seconds after which an app nobody is connected to loses its port or name."
    )
    proxy_connections_max: int = Field(
        2000, ge=1, description="Connections to apps an app proxy has open; beyond, it hangs up."
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
    container_commit: bool = Field(False, description="Whether users may make images of their sessions.")
    commit_repository: str = Field(
        "localhost/customized",
        pattern=r"^[A-Za-z0-9]([A-Za-z0-9.:_-]*[A-Za-z0-9])?(/[a-z0-9]+([._-]+[a-z0-9]+)*)+$",
        max_length=255,
        description="What names of such images begin with; below localhost they stay on their agent, else are pushed.",
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

    storage: dict[str, dict[str, str]] = Field(
        default_factory=dict,
        description="Storage services, as JSON: name → where clients and where the api reach it, e.g. "
        '{"local": {"client": "http://127.0.0.1:8083", "internal": "http://127.0.0.1:8084"}}.',
    )
    storage_name: str = Field("local", pattern=r"^[a-z0-9][a-z0-9-]{0,62}$", description="Name of a storage service.")
    storage_volumes: dict[str, str] = Field(
        default_factory=dict,
        description='Its volumes, as JSON: name → folder, or URL whose scheme is a backend, e.g. {"volume1": "/srv"}.',
    )
    storage_host: str = Field("127.0.0.1", description="Address a storage service listens on, for clients.")
    storage_port: int = Field(8083, ge=0, le=65535, description="Port of that address; 0 takes a free one.")
    storage_internal_host: str = Field("127.0.0.1", description="Address a storage service listens on, for the api.")
    storage_internal_port: int = Field(8084, ge=0, le=65535, description="Port of that address; 0 takes a free one.")
    storage_key: SecretStr = Field(
        SecretStr(""),
        description="A storage service's own key, of `python -m infra.keys storage NAME`, instead of the internal key.",
    )
    storage_owner: str = Field(
        "1000:1000",
        pattern=r"^\d+:\d+$",
        description="Numbers of the user and the group whose the files in folders are; only root can make them so.",
    )
    storage_scan_seconds: float = Field(
        600.0, gt=0, description="Seconds between two measurements of what every folder holds, at least."
    )
    storage_audit_days: int = Field(90, ge=1, le=36500, description="Days for which changes of files are remembered.")
    vfolder_host: str = Field("local:volume1", description="Host of folders whose maker names none.")
    vfolder_trash_days: float = Field(
        30.0, ge=0, le=3650, description="Days a folder stays in the trash, then is purged."
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
    agent_sample_seconds: float = Field(
        5.0, ge=0.01, description="Seconds between two measurements of what kernels and devices use."
    )
    agent_lost_after: float = Field(
        30.0, gt=0, description="Seconds of silence after which an agent gets no new kernels."
    )
    idle_check_seconds: float = Field(
        10.0, gt=0, description="Seconds between two looks for sessions that nobody uses, or that do too little."
    )
    agent_log_bytes_max: int = Field(10 * 1024 * 1024, ge=4096, description="Bytes of output kept for each kernel.")
    agent_kept_days: float = Field(
        7.0, ge=0, le=36500, description="Days for which output and files of ended kernels are kept."
    )
    agent_auto_pull: Literal["tag", "digest", "none"] = Field(
        "tag",
        description="When an agent fetches an image: if it is missing; if its registry has another by now; never.",
    )
    agent_images_bytes_max: int = Field(
        0, ge=0, description="Bytes of images kept; the longest unused go first, if they can be fetched again. 0: all."
    )
    agent_disk_free_min: float = Field(
        0.0, ge=0, lt=1, description="Part of the disk of the images that is kept free by the same means, e.g. 0.2."
    )
    agent_scratch_bytes_max: int = Field(
        0, ge=0, description="Bytes that the home of a kernel in a container may hold; no limit when 0."
    )
    agent_cluster_network: str = Field(
        "",
        description="What connects the kernels of a session on several hosts: `overlay` (Docker's swarm), `host` (the "
        "hosts' own network), or an entry point; none when empty.",
    )
    agent_volumes: dict[str, str] = Field(
        default_factory=dict,
        description='Where hosts of folders lie on this machine, as JSON, e.g. {"local:volume1": "/srv/volume1"}.',
    )
    agent_unmanaged_paths: str = Field(
        "", description="Folders, comma separated, below which unmanaged folders may lie; none when empty."
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
