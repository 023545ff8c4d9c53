"""Policies: how much a keypair, a user or a project may have."""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field
from typing_extensions import TypedDict

from domain.directory.messages.common import PARTIAL, DirectoryCommand, HostPermissions, Named
from domain.messages import Event, Value
from domain.session.messages import SECONDS_MAX, Limits
from domain.slots import Amounts

Count = Annotated[int, Field(ge=0, le=2**53)]
Seconds = Annotated[float, Field(ge=0, le=SECONDS_MAX)]


class Unspecified(StrEnum):
    """What a slot that `total_resource_slots` does not name means."""

    LIMITED = "LIMITED"
    UNLIMITED = "UNLIMITED"


class KeypairPolicySpec(Value):
    """Of a keypair. For times and sizes 0 means that there is no limit; for pending sessions None does."""

    default_for_unspecified: Unspecified = Unspecified.UNLIMITED
    total_resource_slots: Amounts = Field({})
    max_concurrent_sessions: Count = 5
    max_containers_per_session: Annotated[int, Field(ge=1, le=2**31)] = 1
    max_session_lifetime: Seconds = 0
    idle_timeout: Seconds = 1800
    max_concurrent_sftp_sessions: Count = 1
    max_pending_session_count: Count | None = None
    max_pending_session_resource_slots: Amounts | None = None
    max_vfolder_count: Count = 10
    max_vfolder_size: Count = 0
    allowed_vfolder_hosts: HostPermissions = Field({})

    @property
    def limits(self) -> Limits:
        """What of it concerns sessions."""
        return Limits(
            max_concurrent_sessions=self.max_concurrent_sessions,
            max_lifetime_seconds=self.max_session_lifetime,
            idle_timeout_seconds=self.idle_timeout,
            max_kernels_per_session=self.max_containers_per_session,
            max_concurrent_sftp_sessions=self.max_concurrent_sftp_sessions,
        )


class KeypairPolicyChanges(TypedDict, total=False):
    __pydantic_config__ = PARTIAL  # type: ignore[misc]
    default_for_unspecified: Unspecified
    total_resource_slots: Amounts
    max_concurrent_sessions: Count
    max_containers_per_session: Annotated[int, Field(ge=1, le=2**31)]
    max_session_lifetime: Seconds
    idle_timeout: Seconds
    max_concurrent_sftp_sessions: Count
    max_pending_session_count: Count | None
    max_pending_session_resource_slots: Amounts | None
    max_vfolder_count: Count
    max_vfolder_size: Count
    allowed_vfolder_hosts: HostPermissions


class UserPolicySpec(Value):
    """Of a user, over all his keypairs. 0: no limit."""

    max_vfolder_count: Count = 0
    max_quota_scope_size: Count = 0
    max_session_count_per_model_session: Count = 0
    max_customized_image_count: Count = 3


class UserPolicyChanges(TypedDict, total=False):
    __pydantic_config__ = PARTIAL  # type: ignore[misc]
    max_vfolder_count: Count
    max_quota_scope_size: Count
    max_session_count_per_model_session: Count
    max_customized_image_count: Count


class ProjectPolicySpec(Value):
    """Of a project. 0: no limit."""

    max_vfolder_count: Count = 0
    max_quota_scope_size: Count = 0
    max_network_count: Count = 0


class ProjectPolicyChanges(TypedDict, total=False):
    __pydantic_config__ = PARTIAL  # type: ignore[misc]
    max_vfolder_count: Count
    max_quota_scope_size: Count
    max_network_count: Count


# -- commands ----------------------------------------------------------------------------------------------------------


class CreateKeypairPolicy(Named, DirectoryCommand):
    type: Literal["CreateKeypairPolicy"] = "CreateKeypairPolicy"
    spec: KeypairPolicySpec = KeypairPolicySpec()


class ModifyKeypairPolicy(Named, DirectoryCommand):
    """It counts at once for every keypair that has it; sessions that run go on."""

    type: Literal["ModifyKeypairPolicy"] = "ModifyKeypairPolicy"
    changes: KeypairPolicyChanges = KeypairPolicyChanges()


class DeleteKeypairPolicy(Named, DirectoryCommand):
    """Refused while a keypair has it."""

    type: Literal["DeleteKeypairPolicy"] = "DeleteKeypairPolicy"


class CreateUserPolicy(Named, DirectoryCommand):
    type: Literal["CreateUserPolicy"] = "CreateUserPolicy"
    spec: UserPolicySpec = UserPolicySpec()


class ModifyUserPolicy(Named, DirectoryCommand):
    type: Literal["ModifyUserPolicy"] = "ModifyUserPolicy"
    changes: UserPolicyChanges = UserPolicyChanges()


class DeleteUserPolicy(Named, DirectoryCommand):
    """Refused while a user has it."""

    type: Literal["DeleteUserPolicy"] = "DeleteUserPolicy"


class CreateProjectPolicy(Named, DirectoryCommand):
    type: Literal["CreateProjectPolicy"] = "CreateProjectPolicy"
    spec: ProjectPolicySpec = ProjectPolicySpec()


class ModifyProjectPolicy(Named, DirectoryCommand):
    type: Literal["ModifyProjectPolicy"] = "ModifyProjectPolicy"
    changes: ProjectPolicyChanges = ProjectPolicyChanges()


class DeleteProjectPolicy(Named, DirectoryCommand):
    """Refused while a project has it."""

    type: Literal["DeleteProjectPolicy"] = "DeleteProjectPolicy"


# -- events: `spec` as it is now ---------------------------------------------------------------------------------------


class KeypairPolicyPut(Named, Event):
    """Created or modified."""

    type: Literal["KeypairPolicyPut"] = "KeypairPolicyPut"
    spec: KeypairPolicySpec


class KeypairPolicyDeleted(Named, Event):
    type: Literal["KeypairPolicyDeleted"] = "KeypairPolicyDeleted"


class UserPolicyPut(Named, Event):
    """Created or modified."""

    type: Literal["UserPolicyPut"] = "UserPolicyPut"
    spec: UserPolicySpec


class UserPolicyDeleted(Named, Event):
    type: Literal["UserPolicyDeleted"] = "UserPolicyDeleted"


class ProjectPolicyPut(Named, Event):
    """Created or modified."""

    type: Literal["ProjectPolicyPut"] = "ProjectPolicyPut"
    spec: ProjectPolicySpec


class ProjectPolicyDeleted(Named, Event):
    type: Literal["ProjectPolicyDeleted"] = "ProjectPolicyDeleted"


PolicyCommands = (
    CreateKeypairPolicy
    | ModifyKeypairPolicy
    | DeleteKeypairPolicy
    | CreateUserPolicy
    | ModifyUserPolicy
    | DeleteUserPolicy
    | CreateProjectPolicy
    | ModifyProjectPolicy
    | DeleteProjectPolicy
)
PolicyEvents = (
    KeypairPolicyPut
    | KeypairPolicyDeleted
    | UserPolicyPut
    | UserPolicyDeleted
    | ProjectPolicyPut
    | ProjectPolicyDeleted
)
