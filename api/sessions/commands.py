"""The command that a request for a session becomes: with its project, its resource group, its image and its ids, and
checked for what cannot be."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final
from uuid import UUID, uuid5

from api.access.auth import Caller
from api.access.authority import sees_project, sight
from api.http.problems import Problem, invalid
from api.sessions.images import Asked, Fields, chosen, services_of
from api.sessions.requests import NewSession
from domain.directory.images import RESERVED_PORTS
from domain.directory.messages.cluster import ManagerStatus
from domain.directory.state import Directory, Project, ResourceGroup
from domain.messages import AccessKey, KernelId, SessionId, UserId
from domain.session.messages import RequestSession, Seat, SessionSpec
from domain.session.status import SessionType
from domain.slots import parse, show

_DEFAULT_RESOURCES: Final[Mapping[str, str]] = {"cpu": "1", "mem": "256m"}
"""Per kernel, where neither the request nor the image names any."""

_DEFAULT_GROUP: Final = "default"


def request_session(
    new: NewSession, caller: Caller, command_id: str, at: datetime, directory: Directory, *, unregistered: bool
) -> RequestSession:
    """The command, without what has to be sealed (`api.sessions.environ.with_given`).

    What it makes up derives from the command's id, so that a retry is the same command. `unregistered`: whether it may
    start from any image. Raises `Refused` for bad amounts, `Problem` for a project, resource group or image that is not
    there or not his, for what the image may not have, and for what cannot be.
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
        user_id=_user_of(caller, directory),
    )
    image = chosen(asked, _OF_CLIENT.image, directory, unregistered=unregistered)
    size = config.cluster_size if config.cluster_size and new.cluster_size == 1 else new.cluster_size
    spec = SessionSpec(
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
        runtime_class=config.runtime_class,
        shm_bytes=_shm_bytes(new),
        preopen_ports=config.preopen_ports or (),
        fence_after_seconds=config.fence_after_seconds,
    )
    _refuse_impossible(spec, _OF_CLIENT, directory)
    return RequestSession(
        at=at,
        owner=AccessKey(caller.owner),
        session_id=session_id,
        name=new.name or f"session-{session_id[:8]}",
        reuse=new.reuse_if_exists,
        kernels=_seats(session_id, size),
        spec=spec,
    )


def _shm_bytes(new: NewSession) -> int:
    """0: the runtime's default. Raises `Refused`."""
    options = new.config.resource_opts
    if options is None or options.shm is None:
        return 0
    return parse({"mem": str(options.shm)}, "config.resource_opts.shmem")["mem"]


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
    shm: str
    ports: str


_OF_CLIENT: Final = _Fields(
    domain="domain",
    project="group",
    group="config.scalingGroup",
    image=Fields("image", "architecture", "config.resources"),
    shm="config.resource_opts.shmem",
    ports="config.preopen_ports",
)
_OF_COMMAND: Final = _Fields(
    domain="spec.domain",
    project="spec.project",
    group="spec.resource_group",
    image=Fields("spec.image", "spec.architecture", "spec.slots"),
    shm="spec.shm_bytes",
    ports="spec.preopen_ports",
)


def completed(command: RequestSession, caller: Caller, directory: Directory, *, unregistered: bool) -> RequestSession:
    """The command with its project, the cell of its resource group, and its image as agents know it.

    `unregistered`: as of `request_session`. Raises `Problem` where one of them may not be used, and for what cannot be.
    """
    spec = command.spec
    caller = replace(caller, owner=command.owner)
    project, group = _allowed(spec.resource_group, spec.domain, spec.project, _OF_COMMAND, caller, directory)
    asked = Asked(
        spec.image, spec.architecture, spec.domain, spec.slots, defaults={}, user_id=_user_of(caller, directory)
    )
    image = chosen(asked, _OF_COMMAND.image, directory, unregistered=unregistered)
    found = {"cell": group.cell, "project_id": project.project_id, "image": image.image, "slots": image.slots}
    spec = spec.model_copy(update=found)
    _refuse_impossible(spec, _OF_COMMAND, directory)
    return command.model_copy(update={"spec": spec})


def _user_of(caller: Caller, directory: Directory) -> UserId:
    """Whose session it is to be."""
    owner = directory.identity(caller.owner) or caller.identity
    return owner.user.user_id


def _refuse_impossible(spec: SessionSpec, fields: _Fields, directory: Directory) -> None:
    """Raises `Problem` for shared memory without memory around it, and for ports on which something else listens."""
    memory = spec.slots.get("mem", 0)
    if spec.shm_bytes and spec.shm_bytes >= memory:
        detail = f"shared memory is part of the memory: it must be less than {show({'mem': memory})['mem']} bytes"
        raise invalid(fields.shm, "not_less_than_mem", detail)
    services = {service.port: name for name, service in services_of(spec.image, spec.architecture, directory).items()}
    for index, port in enumerate(spec.preopen_ports):
        field = f"{fields.ports}.{index}"
        if port in spec.preopen_ports[:index]:
            raise invalid(field, "repeated", f"the port {port} is named twice")
        if port in RESERVED_PORTS:
            raise invalid(field, "reserved", f"a program of the platform's own listens on port {port}")
        if port in services:
            raise invalid(field, "taken", f"the image's service {services[port]} listens on port {port}")


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
