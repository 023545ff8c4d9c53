"""`/config/{get,set,delete}`: the cluster-wide configuration of the reference, which it keeps in etcd."""

from typing import Any, Final
from uuid import UUID, uuid5

from fastapi import APIRouter, Request
from pydantic import Field, ValidationError
from starlette.responses import Response

from api.access.authority import only_superadmins
from api.access.secrets import sealed_for_registry
from api.cluster import config_keys, idle_keys
from api.cluster.config_keys import Told
from api.giving import Giving
from api.http.answers import json
from api.http.deps import All, Caller, Directory, Services
from api.http.parameters import Parameters, answers, in_body
from api.http.problems import invalid
from api.writing import now
from domain.directory.messages.cluster import SetUtilisationRule
from domain.directory.messages.images import (
    CreateRegistry,
    DeleteRegistry,
    ModifyRegistry,
    RegistryChanges,
    RegistrySpec,
)

router = APIRouter(prefix="/config", tags=["config"])

_DONE: Final = {"result": "ok"}
_REGISTRY: Final = "config/docker/registry/cr.example.org"


class Of(Parameters):
    """`prefix`: all that stands under the key."""

    key: str = Field(min_length=1, max_length=512)
    prefix: bool = False


class New(Parameters):
    key: str = Field(min_length=1, max_length=512)
    value: Told = Field(description="A text, or several by an object.")


@router.post(
    "/get",
    openapi_extra=in_body(Of, key=_REGISTRY, prefix=False),
    responses=answers({"result": "https://cr.example.org"}),
)
async def get(request: Request, caller: Caller, all_: All, directory: Directory) -> Response:
    """What the key holds; null if there is no such key. Of passwords it is told only that they are there.

    For superadmins.
    """
    only_superadmins(caller.identity)
    asked = Of.of(request)
    held = config_keys.everything(
        directory, introspection=all_.settings.graphql_introspection, auto_pull=all_.settings.agent_auto_pull
    )
    held |= idle_keys.held(directory.utilisation_rule)
    key = config_keys.parts_of(asked.key)
    return json({"result": config_keys.under(key, held) if asked.prefix else held.get(key)})


@router.post(
    "/set", openapi_extra=in_body(New, key=_REGISTRY, value="https://cr.example.org"), responses=answers(_DONE)
)
async def set_(request: Request, caller: Caller, all_: All, directory: Directory) -> Response:
    """Enter a registry by its URL, or change it; say which sessions do too little. For superadmins."""
    only_superadmins(caller.identity)
    new = New.of(request)
    key = config_keys.parts_of(new.key)
    if idle_keys.is_idle_key(key):
        rule = idle_keys.rule_of(new.value)
        return await Giving(request, caller, all_).give(SetUtilisationRule(at=now(), rule=rule), _DONE)
    name, field = config_keys.registry_of(key)
    giving = Giving(request, caller, all_)
    changes = await _with_sealed_password(name, config_keys.changes_of(field, new.value), giving.command_id, all_)
    try:
        command: CreateRegistry | ModifyRegistry = (
            ModifyRegistry(at=now(), name=name, changes=changes)
            if name in directory.registries
            else CreateRegistry(at=now(), name=name, spec=RegistrySpec(**_whole(name, changes)))
        )
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        field = "key" if first["loc"] == ("name",) else "value"
        raise invalid(field, str(first["type"]), f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    # Whoever sends it again finds the registry there, and changes nothing: so these are two commands, with two ids.
    is_new = isinstance(command, CreateRegistry)
    command_id = str(uuid5(UUID(giving.command_id), "create")) if is_new else giving.command_id
    return await giving.give_all([(command_id, command)], _DONE)


@router.post("/delete", openapi_extra=in_body(Of, key=_REGISTRY, prefix=True), responses=answers(_DONE))
async def delete(request: Request, caller: Caller, all_: All) -> Response:
    """Forget a registry with its images, or one of the things that are said of it; let sessions do as little as they
    like. For superadmins."""
    only_superadmins(caller.identity)
    key = config_keys.parts_of(Of.of(request).key)
    if idle_keys.is_idle_key(key):
        return await Giving(request, caller, all_).give(SetUtilisationRule(at=now(), rule=None), _DONE)
    name, field = config_keys.registry_of(key)
    command: DeleteRegistry | ModifyRegistry = (
        ModifyRegistry(at=now(), name=name, changes=config_keys.without(field))
        if field
        else DeleteRegistry(at=now(), name=name)
    )
    return await Giving(request, caller, all_).give(command, _DONE)


def _whole(name: str, changes: RegistryChanges) -> dict[str, Any]:
    if "url" not in changes:
        raise invalid("key", "unknown", f"there is no registry {name[:64]}: set its URL first")
    return dict(changes)


async def _with_sealed_password(
    name: str, changes: RegistryChanges, command_id: str, all_: Services
) -> RegistryChanges:
    password = changes.get("password")
    if password is None:
        return changes
    return {**changes, "password": await sealed_for_registry(all_, name, password, command_id)}
