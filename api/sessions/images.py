"""Which image a session starts from, what its kernels may have of each resource, and which services they offer. Pure.

An image that is registered says what it needs. One that is not may be used as it is written, where the installation
allows that (`REFOLD_UNREGISTERED_IMAGES`) and it is not of a registry that the session's domain may not use.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from api.http.problems import Problem, invalid
from domain.directory.images import Image, ServicePort
from domain.directory.messages.images import LOCAL
from domain.directory.state import Directory
from domain.messages import UserId
from domain.slots import Slots, show

PREOPEN: Final = "preopen"
"""The protocol, as clients know it, of a port that a session was asked for with."""

INTRINSIC: Final[Mapping[str, ServicePort]] = {
    "sshd": ServicePort("sshd", "tcp", 2200),
    "ttyd": ServicePort("ttyd", "http", 7681),
}
"""Services of every kernel in a container, whatever its image brings (`agents/runner/services.py`)."""


@dataclass(frozen=True, slots=True)
class Asked:
    """`slots`: those of each kernel that are named; `defaults` count where neither a name nor the image says more.

    `user_id`: whose session it is to be.
    """

    image: str
    architecture: str
    domain: str
    slots: Slots
    defaults: Slots
    user_id: UserId | None = None


@dataclass(frozen=True, slots=True)
class Fields:
    """What the request calls these three. `slots` is followed by the slot's name."""

    image: str
    architecture: str
    slots: str


@dataclass(frozen=True, slots=True)
class Chosen:
    """The image as agents know it, and all slots of a kernel."""

    image: str
    slots: dict[str, int]


def chosen(asked: Asked, fields: Fields, directory: Directory, *, unregistered: bool) -> Chosen:
    """What is asked for, completed by what its image says. `unregistered`: whether any image will do.

    Raises `Problem`. What the domain may not use is refused in the words in which a thing that does not exist is.
    """
    allowed = directory.domains[asked.domain].spec.allowed_docker_registries
    image = directory.resolve_image(asked.image, asked.architecture, allowed, asked.user_id)
    if image is None:
        _refuse_other_architecture(asked, fields, directory)
        if not unregistered or _is_out_of_bounds(asked.image, allowed, directory):
            raise _no_image(asked.image, fields)
        return Chosen(asked.image, {**asked.defaults, **asked.slots})
    defaults = {slot: min(units, _most(image, slot, units)) for slot, units in asked.defaults.items()}
    slots = {**defaults, **_needed(image, asked.slots), **asked.slots}
    for slot, units in slots.items():
        _refuse_wrong_amount(image, slot, units, f"{fields.slots}.{slot}")
    return Chosen(image.reference, slots)


def services_of(
    reference: str, architecture: str, directory: Directory, preopen: Sequence[int] = ()
) -> Mapping[str, ServicePort]:
    """By name: the image's, as far as it is registered, those that the runner brings into every kernel, and the ports
    that the session was asked for with (`preopen`): what listens there is its user's affair."""
    image = directory.images.get((reference, architecture))
    own = {str(port): ServicePort(str(port), PREOPEN, port) for port in preopen}
    return {**own, **({} if image is None else image.services), **INTRINSIC}


def shown_services(
    reference: str, architecture: str, directory: Directory, preopen: Sequence[int] = ()
) -> list[dict[str, Any]]:
    """As clients know them."""
    return [
        {"name": service.name, "protocol": service.protocol, "ports": [service.port]}
        for service in services_of(reference, architecture, directory, preopen).values()
    ]


def _refuse_other_architecture(asked: Asked, fields: Fields, directory: Directory) -> None:
    allowed = directory.domains[asked.domain].spec.allowed_docker_registries
    if others := directory.architectures_of(asked.image, allowed):
        detail = f"the image {asked.image} is for {', '.join(others)}, not for {asked.architecture}"
        raise invalid(fields.architecture, "unknown", detail)


def _is_out_of_bounds(name: str, allowed: tuple[str, ...], directory: Directory) -> bool:
    """Whether it is, or would be, of a registry that is there but not for this domain."""
    registry = directory.registry_of(name)
    return (registry != LOCAL and registry not in allowed) or bool(directory.architectures_of(name))


def _no_image(name: str, fields: Fields) -> Problem:
    detail = f"there is no image {name[:80]}"
    data = {fields.image: detail}
    return Problem(404, "image-not-found", "No such image", detail, field=fields.image, rule="unknown", data=data)


def _needed(image: Image, asked: Slots) -> dict[str, int]:
    """The image's minimum of each device of which the request names nothing.

    Of a device that is given in several ways (`cuda.device`, `cuda.shares`), in the first of them only.
    """
    named = {_device(slot) for slot in asked}
    needed: dict[str, int] = {}
    for slot in sorted(image.resources):
        if image.minimum(slot) and _device(slot) not in named:
            needed[slot] = image.minimum(slot)
            named.add(_device(slot))
    return needed


def _refuse_wrong_amount(image: Image, slot: str, units: int, field: str) -> None:
    if units and not image.supports(slot):
        raise invalid(field, "unsupported", f"the image {image.reference} has no use for {slot}")
    if units < image.minimum(slot):
        least = show({slot: image.minimum(slot)})[slot]
        raise invalid(field, "under_minimum", f"the image {image.reference} needs at least {least} of {slot}")
    if units > _most(image, slot, units):
        most = show({slot: _most(image, slot, units)})[slot]
        raise invalid(field, "over_maximum", f"the image {image.reference} may have at most {most} of {slot}")


def _most(image: Image, slot: str, units: int) -> int:
    """Its maximum, or as much as that where there is none."""
    maximum = image.maximum(slot)
    return units if maximum is None else maximum


def _device(slot: str) -> str:
    return slot.partition(".")[0]
