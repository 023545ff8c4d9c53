"""`POST /session/_/create-from-template`: a session like a template's, but for what the request says otherwise."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from fastapi import APIRouter, Request
from pydantic import AliasChoices, BaseModel, Field
from starlette.responses import Response

from api.access.auth import Caller as Signer
from api.accounts.template_schema import Task
from api.accounts.templates import opened
from api.http.deps import All, Caller, Services
from api.http.parameters import Parameters, answers, in_body, told_in
from api.http.problems import invalid, refused, unsupported
from api.sessions.requests import Config, NewSession, supported
from api.sessions.routes import create_session
from domain.directory.messages.personal import Template, TemplateId, TemplateKind

router = APIRouter(tags=["sessions"])

_ID: Final = "0f0c1c2d3e4f5a6b8c9d0e1f2a3b4c5d"
_CREATED: Final = {"sessionId": "7f8c5e9e-6d6e-4b0e-9b39-0f6f0c1c2d3e", "status": "PENDING", "created": True}
_MOUNTS: Final = ("mounts", "mount_map", "mount_ids", "mount_id_map", "mount_options")
"""Which folders, and where: who says something about that says all of it."""


class FromTemplate(Parameters):
    """Beside these, all that a request for a session may say."""

    template_id: str = Field(max_length=64, validation_alias=AliasChoices("template_id", "templateId"))
    owner_access_key: str | None = Field(None, max_length=64)


@router.post(
    "/session/_/create-from-template",
    status_code=201,
    openapi_extra=in_body(FromTemplate, template_id=_ID, name="training-7", enqueueOnly=True),
    responses=answers(_CREATED, "It is new.", 201),
)
async def create_from_template(request: Request, caller: Caller, all_: All) -> Response:
    """As `POST /session`. What the request says (other than null) replaces what the template says, as a whole.

    The template is one of whoever the session is for.
    """
    asked = FromTemplate.of(request)
    owner = all_.gate.acting_for(caller, asked.owner_access_key)
    template = _task_of(asked.template_id, owner, all_)
    body = await opened(asked.template_id, template, all_)
    told = _without_nulls(told_in(request))
    return await create_session(request, supported(merged(Task.model_validate(body), _place(template, all_), told)))


def _task_of(template_id: str, owner: Signer, all_: Services) -> Template:
    """Raises `Problem` (404) also for what is somebody else's."""
    directory = all_.tail.directory
    template = directory.templates.get(TemplateId(template_id))
    user = (directory.identity(owner.owner) or owner.identity).user
    if template is None or template.owner != user.user_id:
        raise refused("unknown_template", f"no template {template_id}", "template_id")
    if template.kind is not TemplateKind.TASK:
        raise invalid("template_id", "task", "sessions are made from task templates; this is one of a cluster")
    return template


def _place(template: Template, all_: Services) -> dict[str, str]:
    """Domain and project of the template, as they are called now."""
    project = all_.tail.directory.projects.get(template.project_id)
    return {"domain": template.domain} | ({} if project is None else {"group": project.name})


def merged(task: Task, place: Mapping[str, str], told: Mapping[str, Any]) -> NewSession:
    """The request that the template stands for, with all that is told in place of its own. Pure.

    Raises `ValidationError`, and `Problem` for what of the template has no effect yet.
    """
    config = told.get("config", {})
    if not isinstance(config, dict):
        raise invalid("config", "dict_type", "config must be an object")
    own, own_config = _request_of(task)
    if any(name in config for name in _MOUNTS):
        own_config = {name: value for name, value in own_config.items() if name not in _MOUNTS}
    return NewSession.model_validate(
        {
            **_unless_told(NewSession, {**own, **place}, told),
            **told,
            "config": {**_unless_told(Config, own_config, config), **config},
        }
    )


def _request_of(task: Task) -> tuple[dict[str, Any], dict[str, Any]]:
    """Fields of `NewSession` and of its `Config`."""
    kernel, mounts = task.spec.kernel, task.spec.mounts or {}
    run = None if kernel is None else kernel.run
    if kernel is not None and kernel.git is not None:
        raise unsupported("template.spec.kernel.git")
    own = {
        "image": None if kernel is None else kernel.image,
        "session_type": task.spec.session_type,
        "tag": task.metadata.tag,
        "startup_command": None if run is None else run.startup_command,
        "bootstrap_script": None if run is None else run.bootstrap,
    }
    config = {
        "environ": None if kernel is None else kernel.environ,
        "resources": task.spec.resources,
        "mounts": list(mounts) or None,
        "mount_map": {name: path for name, path in mounts.items() if path} or None,
    }
    return _without_nulls(own), _without_nulls(config)


def _unless_told(model: type[BaseModel], own: Mapping[str, Any], told: Mapping[str, Any]) -> dict[str, Any]:
    return {field: value for field, value in own.items() if not any(name in told for name in _spellings(model, field))}


def _spellings(model: type[BaseModel], field: str) -> Iterator[str]:
    """Every name under which clients may send the field."""
    yield field
    for alias in (model.model_fields[field].alias, model.model_fields[field].validation_alias):
        match alias:
            case str():
                yield alias
            case AliasChoices():
                yield from (each for each in alias.choices if isinstance(each, str))


def _without_nulls(told: Mapping[str, Any]) -> dict[str, Any]:
    """Null means "not said" (catalogue §2.6), also within."""
    return {
        name: _without_nulls(value) if isinstance(value, dict) else value
        for name, value in told.items()
        if value is not None
    }
