"""What mutations take, in the client's words, and how it becomes the specs and changes of commands."""

from collections.abc import Mapping
from dataclasses import fields
from enum import StrEnum
from typing import Any, Final

import strawberry
from strawberry import UNSET

from api.graphql.scalars import BigInt, JSONString, amounts, size
from domain.directory.messages.users import Role, UserStatus
from domain.messages import Refused


@strawberry.input
class DomainInput:
    description: str | None = UNSET
    is_active: bool | None = UNSET
    total_resource_slots: JSONString | None = UNSET
    allowed_vfolder_hosts: JSONString | None = UNSET
    allowed_docker_registries: list[str] | None = UNSET
    integration_id: str | None = UNSET


@strawberry.input
class ModifyDomainInput(DomainInput):
    name: str | None = UNSET


@strawberry.input
class GroupInput:
    domain_name: str
    type: str | None = UNSET
    description: str | None = UNSET
    is_active: bool | None = UNSET
    total_resource_slots: JSONString | None = UNSET
    allowed_vfolder_hosts: JSONString | None = UNSET
    integration_id: str | None = UNSET
    resource_policy: str | None = UNSET
    container_registry: JSONString | None = UNSET


@strawberry.input
class ModifyGroupInput:
    """`user_update_mode`: `add` or `remove`, of `user_uuids`."""

    name: str | None = UNSET
    domain_name: str | None = UNSET
    description: str | None = UNSET
    is_active: bool | None = UNSET
    total_resource_slots: JSONString | None = UNSET
    allowed_vfolder_hosts: JSONString | None = UNSET
    integration_id: str | None = UNSET
    resource_policy: str | None = UNSET
    container_registry: JSONString | None = UNSET
    user_update_mode: str | None = UNSET
    user_uuids: list[str] | None = UNSET


@strawberry.input
class UserInput:
    """Without a name, a user's email is his name."""

    password: str
    domain_name: str
    username: str | None = UNSET
    need_password_change: bool | None = UNSET
    full_name: str | None = UNSET
    description: str | None = UNSET
    is_active: bool | None = UNSET
    status: str | None = UNSET
    role: str | None = UNSET
    group_ids: list[str] | None = UNSET
    allowed_client_ip: list[str] | None = UNSET
    totp_activated: bool | None = UNSET
    sudo_session_enabled: bool | None = UNSET
    resource_policy: str | None = UNSET


@strawberry.input
class ModifyUserInput:
    password: str | None = UNSET
    domain_name: str | None = UNSET
    username: str | None = UNSET
    need_password_change: bool | None = UNSET
    full_name: str | None = UNSET
    description: str | None = UNSET
    is_active: bool | None = UNSET
    status: str | None = UNSET
    role: str | None = UNSET
    group_ids: list[str] | None = UNSET
    allowed_client_ip: list[str] | None = UNSET
    totp_activated: bool | None = UNSET
    sudo_session_enabled: bool | None = UNSET
    resource_policy: str | None = UNSET
    main_access_key: str | None = UNSET


@strawberry.input
class PurgeUserInput:
    purge_shared_vfolders: bool | None = UNSET


@strawberry.input(name="KeyPairInput")
class KeypairInput:
    is_active: bool | None = UNSET
    is_admin: bool | None = UNSET
    resource_policy: str | None = UNSET
    concurrency_limit: int | None = strawberry.field(default=UNSET, deprecation_reason="Has no effect.")
    rate_limit: int | None = UNSET


@strawberry.input(name="ModifyKeyPairInput")
class ModifyKeypairInput(KeypairInput):
    pass


@strawberry.input(name="CreateKeyPairResourcePolicyInput")
class CreateKeypairPolicyInput:
    default_for_unspecified: str
    total_resource_slots: JSONString
    max_concurrent_sessions: int
    max_containers_per_session: int
    idle_timeout: BigInt
    max_session_lifetime: int | None = UNSET
    max_concurrent_sftp_sessions: int | None = UNSET
    max_pending_session_count: int | None = UNSET
    max_pending_session_resource_slots: JSONString | None = UNSET
    max_vfolder_count: int | None = UNSET
    max_vfolder_size: BigInt | None = UNSET
    allowed_vfolder_hosts: JSONString | None = UNSET


@strawberry.input(name="ModifyKeyPairResourcePolicyInput")
class ModifyKeypairPolicyInput:
    default_for_unspecified: str | None = UNSET
    total_resource_slots: JSONString | None = UNSET
    max_concurrent_sessions: int | None = UNSET
    max_containers_per_session: int | None = UNSET
    idle_timeout: BigInt | None = UNSET
    max_session_lifetime: int | None = UNSET
    max_concurrent_sftp_sessions: int | None = UNSET
    max_pending_session_count: int | None = UNSET
    max_pending_session_resource_slots: JSONString | None = UNSET
    max_vfolder_count: int | None = UNSET
    max_vfolder_size: BigInt | None = UNSET
    allowed_vfolder_hosts: JSONString | None = UNSET


@strawberry.input(name="CreateUserResourcePolicyInput")
class CreateUserPolicyInput:
    max_vfolder_count: int | None = UNSET
    max_quota_scope_size: BigInt | None = UNSET
    max_session_count_per_model_session: int | None = UNSET
    max_customized_image_count: int | None = UNSET


@strawberry.input(name="ModifyUserResourcePolicyInput")
class ModifyUserPolicyInput(CreateUserPolicyInput):
    pass


@strawberry.input(name="CreateProjectResourcePolicyInput")
class CreateProjectPolicyInput:
    max_vfolder_count: int | None = UNSET
    max_quota_scope_size: BigInt | None = UNSET
    max_network_count: int | None = UNSET


@strawberry.input(name="ModifyProjectResourcePolicyInput")
class ModifyProjectPolicyInput(CreateProjectPolicyInput):
    pass


@strawberry.input(name="CreateScalingGroupInput")
class CreateGroupInput:
    driver: str
    scheduler: str
    description: str | None = UNSET
    is_active: bool | None = UNSET
    is_public: bool | None = UNSET
    driver_opts: JSONString | None = UNSET
    scheduler_opts: JSONString | None = UNSET
    use_host_network: bool | None = UNSET
    wsproxy_addr: str | None = UNSET
    wsproxy_api_token: str | None = UNSET


@strawberry.input(name="ModifyScalingGroupInput")
class ModifyGroupOptionsInput:
    driver: str | None = UNSET
    scheduler: str | None = UNSET
    description: str | None = UNSET
    is_active: bool | None = UNSET
    is_public: bool | None = UNSET
    driver_opts: JSONString | None = UNSET
    scheduler_opts: JSONString | None = UNSET
    use_host_network: bool | None = UNSET
    wsproxy_addr: str | None = UNSET
    wsproxy_api_token: str | None = UNSET


@strawberry.input
class CreateResourcePresetInput:
    """`shared_memory`: of `64m`, or in bytes."""

    resource_slots: JSONString
    shared_memory: str | None = UNSET
    scaling_group_name: str | None = UNSET


@strawberry.input
class ModifyResourcePresetInput:
    resource_slots: JSONString | None = UNSET
    shared_memory: str | None = UNSET


# -- what becomes of it ------------------------------------------------------------------------------------------------

_NAMES: Final[Mapping[str, str]] = {"is_active": "active", "is_public": "public", "domain_name": "domain"}
"""Where the client's word is not ours."""

_SLOTS: Final = frozenset({"total_resource_slots", "resource_slots", "max_pending_session_resource_slots"})

_CLEARED_BY_NULL: Final = frozenset(
    {
        "integration_id",
        "wsproxy_addr",
        "wsproxy_api_token",
        "shared_memory",
        "max_pending_session_count",
        "max_pending_session_resource_slots",
    }
)
"""What may be nothing. Of the rest, null is as good as not named: the public client fills in nulls."""

_ELSEWHERE: Final = frozenset(
    {
        "name",
        "type",
        "password",
        "group_ids",
        "totp_activated",
        "sudo_session_enabled",
        "concurrency_limit",
        "user_update_mode",
        "user_uuids",
        "scaling_group_name",
    }
)
"""What is no part of a spec."""


def named(props: Any) -> dict[str, Any]:
    """The fields that were given, under the client's names."""
    told = {each.name: getattr(props, each.name) for each in fields(props)}
    return {name: value for name, value in told.items() if value is not UNSET}


def changes(props: Any) -> Any:
    """A `…Changes`, as far as its fields are known to be that. Raises `Refused`."""
    return {
        _NAMES.get(name, name): _value(name, value)
        for name, value in named(props).items()
        if name not in _ELSEWHERE and (value is not None or name in _CLEARED_BY_NULL)
    }


def spec(props: Any) -> dict[str, Any]:
    """Fields of a `…Spec`; what is null is left to its default. Raises `Refused`."""
    return {name: value for name, value in changes(props).items() if value is not None}


def user_changes(props: UserInput | ModifyUserInput) -> Any:
    """As `changes`. `status` says more than `is_active`, which older clients send."""
    told = changes(props)
    active = told.pop("active", None)
    if "status" in told:
        told["status"] = one_of(UserStatus, told["status"], "status")
    elif active is not None:
        told["status"] = UserStatus.ACTIVE if active else UserStatus.INACTIVE
    if "role" in told:
        told["role"] = one_of(Role, told["role"], "role")
    if named(props).get("sudo_session_enabled"):
        raise Refused("not_supported", "sudo sessions are not supported", "sudo_session_enabled")
    if named(props).get("totp_activated"):
        raise Refused("not_supported", "a user switches one-time passwords on by himself", "totp_activated")
    return told


def ids(texts: list[str] | None, field: str) -> tuple[str, ...]:
    """Ids that were given as texts. Raises `Refused`."""
    if len(texts or ()) > 1000:
        raise Refused("too_many", "at most 1000 at once", field)
    return tuple(dict.fromkeys(texts or ()))


def one_of(kind: type[StrEnum], text: str, field: str) -> StrEnum:
    try:
        return kind(text.lower())
    except ValueError:
        raise Refused("unknown_value", f"{field} must be one of {', '.join(kind)}", field) from None


def _value(name: str, value: Any) -> Any:
    if value is None:
        return None
    if name in _SLOTS:
        return amounts(value, name)
    if name == "shared_memory":
        return size(value, name)
    return value
