"""What a kernel's container may do: use its share of processors and memory, reach the network, and nothing
else. Of the host's files it sees those that are its own, the folders of its session, and the runner's code
(`agents/docker/injection.py`).

The first process is Docker's small init, which collects orphans and hands signals on; the runner or the image's own
program comes second, and its exit code is the container's.

Held against the CIS Docker Benchmark's rules for containers in `tests/agents/test_docker_hardening.py`, where it is
also said which of them are waived, and why. (One more is where an operator chose `REFOLD_AGENT_CLUSTER_NETWORK=host`:
kernels of sessions on several hosts then have no network of their own.)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agents.devices.plugin import Grant
from agents.docker.networks.plugin import Attachment
from agents.runtime import BASE_ENVIRONMENT, Task
from domain.vfolder.mounts import HOME

LABEL = "ai.refold."
USER = "1000:1000"


@dataclass(frozen=True)
class Injected:
    """What a container has beside its image."""

    user: str = USER
    mounts: Sequence[Mapping[str, Any]] = ()
    entrypoint: Sequence[str] | None = None
    """In place of the task's command, which it carries out."""


def container_config(
    task: Task,
    deployment: str,
    log_bytes_max: int,
    grant: Grant | None = None,
    injected: Injected | None = None,
    attachment: Attachment | None = None,
) -> dict[str, Any]:
    """What the daemon is asked to make of a task that was granted its devices. Pure."""
    granted, beside = grant or Grant(), injected or Injected()
    network = attachment or Attachment(network_name(deployment))
    environ = {
        **BASE_ENVIRONMENT,
        "HOME": HOME,
        **task.environ,
        # From here on nobody overrides it, neither a user nor an image: NVIDIA's hook hands out what it reads here.
        "NVIDIA_VISIBLE_DEVICES": "void",
        **granted.environ,
        **granted.container_environ,
    }
    config: dict[str, Any] = {
        "Image": task.image,
        "Hostname": task.hostname,
        "User": beside.user,
        "Env": [f"{name}={value}" for name, value in environ.items()],
        "Labels": {
            LABEL + "deployment": deployment,
            LABEL + "kernel": task.kernel_id,
            LABEL + "incarnation": str(task.incarnation),
            LABEL + "session": task.session_id,
        },
        "StopSignal": "SIGTERM",
        "HostConfig": {
            **confined(task.mem_bytes, task.pids_max),
            "NanoCpus": task.cpu_millis * 1_000_000,
            "NetworkMode": network.network,
            "Init": True,
            "RestartPolicy": {"Name": "no"},
            "LogConfig": {
                "Type": "json-file",
                "Config": {"max-size": str(log_bytes_max), "max-file": "2"},
            },
            "DeviceRequests": [],
            **granted.host_config,
        },
    }
    if task.runtime_class is not None:
        config["HostConfig"]["Runtime"] = task.runtime_class.value
    if task.shm_bytes:
        config["HostConfig"]["ShmSize"] = task.shm_bytes
    if network.hosts:
        config["HostConfig"]["ExtraHosts"] = [f"{name}:{address}" for name, address in network.hosts.items()]
    if beside.mounts:
        config["HostConfig"]["Mounts"] = [dict(mount) for mount in beside.mounts]
    if (command := beside.entrypoint or task.command) is not None:
        config["Entrypoint"] = list(command)  # and no Cmd: the image's own would come behind it otherwise
    return config


def confined(mem_bytes: int, pids_max: int) -> dict[str, Any]:
    """The part of a HostConfig that no container of ours goes without."""
    return {
        "Memory": mem_bytes,
        "MemorySwap": mem_bytes,  # both equal: no swap beyond the memory
        "PidsLimit": pids_max,
        "Privileged": False,
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges:true"],
        "IpcMode": "private",
        "CgroupnsMode": "private",
    }


def network_name(deployment: str) -> str:
    """The bridge all kernels of a host are on. They reach the world through it, but not each other."""
    return f"{deployment}-kernels"


def container_name(kernel_id: str, incarnation: int) -> str:
    """Tells whether an incarnation was started already."""
    return f"refold-{kernel_id}-{incarnation}"


def bind(source: Path, target: str, *, read_only: bool = False) -> Mapping[str, Any]:
    """A mount, as the daemon takes it."""
    return {
        "Type": "bind",
        "Source": str(source),
        "Target": target,
        "ReadOnly": read_only,
        "BindOptions": {"Propagation": "rprivate"},
    }
