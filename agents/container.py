"""What a kernel's container may do: use its share of processors and memory, reach the network, and nothing
else.

Held against the CIS Docker Benchmark's rules for containers in `tests/agents/test_docker_hardening.py`. Two
of them are waived, each for a reason: the root file system is writable (people install packages into their
session; the layer goes with the container), and there is no health check (the agent watches the process).
"""

from typing import Any

from agents.runtime import BASE_ENVIRONMENT, Task

LABEL = "ai.refold."
USER = "1000:1000"
HOME = "/home/work"


def container_config(task: Task, deployment: str, log_bytes_max: int) -> dict[str, Any]:
    """What the daemon is asked to make of a task. Pure."""
    gpus = [device for slot, ids in task.devices.items() if slot.startswith("cuda.") for device in ids]
    environ = {
        **BASE_ENVIRONMENT,
        "HOME": HOME,
        **({} if gpus else {"NVIDIA_VISIBLE_DEVICES": "void"}),  # else NVIDIA's hook may hand out all there are
        **task.environ,
    }
    config: dict[str, Any] = {
        "Image": task.image,
        "Hostname": task.hostname,
        "User": USER,
        "Env": [f"{name}={value}" for name, value in environ.items()],
        "Labels": {
            LABEL + "deployment": deployment,
            LABEL + "kernel": task.kernel_id,
            LABEL + "incarnation": str(task.incarnation),
            LABEL + "session": task.session_id,
        },
        "StopSignal": "SIGTERM",
        "HostConfig": {
            "NanoCpus": task.cpu_millis * 1_000_000,
            "Memory": task.mem_bytes,
            "MemorySwap": task.mem_bytes,  # both equal: no swap beyond the memory
            "PidsLimit": task.pids_max,
            "Privileged": False,
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges:true"],
            "IpcMode": "private",
            "CgroupnsMode": "private",
            "NetworkMode": network_name(deployment),
            "Init": True,
            "RestartPolicy": {"Name": "no"},
            "LogConfig": {
                "Type": "json-file",
                "Config": {"max-size": str(log_bytes_max), "max-file": "2"},
            },
            "DeviceRequests": [{"Driver": "nvidia", "DeviceIDs": gpus, "Capabilities": [["gpu"]]}] if gpus else [],
        },
    }
    if task.command is not None:
        config["Entrypoint"] = list(task.command)  # and no Cmd: the image's own would come behind it otherwise
    return config


def network_name(deployment: str) -> str:
    """The bridge all kernels of a host are on. They reach the world through it, but not each other."""
    return f"{deployment}-kernels"
