"""What an image is, and what its rules and labels say about the sessions that may start from it.

An administrator's rules count before the image's labels. An image that says nothing takes any amount of anything.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from domain.directory.messages.images import Architecture, ImageFacts, ImageReference, ImageRules, Range
from domain.messages import Refused, UserId
from domain.slots import parse

ImageKey = tuple[ImageReference, Architecture]
"""Of an image: its canonical reference and its architecture."""

ANY: Final = "*"
"""Among accelerators: all of them."""

_MINIMUM: Final = "ai.backend.resource.min."
_MAXIMUM: Final = "ai.backend.resource.max."
_ACCELERATORS: Final = "ai.backend.accelerators"
_SERVICES: Final = "ai.backend.service-ports"
_SERVICE: Final = re.compile(r"(?P<name>[A-Za-z0-9]+(-[A-Za-z0-9]+)*):(?P<protocol>tcp|http|pty):(?P<port>\d{1,5})")
RESERVED_PORTS: Final = frozenset({2000, 2001, 2002, 2003, 2200, 7681})
"""The manual keeps them for the platform's own programs."""

OWNER_LABEL: Final = "ai.backend.customized-image.owner"
"""`user:<id>` on what was made of a session: in it may be what its user kept there for himself."""

_INTRINSIC: Final = frozenset({"cpu", "mem"})
"""Slots that every host has."""

_DOCKER_HUB: Final = "docker.io"
"""Where Docker looks for a name without a registry, and what it writes before it."""

_NONE: Final = Range()


@dataclass(frozen=True, slots=True)
class ServicePort:
    """A program of the image that listens inside a kernel once somebody wants it. `protocol`: tcp, http or pty."""

    name: str
    protocol: str
    port: int


@dataclass(frozen=True, slots=True)
class Image:
    """`registered_at`: when it was found for the first time."""

    reference: ImageReference
    architecture: Architecture
    facts: ImageFacts
    rules: ImageRules
    registered_at: datetime

    @property
    def key(self) -> ImageKey:
        return self.reference, self.architecture

    @property
    def registry(self) -> str:
        return self.facts.registry

    @property
    def resources(self) -> Mapping[str, Range]:
        """By slot, of those slots that the rules or else the labels name."""
        return _labelled_resources(self.facts.labels) if self.rules.resources is None else self.rules.resources

    @property
    def owner(self) -> UserId | None:
        """The only user whose sessions may start from it; None: it is for everybody who may use its registry."""
        scope, _, user_id = self.facts.labels.get(OWNER_LABEL, "").partition(":")
        return UserId(user_id) if scope == "user" and user_id else None

    def minimum(self, slot: str) -> int:
        """How much a kernel needs of it; 0 where nothing is said."""
        return self.resources.get(slot, _NONE).min

    def maximum(self, slot: str) -> int | None:
        """How much a kernel may have of it; None: no limit."""
        return self.resources.get(slot, _NONE).max

    @property
    def accelerators(self) -> frozenset[str]:
        """Devices it may have, such as `cuda`; `ANY` stands for all."""
        if self.rules.accelerators is not None:
            return frozenset(self.rules.accelerators)
        label = self.facts.labels.get(_ACCELERATORS)
        return frozenset({ANY}) if label is None else frozenset(each.strip() for each in label.split(",")) - {""}

    @property
    def services(self) -> Mapping[str, ServicePort]:
        """By name. Labels are written by whoever built the image: what is no service in them is passed over, and the
        first of a name counts."""
        services: dict[str, ServicePort] = {}
        for text in self.facts.labels.get(_SERVICES, "").split(","):
            match = _SERVICE.fullmatch(text.strip())
            if match is not None and 0 < int(match["port"]) < 65536 and int(match["port"]) not in RESERVED_PORTS:
                services.setdefault(match["name"], ServicePort(match["name"], match["protocol"], int(match["port"])))
        return services

    def supports(self, slot: str) -> bool:
        """Whether its kernels may have any of the slot at all."""
        device = slot.partition(".")[0]
        return device in _INTRINSIC or not self.accelerators.isdisjoint({ANY, device})


def canonical_names(name: str, registries: Iterable[str]) -> Iterator[str]:
    """The references that a name may be short for, the likeliest first: as it is written, then in each registry, then
    where Docker would look. Without a tag it means `latest`."""
    tagged = name if ":" in name.rpartition("/")[2] else f"{name}:latest"
    yield tagged
    for registry in (*registries, _DOCKER_HUB):
        yield f"{registry}/{tagged}"
        if "/" not in tagged:
            yield f"{registry}/library/{tagged}"  # where Docker Hub keeps the images without a project


def _labelled_resources(labels: Mapping[str, str]) -> dict[str, Range]:
    low, high = _labelled(labels, _MINIMUM), _labelled(labels, _MAXIMUM)
    return {slot: Range(min=low.get(slot, 0), max=high.get(slot)) for slot in low | high}


def _labelled(labels: Mapping[str, str], prefix: str) -> dict[str, int]:
    """Amounts by slot. Labels are written by whoever built the image: those that are no amounts say nothing."""
    amounts: dict[str, int] = {}
    for label, text in labels.items():
        if label.startswith(prefix):
            try:
                amounts |= parse({label.removeprefix(prefix): text})
            except Refused:
                continue
    return amounts
