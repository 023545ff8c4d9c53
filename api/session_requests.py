"""What people write when they ask for a session, and the command it becomes.

The shapes are those of the public client. What it sends and we do not need is passed over; what it asks for and we
cannot do yet is refused by name, because an option silently dropped is worse than a "no".
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Annotated, Any, Final, Literal
from uuid import UUID, uuid5

import orjson
from pydantic import AfterValidator, AliasChoices, BaseModel, ConfigDict, Field

from api.auth import Caller
from api.authority import sees_project, sight
from api.environ import Environ
from api.images import Asked, Fields, chosen
from api.problems import Problem, invalid, unsupported
from domain.directory.messages.cluster import ManagerStatus
from domain.directory.state import Directory, Project, ResourceGroup
from domain.messages import AccessKey, KernelId, SessionId
from domain.session.messages import RequestSession, Seat, SessionName, SessionSpec
from domain.session.status import ClusterMode, SessionType
from domain.slots import parse

_DEFAULT_RESOURCES: Final[Mapping[str, str]] = {"cpu": "1", "mem": "256m"}
"""Per kernel, where neither the request nor the image names any."""

_DEFAULT_GROUP: Final = "default"

_AMOUNT: Final = re.compile(r"\d{1,19}(\.\d{1,9})?\s*([kmgtpezy]?(i?b)?)?", re.IGNORECASE)


def _amount(value: str | int | float) -> str:
    """Text of an amount: nothing that takes a machine longer to expand than a person to write."""
    text = str(value)
    if _AMOUNT.fullmatch(text) is None:
        raise ValueError("an amount is digits, optionally with a fraction and a unit of bytes, as in 0.5 or 512m")
    return text


Amount = Annotated[str | int | float, AfterValidator(_amount)]


class Config(BaseModel):
    """The creation config."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True)

    environ: Environ | None = None
    resources: dict[str, Amount] | None = Field(None, description="Slots of each kernel.", max_length=64)
    resource_group: str | None = Field(None, alias="scalingGroup", max_length=64)
    cluster_size: int | None = Field(None, alias="clusterSize", ge=1, le=512, description="As older clients send it.")
    resource_opts: dict[str, Any] | None = None
    mounts: list[Any] | None = None
    mount_map: dict[str, Any] | None = None
    mount_ids: list[Any] | None = None
    mount_id_map: dict[str, Any] | None = None
    mount_options: dict[str, Any] | None = None
    preopen_ports: list[Any] | None = None
    agent_list: list[Any] | None = Field(None, alias="agentList")


class NewSession(BaseModel):
    """A request for a session."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True)

    image: str = Field(validation_alias=AliasChoices("image", "lang"), min_length=1, max_length=512)
    name: SessionName | None = Field(
        None,
        validation_alias=AliasChoices("name", "clientSessionToken"),
        description="Unique among the living sessions of the access key; made up when left out.",
    )
    session_type: Literal["interactive", "batch"] = Field("interactive", alias="type")
    enqueue_only: bool = Field(False, alias="enqueueOnly", description="Answer at once, while it still waits.")
    max_wait_seconds: int = Field(
        0, alias="maxWaitSeconds", ge=0, le=7 * 86400, description="Longest wait until it runs; 0: no limit."
    )
    reuse_if_exists: bool = Field(
        True, alias="reuseIfExists", description="A living session of that name and image is as good."
    )
    domain: str = Field("default", max_length=64)
    group: str = Field("default", max_length=64, description="The project.")
    tag: str | None = Field(None, max_length=64)
    architecture: str = Field("x86_64", max_length=32)
    cluster_size: int = Field(1, alias="clusterSize", ge=1, le=512)
    cluster_mode: ClusterMode = Field(ClusterMode.SINGLE_NODE, alias="clusterMode")
    startup_command: str | None = Field(None, alias="startupCommand", max_length=65536)
    owner_access_key: str | None = Field(None, max_length=64, description="For admins: whose session it is to be.")
    config: Config = Field(default_factory=Config)

    bootstrap_script: str | None = None
    callback_url: str | None = Field(None, validation_alias=AliasChoices("callback_url", "callbackURL"))
    dependencies: list[Any] | None = None
    starts_at: str | None = None


_NOT_YET: Final = ("bootstrap_script", "callback_url", "dependencies", "starts_at")
_NOT_YET_IN_CONFIG: Final = (
    "mounts",
    "mount_map",
    "mount_ids",
    "mount_id_map",
    "mount_options",
    "preopen_ports",
    "resource_opts",
    "agent_list",
)


def parse_new_session(body: bytes) -> NewSession:
    """Read a body. Raises `ValidationError`, or `Problem` for an option that has no effect yet."""
    return supported(NewSession.model_validate_json(refuse_nul(body)))


def supported(new: NewSession) -> NewSession:
    """Itself. Raises `Problem` for an option that has no effect yet."""
    for field in _NOT_YET:
        if getattr(new, field):
            raise unsupported(field)
    for field in _NOT_YET_IN_CONFIG:
        if getattr(new.config, field):
            name = Config.model_fields[field].alias or field
            raise unsupported(f"config.{name}")
    return new


def refuse_nul(body: bytes) -> bytes:
    """Refuses NUL characters, which neither a container nor a database takes. Raises `Problem`."""
    if b"\\u0000" in body and "\x00" in _texts(body):
        raise invalid("body", "no_nul", "NUL characters are not allowed")
    return body


def _texts(body: bytes) -> str:
    """All strings of a JSON body in one; empty if it is none, which is found out later."""
    found: list[str] = []

    def walk(value: Any) -> None:
        match value:
            case str():
                found.append(value)
            case list():
                for each in value:
                    walk(each)
            case dict():
                for name, each in value.items():
                    found.append(name)
                    walk(each)

    try:
        walk(orjson.loads(body))
    except (orjson.JSONDecodeError, RecursionError):
        return ""
    return "\n".join(found)


def request_session(
    new: NewSession, caller: Caller, command_id: str, at: datetime, directory: Directory, *, unregistered: bool
) -> RequestSession:
    """The command, without the environment, which has to be sealed (`api.environ.with_environ`).

    What it makes up derives from the command's id, so that a retry is the same command. `unregistered`: whether it may
    start from any image. Raises `Refused` for bad amounts, `Problem` for a project, resource group or image that is not
    there or not his, and for what the image may not have.
    """
    session_id = session_id_of(command_id)
    config = new.config
    project, group = _allowed(config.resource_group, new.domain, new.group, _OF_CLIENT, caller, directory)
    asked = Asked(
        image=new.image,
        architecture=new.architecture,
        domain=new.domain,
        slots=parse(_texts_of(config.resources), "config.resources"),
        defaults=parse(_DEFAULT_RESOURCES),
    )
    image = chosen(asked, _OF_CLIENT.image, directory, unregistered=unregistered)
    size = config.cluster_size if config.cluster_size and new.cluster_size == 1 else new.cluster_size
    return RequestSession(
        at=at,
        owner=AccessKey(caller.owner),
        session_id=session_id,
        name=new.name or f"session-{session_id[:8]}",
        reuse=new.reuse_if_exists,
        kernels=_seats(session_id, size),
        spec=SessionSpec(
            session_type=SessionType(new.session_type),
            image=image.image,
            architecture=new.architecture,
            slots=image.slots,
            startup_command=new.startup_command,
            cluster_mode=new.cluster_mode,
            cell=group.cell,
            resource_group=group.name,
            domain=new.domain,
            project=new.group,
            project_id=project.project_id,
            tag=new.tag,
        ),
    )


def _texts_of(resources: Mapping[str, str | int | float] | None) -> dict[str, str]:
    return {name: str(amount) for name, amount in (resources or {}).items()}


def session_id_of(command_id: str) -> SessionId:
    """The id of the session a command asks for: nobody chooses one, so nobody can name another's."""
    return SessionId(str(uuid5(UUID(command_id), "session")))


def with_ids(told: Mapping[str, Any], command_id: str) -> dict[str, Any]:
    """A `RequestSession` as people give it, with the ids of its session and kernels filled in."""
    session_id = session_id_of(command_id)
    filled: list[Any] = []
    seats = told.get("kernels") or [{"role": "main", "index": 1}]
    for seat in seats if isinstance(seats, list) else [seats]:
        if isinstance(seat, dict):
            name = f"{seat.get('role')}{seat.get('index')}"
            seat = {**seat, "kernel_id": str(uuid5(UUID(session_id), name)) if filled else session_id}
        filled.append(seat)
    return {**told, "session_id": session_id, "kernels": filled}


@dataclass(frozen=True, slots=True)
class _Fields:
    """What the request calls these."""

    domain: str
    project: str
    group: str
    image: Fields


_OF_CLIENT: Final = _Fields(
    "domain", "group", "config.scalingGroup", Fields("image", "architecture", "config.resources")
)
_OF_COMMAND: Final = _Fields(
    "spec.domain", "spec.project", "spec.resource_group", Fields("spec.image", "spec.architecture", "spec.slots")
)


def completed(command: RequestSession, caller: Caller, directory: Directory, *, unregistered: bool) -> RequestSession:
    """The command with its project, the cell of its resource group, and its image as agents know it.

    `unregistered`: as of `request_session`. Raises `Problem` where one of them may not be used.
    """
    spec = command.spec
    caller = replace(caller, owner=command.owner)
    project, group = _allowed(spec.resource_group, spec.domain, spec.project, _OF_COMMAND, caller, directory)
    asked = Asked(spec.image, spec.architecture, spec.domain, spec.slots, defaults={})
    image = chosen(asked, _OF_COMMAND.image, directory, unregistered=unregistered)
    found = {"cell": group.cell, "project_id": project.project_id, "image": image.image, "slots": image.slots}
    return command.model_copy(update={"spec": spec.model_copy(update=found)})


def _allowed(
    name: str | None, domain: str, project_name: str, fields: _Fields, caller: Caller, directory: Directory
) -> tuple[Project, ResourceGroup]:
    """The project a session of the caller's may be in, and the resource group it may wait for.

    That is, without a name, the one called `default`, else the first there is.

    Raises `Problem`. What he may not use is refused in the words in which a thing that does not exist is refused.
    """
    _refuse_frozen(directory)
    project = _project(domain, project_name, fields, caller, directory)
    if name is None:
        usable = directory.groups_for(domain, project.project_id, caller.owner)
        if not usable:
            raise invalid(fields.group, "missing", f"there is no resource group for sessions of {project_name}")
        name = _DEFAULT_GROUP if _DEFAULT_GROUP in usable else usable[0]
    group = directory.groups.get(name)
    if group is None or not group.spec.active or not group.is_granted(domain, project.project_id, caller.owner):
        raise invalid(fields.group, "unknown", f"there is no resource group {name}")
    return project, group


def _refuse_frozen(directory: Directory) -> None:
    if directory.manager_status is ManagerStatus.FROZEN:
        raise Problem(
            503,
            "server-frozen",
            "The server is frozen due to maintenance",
            "no new sessions are taken at the moment; those that are there go on",
            retryable=True,
            retry_after=60,
        )


def _project(domain: str, name: str, fields: _Fields, caller: Caller, directory: Directory) -> Project:
    """One that whoever the session is for is in, or whose admin the caller is."""
    project = directory.project(domain, name)
    if project is None or not _may_use(project, caller, directory):
        raise invalid(fields.project, "unknown", f"there is no project {name} in the domain {domain}")
    if not directory.domains[domain].spec.active:
        raise invalid(fields.domain, "inactive", f"the domain {domain} is not active")
    if not project.spec.active:
        raise invalid(fields.project, "inactive", f"the project {name} is not active")
    return project


def _may_use(project: Project, caller: Caller, directory: Directory) -> bool:
    owner = directory.identity(caller.owner) or caller.identity
    return project.project_id in owner.user.projects or (
        not sight(caller.identity).own_only and sees_project(caller.identity, project)
    )


def _seats(session_id: SessionId, size: int) -> tuple[Seat, ...]:
    """main1 has the session's own id (SES-13); sub1, sub2… have ids that derive from it."""
    main = Seat(kernel_id=KernelId(session_id), role="main", index=1)
    subs = [
        Seat(kernel_id=KernelId(str(uuid5(UUID(session_id), f"sub{index}"))), role="sub", index=index)
        for index in range(1, size)
    ]
    return (main, *subs)
