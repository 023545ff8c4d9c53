"""What clients ask about the cluster before they offer a choice."""

from collections.abc import Mapping
from typing import Any, Final

from fastapi import APIRouter, Request
from pydantic import Field
from starlette.responses import Response

from api.access.authority import only_superadmins
from api.cluster.allocation import INTRINSIC
from api.http.answers import json
from api.http.deps import Caller, Directory, Known
from api.http.parameters import Parameters, answers, in_query
from domain.directory.messages.images import RegistryType
from domain.slots import is_bytes, is_whole

router = APIRouter(prefix="/config", tags=["config"])

_NAMES: Final[Mapping[str, tuple[str, str, str, str]]] = {
    "cpu": ("CPU", "CPU", "Core", "cpu"),
    "mem": ("RAM", "Memory", "GiB", "cpu"),
    "cuda.device": ("GPU", "CUDA-capable GPU", "GPU", "gpu1"),
    "cuda.shares": ("fGPU", "CUDA-capable GPU (fractional)", "fGPU", "gpu1"),
    "rocm.device": ("GPU", "ROCm-capable GPU", "GPU", "gpu2"),
    "tpu.device": ("TPU", "TPU device", "TPU", "tpu"),
}
"""Slot → name, description, unit and icon; another device is called what it is called."""


class OfGroup(Parameters):
    sgroup: str | None = Field(None, max_length=64, description="A resource group; left out: all of them.")


@router.get("/resource-slots", responses=answers({"cpu": "count", "mem": "bytes", "cuda.device": "count"}))
async def resource_slots(caller: Caller, known: Known) -> Response:
    """The slots of this cluster, and whether an amount of each is a count or bytes."""
    del caller
    slots = sorted(await known.slot_names() | INTRINSIC)
    return json({slot: "bytes" if is_bytes(slot) else "count" for slot in slots})


@router.get(
    "/resource-slots/details", openapi_extra=in_query(OfGroup), responses=answers({"cpu": {"slot_name": "cpu"}})
)
async def resource_slot_details(request: Request, caller: Caller, known: Known) -> Response:
    """How amounts of each slot are shown to people."""
    del caller
    group = OfGroup.of(request).sgroup
    slots = sorted(await known.slot_names(group) | INTRINSIC)
    told = await known.slot_formats(group)
    return json({slot: _as_told(slot, told[slot]) if slot in told else _details(slot) for slot in slots})


def _as_told(slot: str, told: Mapping[str, Any]) -> dict[str, Any]:
    """By the plugin of its devices."""
    number_format = {"binary": told["binary"], "round_length": told["round_length"]}
    names = ("human_readable_name", "description", "display_unit", "display_icon")
    return {"slot_name": slot, **{name: told[name] for name in names}, "number_format": number_format}


def _details(slot: str) -> dict[str, Any]:
    name, description, unit, icon = _NAMES.get(slot, (slot, slot, slot.partition(".")[0], "gpu1"))
    return {
        "slot_name": slot,
        "human_readable_name": name,
        "description": description,
        "display_unit": unit,
        "display_icon": icon,
        "number_format": {
            "binary": is_bytes(slot),
            "round_length": 0 if slot in INTRINSIC or is_whole(slot) else 2,
        },
    }


@router.get("/vfolder-types", responses=answers(["user", "group"]))
async def vfolder_types(caller: Caller) -> Response:
    """Who may own a folder."""
    del caller
    return json(["user", "group"])


@router.get("/docker-registries", responses=answers({"cr.example.org": "https://cr.example.org"}))
async def docker_registries(caller: Caller, directory: Directory) -> Response:
    """The registries images come from, and where they are. For superadmins."""
    only_superadmins(caller.identity)
    registries = sorted(directory.registries.items())
    return json({name: spec.url for name, spec in registries if spec.registry_type is not RegistryType.LOCAL})
