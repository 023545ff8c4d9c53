"""What may be asked for: resource groups, presets, and how much is left."""

from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import AliasChoices, Field
from starlette.responses import Response

from api.access.auth import Caller as Signer
from api.access.authority import only_superadmins
from api.access.tenancy import project_seen, projects_of
from api.cluster.allocation import Situation, check_presets, groups_of, in_order, preset
from api.http.answers import json
from api.http.deps import Caller, Directory, Known
from api.http.parameters import Parameters, answers, in_query
from api.http.problems import refused
from domain.directory.state import Directory as State
from domain.directory.state import Project

router = APIRouter(tags=["resources"])

ProjectReference = Annotated[str, Field(min_length=1, max_length=128, description="A project's name or id.")]

_PRESET = {"name": "small", "resource_slots": {"cpu": "1", "mem": "1073741824"}, "shared_memory": None}


class OfGroup(Parameters):
    scaling_group: str | None = Field(None, max_length=64)


class OfProject(Parameters):
    group: ProjectReference = Field(validation_alias=AliasChoices("group", "group_id", "group_name"))


class Checked(OfGroup):
    group: ProjectReference | None = Field(None, validation_alias=AliasChoices("group", "group_id", "group_name"))


@router.get("/resource/presets", openapi_extra=in_query(OfGroup), responses=answers({"presets": [_PRESET]}))
async def presets(request: Request, caller: Caller, directory: Directory, known: Known) -> Response:
    """Those of all resource groups, and those of the groups that the caller may use (or of one of them)."""
    asked = OfGroup.of(request)
    groups = _usable(asked.scaling_group, groups_usable(None, caller, directory))
    slots = await known.slot_names()
    return json({"presets": [preset(key[1], spec, slots) for key, spec in in_order(directory.presets, groups)]})


@router.post(
    "/resource/check-presets",
    openapi_extra=in_query(Checked),
    responses=answers({"keypair_remaining": {"cpu": "Infinity"}, "presets": [_PRESET | {"allocatable": True}]}),
)
async def check(request: Request, caller: Caller, directory: Directory, known: Known) -> Response:
    """How much the keypair may have, has and may still get, in a project (its first one) and its resource groups.

    `keypair_remaining` is the least of what its policy, the project and the domain leave; `Infinity`: no limit.
    """
    asked = Checked.of(request)
    project = _project(asked.group, caller, directory)
    owner = directory.identity(caller.owner) or caller.identity
    domain = owner.user.spec.domain if project is None else project.domain
    project_id = None if project is None else project.project_id
    groups = _usable(asked.scaling_group, directory.groups_for(domain, project_id, caller.owner))
    capacity = await known.capacity(
        owner=caller.owner,
        domain=domain,
        project_id=project_id,
        owners=owner.user.keypairs,
        groups=groups,
    )
    situation = Situation(
        keypair_policy=directory.keypair_policies[owner.keypair.spec.resource_policy],
        project_total={} if project is None else project.spec.total_resource_slots,
        domain_total=directory.domains[domain].spec.total_resource_slots,
        capacity=capacity,
        groups=groups,
        presets=directory.presets,
    )
    return json(check_presets(situation))


@router.post("/resource/recalculate-usage", responses=answers({}))
async def recalculate_usage(caller: Caller) -> Response:
    """There is nothing to do: what is in use is folded from the log, so it cannot drift. For superadmins."""
    only_superadmins(caller.identity)
    return json({})


@router.get(
    "/scaling-groups",
    openapi_extra=in_query(OfProject),
    responses=answers({"scaling_groups": [{"name": "default"}]}),
)
async def scaling_groups(request: Request, caller: Caller, directory: Directory) -> Response:
    """The resource groups that the caller's keypair may use in a project."""
    names = groups_usable(OfProject.of(request).group, caller, directory)
    return json({"scaling_groups": [{"name": name} for name in names]})


def groups_usable(reference: str | None, caller: Signer, directory: State) -> list[str]:
    """The resource groups that the caller's keypair may use in that project; None: in any of his. Raises `Problem`."""
    if reference is None:
        return groups_of(caller.identity.user.spec.domain, caller.owner, directory)
    project = project_seen(reference, None, caller, directory)
    return directory.groups_for(project.domain, project.project_id, caller.owner)


def _project(reference: str | None, caller: Signer, directory: State) -> Project | None:
    """The one that is named, else the one named `default`, else the first he is in. Raises `Problem` (404)."""
    if reference is not None:
        return project_seen(reference, None, caller, directory)
    own = projects_of(caller, directory)
    return next((each for each in own if each.name == "default"), own[0] if own else None)


def _usable(asked: str | None, groups: list[str]) -> list[str]:
    """Raises `Problem` (404) for one that is not among them: whether it is there is not told."""
    if asked is None:
        return groups
    if asked not in groups:
        raise refused("unknown_resource_group", f"no resource group {asked}", "scaling_group")
    return [asked]
