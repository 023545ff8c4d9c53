"""What people write when they ask for a session.

The shapes are those of the public client. What it sends and we do not need is passed over; what it asks for and we
cannot do yet is refused by name, because an option silently dropped is worse than a "no".
"""

import re
from typing import Annotated, Any, Final, Literal

import orjson
from pydantic import AfterValidator, AliasChoices, BaseModel, ConfigDict, Field

from api.http.problems import invalid, unsupported
from api.sessions.environ import Environ, Script
from api.sessions.mounts import AskedMounts
from domain.placements import RuntimeClass
from domain.session.messages import FenceAfterSeconds, PreopenPorts, SessionName
from domain.session.status import ClusterMode

_AMOUNT: Final = re.compile(r"\d{1,19}(\.\d{1,9})?\s*([kmgtpezy]?(i?b)?)?", re.IGNORECASE)


def _amount(value: str | int | float) -> str:
    """Text of an amount: nothing that takes a machine longer to expand than a person to write."""
    text = str(value)
    if _AMOUNT.fullmatch(text) is None:
        raise ValueError("an amount is digits, optionally with a fraction and a unit of bytes, as in 0.5 or 512m")
    return text


Amount = Annotated[str | int | float, AfterValidator(_amount)]


class ResourceOptions(BaseModel):
    """How a kernel uses what it has. What is not known is refused by name (`supported`)."""

    model_config = ConfigDict(extra="allow", populate_by_name=True)

    shm: Amount | None = Field(
        None, alias="shmem", description="Size of /dev/shm: a part of the memory, and less than all of it."
    )


class Config(AskedMounts):
    """The creation config."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True)

    environ: Environ | None = None
    resources: dict[str, Amount] | None = Field(None, description="Slots of each kernel.", max_length=64)
    resource_group: str | None = Field(None, alias="scalingGroup", max_length=64)
    cluster_size: int | None = Field(None, alias="clusterSize", ge=1, le=512, description="As older clients send it.")
    resource_opts: ResourceOptions | None = None
    preopen_ports: PreopenPorts | None = Field(
        None, description="TCP ports of main1 on which programs of the user's will listen; offered as services."
    )
    runtime_class: RuntimeClass | None = Field(
        None, alias="runtimeClass", description="Which OCI runtime, where an agent has it; any when left out."
    )
    fence_after_seconds: FenceAfterSeconds | None = Field(
        None,
        alias="fenceAfterSeconds",
        description="For what must not run twice: an agent that is cut off for so long ends its kernels by itself.",
    )
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
    session_type: Literal["interactive", "batch", "system"] = Field("interactive", alias="type")
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
    bootstrap_script: Script | None = Field(
        None, description="For a shell, run in each kernel first. Left out: the keypair's; empty: none."
    )

    callback_url: str | None = Field(None, validation_alias=AliasChoices("callback_url", "callbackURL"))
    dependencies: list[Any] | None = None
    starts_at: str | None = None


_NOT_YET: Final = ("callback_url", "dependencies", "starts_at")
_NOT_YET_IN_CONFIG: Final = ("agent_list",)


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
    for name in (new.config.resource_opts and new.config.resource_opts.model_extra) or ():
        raise unsupported(f"config.resource_opts.{name[:40]}")
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
