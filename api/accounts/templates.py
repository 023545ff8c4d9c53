"""Templates: what people ask for again and again, kept under a name.   /template/session, /template/cluster"""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal
from uuid import UUID, uuid5

import orjson
import yaml
from fastapi import APIRouter, Path, Request
from pydantic import AliasChoices, Field
from starlette.responses import Response

from api.access.auth import Caller as Signer
from api.access.authority import sight
from api.access.secrets import revealed, sealed
from api.access.tenancy import project_seen
from api.accounts.template_schema import Json, drafts
from api.giving import Giving
from api.http.answers import json
from api.http.deps import All, Caller, Directory, Services
from api.http.parameters import Parameters, answers, in_body, in_query
from api.http.problems import invalid, refused
from api.writing import now
from domain.directory.messages.personal import (
    CreateTemplate,
    DeleteTemplate,
    ModifyTemplate,
    Template,
    TemplateId,
    TemplateKind,
)
from domain.directory.state import Directory as State
from infra.keyring import Forgotten
from infra.secrets import CannotUnseal

router = APIRouter(prefix="/template", tags=["templates"])

Kind = Annotated[Literal["session", "cluster"], Path(description="Of one kernel, or of several with roles.")]

_KINDS: Final[Mapping[str, TemplateKind]] = {"session": TemplateKind.TASK, "cluster": TemplateKind.CLUSTER}
_ID: Final = "0f0c1c2d3e4f5a6b8c9d0e1f2a3b4c5d"
_PAYLOAD: Final = """\
apiVersion: v1
kind: taskTemplate
metadata:
  name: training
spec:
  kernel:
    image: python:3.9-ubuntu20.04
  resources: {cpu: 2, mem: 4g}
"""
_CREDENTIAL: Final = ("spec", "kernel", "git", "credential")
_VARIABLES: Final = (("spec", "kernel", "environ"), ("spec", "environ"))
"""Where variables stand in a template of a task, and in one of a cluster."""

_HIDDEN: Final = "********"
_BYTES_MAX: Final = 128 * 1024


class Payload(Parameters):
    """YAML or JSON text, or the template itself."""

    payload: str | dict[str, Any] | list[Any]
    owner_access_key: str | None = Field(None, max_length=64)


class NewTemplate(Payload):
    group: str = Field("default", max_length=128, validation_alias=AliasChoices("group", "groupName", "group_name"))
    domain: str | None = Field(
        None, max_length=64, validation_alias=AliasChoices("domain", "domainName", "domain_name")
    )


class Listed(Parameters):
    all: bool = Field(False, description="Also those of others, whom an admin sees.")


class Form(Parameters):
    format: Literal["yaml", "json"] | None = None


@router.post(
    "/{kind}",
    openapi_extra=in_body(NewTemplate, payload=_PAYLOAD, group_name="default", domain_name="default"),
    responses=answers([{"id": _ID, "user": "9d2f3f9e"}]),
)
async def create(kind: Kind, request: Request, caller: Caller, all_: All, directory: Directory) -> Response:
    """Keep one, or several."""
    new = NewTemplate.of(request)
    caller = all_.gate.acting_for(caller, new.owner_access_key)
    owner = (directory.identity(caller.owner) or caller.identity).user
    project = project_seen(new.group, new.domain or owner.spec.domain, caller, directory)
    giving = Giving(request, caller, all_)
    commands = []
    for number, draft in enumerate(drafts(new.payload, _KINDS[kind])):
        command_id = giving.command_id if number == 0 else str(uuid5(UUID(giving.command_id), str(number)))
        template_id = TemplateId(uuid5(UUID(command_id), "template").hex)
        template = Template(
            kind=_KINDS[kind],
            name=draft.name,
            domain=project.domain,
            project_id=project.project_id,
            owner=owner.user_id,
            body=await _sealed(draft.body, template_id, owner.user_id, command_id, all_),
        )
        commands.append((command_id, CreateTemplate(at=now(), template_id=template_id, template=template)))
    told = [{"id": command.template_id, "user": owner.user_id} for _, command in commands]
    return await giving.give_all(commands, told)


@router.get(
    "/{kind}",
    openapi_extra=in_query(Listed),
    responses=answers([{"id": _ID, "name": "training", "is_owner": True, "type": "task"}]),
)
async def list_templates(kind: Kind, request: Request, caller: Caller, all_: All, directory: Directory) -> Response:
    """The caller's own, by name; without passwords and values of variables."""
    asked = Listed.of(request)
    owner = (directory.identity(caller.owner) or caller.identity).user.user_id
    found = [
        await _entry(template_id, template, owner, all_, directory)
        for template_id, template in directory.templates.items()
        if template.kind is _KINDS[kind]
        and (template.owner == owner or (asked.all and _is_seen(template, caller, directory)))
    ]
    return json(sorted(found, key=lambda entry: (entry["name"], entry["id"])))


@router.get("/{kind}/{template_id}", openapi_extra=in_query(Form))
async def show(
    kind: Kind, template_id: str, request: Request, caller: Caller, all_: All, directory: Directory
) -> Response:
    """As it was given: YAML, or JSON (`format`). Others than its owner see no password and no value of a variable."""
    form = Form.of(request).format
    template = _seen(kind, template_id, caller, directory)
    body = await opened(template_id, template, all_)
    if template.owner != caller.identity.user.user_id:
        body = _hidden(body)
    if form == "yaml":
        return Response(yaml.safe_dump(body, sort_keys=False, allow_unicode=True), media_type="application/yaml")
    return json(body)


@router.put(
    "/{kind}/{template_id}", openapi_extra=in_body(Payload, payload=_PAYLOAD), responses=answers({"success": True})
)
async def update(
    kind: Kind, template_id: str, request: Request, caller: Caller, all_: All, directory: Directory
) -> Response:
    """Another content for it, and perhaps another name."""
    new = Payload.of(request)
    template = _seen(kind, template_id, caller, directory)
    given = drafts(new.payload, template.kind)
    if len(given) != 1:
        raise invalid("payload", "count", "one template is changed at a time")
    giving = Giving(request, caller, all_)
    body = await _sealed(given[0].body, template_id, template.owner, giving.command_id, all_)
    command = ModifyTemplate(at=now(), template_id=TemplateId(template_id), name=given[0].name, body=body)
    return await giving.give(command, {"success": True})


@router.delete("/{kind}/{template_id}", responses=answers({"success": True}))
async def delete(
    kind: Kind, template_id: str, request: Request, caller: Caller, all_: All, directory: Directory
) -> Response:
    """Sessions that were made from it go on."""
    _seen(kind, template_id, caller, directory)
    command = DeleteTemplate(at=now(), template_id=TemplateId(template_id))
    return await Giving(request, caller, all_).give(command, {"success": True})


async def _entry(template_id: str, template: Template, owner: str, all_: Services, directory: State) -> Json:
    try:
        body = _hidden(await opened(template_id, template, all_))
    except (Forgotten, CannotUnseal):
        body = None
    user = directory.users.get(template.owner)
    project = directory.projects.get(template.project_id)
    return {
        "id": template_id,
        "name": template.name,
        "created_at": directory.templates_since[TemplateId(template_id)],
        "is_owner": template.owner == owner,
        "user": template.owner,
        "user_email": None if user is None else user.email,
        "group": template.project_id,
        "group_name": None if project is None else project.name,
        "domain_name": template.domain,
        "type": template.kind,
        "template": body,
    }


def _seen(kind: str, template_id: str, caller: Signer, directory: State) -> Template:
    template = directory.templates.get(TemplateId(template_id))
    if template is None or template.kind is not _KINDS[kind] or not _is_seen(template, caller, directory):
        raise refused("unknown_template", f"no template {template_id[:80]}", "template_id")
    return template


def _is_seen(template: Template, caller: Signer, directory: State) -> bool:
    owner = directory.users.get(template.owner)
    return owner is not None and sight(caller.identity).user(owner)


# -- what is in it -----------------------------------------------------------------------------------------------------


async def opened(template_id: str, template: Template, all_: Services) -> Json:
    """As it was given. Raises `Forgotten`, `CannotUnseal`, `Unavailable`."""
    body: Json = orjson.loads(await revealed(all_, template.body, _about(template_id)))
    return body


async def _sealed(body: Json, template_id: str, subject: str, command_id: str, all_: Services) -> str:
    """All of it: passwords, variables and scripts stand in it."""
    text = orjson.dumps(body).decode()
    if len(text.encode()) > _BYTES_MAX:
        raise invalid("payload", "length", f"as JSON, a template has at most {_BYTES_MAX} bytes")
    return await sealed(all_, subject, text, _about(template_id), command_id)


def _hidden(body: Json) -> Json:
    """The same body, without what may be nobody's business but the owner's: a password, and the values of variables."""
    credential = _at(body, *_CREDENTIAL)
    if "password" in credential:
        credential["password"] = _HIDDEN
    for path in _VARIABLES:
        variables = _at(body, *path)
        variables.update(dict.fromkeys(variables, _HIDDEN))
    return body


def _at(body: Any, *path: str) -> Json:
    """The mapping there; an empty one if there is none."""
    for step in path:
        body = body.get(step) if isinstance(body, dict) else None
    return body if isinstance(body, dict) else {}


def _about(template_id: str) -> str:
    return f"template/{template_id}"
