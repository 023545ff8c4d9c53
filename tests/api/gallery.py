"""The images in the world of the admin API.

The domain `home` may use the registry `cr.example.org` and what is local, `away` only what is local, and nobody's
domain `vault.example.org`. The agent has python, ours, and one that is not registered.
"""

from typing import Final

from domain.directory.messages.common import DirectoryCommand
from domain.directory.messages.images import (
    LOCAL,
    AliasImage,
    CreateRegistry,
    ImageFacts,
    LocalImage,
    RegisterImage,
    RegistrySpec,
    ReportAgentImages,
)
from domain.directory.messages.tenants import ModifyDomain
from tests.whole import AGENT, now

REGISTRY: Final = "cr.example.org"
VAULT: Final = "vault.example.org"
PYTHON: Final = f"{REGISTRY}/stable/python:3.11"
PIPELINE: Final = f"{REGISTRY}/ops/pipeline:1"
SECRET: Final = f"{VAULT}/hidden/secret:1"
DOOMED: Final = f"{VAULT}/hidden/doomed:1"
OURS: Final = "docker.io/library/ours:1"
DIGEST: Final = "sha256:" + "5e" * 32
LABELS: Final = {
    "ai.backend.resource.min.cpu": "1",
    "ai.backend.resource.min.mem": "256m",
    "ai.backend.resource.max.cpu": "8",
    "ai.backend.accelerators": "cuda,rocm",
}


def images() -> list[DirectoryCommand]:
    python = ImageFacts(registry=REGISTRY, digest=DIGEST, size_bytes=2**32, labels=LABELS)
    pipeline = ImageFacts(registry=REGISTRY, labels={"ai.backend.features": "batch operation"})
    has = [LocalImage(reference=each, architecture="x86_64") for each in (PYTHON, OURS, "docker.io/library/other:1")]
    return [
        *(CreateRegistry(at=now(), name=each, spec=RegistrySpec(url=f"https://{each}")) for each in (REGISTRY, VAULT)),
        ModifyDomain(at=now(), name="home", changes={"allowed_docker_registries": (REGISTRY, LOCAL)}),
        ModifyDomain(at=now(), name="away", changes={"allowed_docker_registries": (LOCAL,)}),
        RegisterImage(at=now(), reference=PYTHON, facts=python),
        RegisterImage(at=now(), reference=PYTHON, architecture="aarch64", facts=python),
        RegisterImage(at=now(), reference=PIPELINE, facts=pipeline),
        RegisterImage(at=now(), reference=SECRET, facts=ImageFacts(registry=VAULT)),
        RegisterImage(at=now(), reference=DOOMED, facts=ImageFacts(registry=VAULT)),
        RegisterImage(at=now(), reference=OURS, facts=ImageFacts(registry=LOCAL)),
        AliasImage(at=now(), reference=PYTHON, alias="py"),
        ReportAgentImages(at=now(), agent_id=AGENT, come=tuple(has)),
    ]
