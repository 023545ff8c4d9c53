"""Users, and the projects they are in."""

from enum import StrEnum
from typing import Annotated, ClassVar, Literal

from pydantic import Field
from typing_extensions import TypedDict

from domain.directory.messages.common import PARTIAL, DirectoryCommand, Name, PasswordHash, Text
from domain.directory.messages.keypairs import NewKeypair
from domain.messages import AccessKey, Event, Instant, ProjectId, Sealed, UserId, Value

Email = Annotated[str, Field(pattern=r"^[^@\s]+@[^@\s]+$", max_length=254)]
Username = Annotated[str, Field(min_length=1, max_length=64)]
SignInId = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
FullName = Annotated[str, Field(max_length=64)]


class Role(StrEnum):
    """What a user may do beyond his own things."""

    SUPERADMIN = "superadmin"
    ADMIN = "admin"
    USER = "user"
    MONITOR = "monitor"


class UserStatus(StrEnum):
    """Only an active user is let in. `DELETED` keeps him, his keypairs are off; he can be made active again."""

    ACTIVE = "active"
    INACTIVE = "inactive"
    DELETED = "deleted"
    BEFORE_VERIFICATION = "before-verification"


class UserSpec(Value):
    """`main_access_key`: the keypair that stands for him where none is named."""

    username: Username
    full_name: FullName = ""
    description: Text = ""
    role: Role = Role.USER
    domain: Name
    status: UserStatus = UserStatus.ACTIVE
    need_password_change: bool = False
    resource_policy: Name = "default"
    main_access_key: AccessKey | None = None
    allowed_client_ip: tuple[str, ...] = ()

    @property
    def active(self) -> bool:
        return self.status is UserStatus.ACTIVE


class UserChanges(TypedDict, total=False):
    __pydantic_config__ = PARTIAL  # type: ignore[misc]
    username: Username
    full_name: FullName
    description: Text
    role: Role
    domain: Name
    status: UserStatus
    need_password_change: bool
    resource_policy: Name
    main_access_key: AccessKey | None
    allowed_client_ip: tuple[str, ...]


# -- commands ----------------------------------------------------------------------------------------------------------


class UserCommand(DirectoryCommand):
    user_id: UserId

    @property
    def subject(self) -> str:
        return self.user_id


class CreateUser(UserCommand):
    """Emails (whatever their case) and user names are unique in the cluster. `projects`: of his domain.

    `keypair`: his first, and so his main one.
    """

    type: Literal["CreateUser"] = "CreateUser"
    email: Email
    spec: UserSpec
    password_hash: PasswordHash
    projects: tuple[ProjectId, ...] = ()
    keypair: NewKeypair | None = None


class ModifyUser(UserCommand):
    """A user who is not active is not let in, and his keypairs start nothing; what runs goes on.

    With another domain he leaves the projects of the old one. `projects`: those he is in from now on.
    """

    type: Literal["ModifyUser"] = "ModifyUser"
    changes: UserChanges = UserChanges()
    projects: tuple[ProjectId, ...] | None = None


class SetUserPassword(UserCommand):
    """Whoever sets his own need not change it again."""

    type: Literal["SetUserPassword"] = "SetUserPassword"
    password_hash: PasswordHash
    by_himself: bool = False


class SetUserTotp(UserCommand):
    """`secret`: for one-time passwords; None switches them off."""

    type: Literal["SetUserTotp"] = "SetUserTotp"
    secret: Sealed | None


class PurgeUser(UserCommand):
    """Take him and his keypairs away for good. The log keeps that he was there."""

    type: Literal["PurgeUser"] = "PurgeUser"


class JoinProject(UserCommand):
    type: Literal["JoinProject"] = "JoinProject"
    project_id: ProjectId


class LeaveProject(UserCommand):
    type: Literal["LeaveProject"] = "LeaveProject"
    project_id: ProjectId


class SignInCommand(UserCommand):
    """Given by the api alone, which has seen the password. `client`: the address it saw."""

    by_users: ClassVar[bool] = False

    client: str = Field("", max_length=64)


class SignIn(SignInCommand):
    """He gave the right password. `sign_in_id`: the SHA-256 of what his cookie holds; `replaces`: one it follows upon.

    `otp_step`: which of his one-time passwords he gave, counted in time; each serves once.
    Refused while he is locked out, and where he is not active.
    """

    type: Literal["SignIn"] = "SignIn"
    sign_in_id: SignInId
    replaces: SignInId | None = None
    otp_step: int | None = Field(None, ge=0)
    expires_at: Instant


class NoteFailedSignIn(SignInCommand):
    """He gave a wrong password. Too many in a row lock him out for a while."""

    type: Literal["NoteFailedSignIn"] = "NoteFailedSignIn"


class SignOut(SignInCommand):
    """`sign_in_id` None: everywhere."""

    type: Literal["SignOut"] = "SignOut"
    sign_in_id: SignInId | None = None


# -- events ------------------------------------------------------------------------------------------------------------


class UserEvent(Event):
    user_id: UserId

    @property
    def subject(self) -> str:
        return self.user_id


class UserCreated(UserEvent):
    type: Literal["UserCreated"] = "UserCreated"
    email: Email
    spec: UserSpec
    password_hash: PasswordHash


class UserModified(UserEvent):
    """`spec`: as it is now."""

    type: Literal["UserModified"] = "UserModified"
    spec: UserSpec


class UserPasswordSet(UserEvent):
    type: Literal["UserPasswordSet"] = "UserPasswordSet"
    password_hash: PasswordHash
    need_change: bool


class UserTotpSet(UserEvent):
    type: Literal["UserTotpSet"] = "UserTotpSet"
    secret: Sealed | None


class UserPurged(UserEvent):
    type: Literal["UserPurged"] = "UserPurged"


class ProjectJoined(UserEvent):
    type: Literal["ProjectJoined"] = "ProjectJoined"
    project_id: ProjectId


class ProjectLeft(UserEvent):
    type: Literal["ProjectLeft"] = "ProjectLeft"
    project_id: ProjectId


class SignedIn(UserEvent):
    type: Literal["SignedIn"] = "SignedIn"
    sign_in_id: SignInId
    replaces: SignInId | None = None
    otp_step: int | None = None
    client: str
    expires_at: Instant


class SignInFailed(UserEvent):
    """`failures` in a row, this one included; with `locked_until`, nobody signs in as him before."""

    type: Literal["SignInFailed"] = "SignInFailed"
    client: str
    failures: int
    locked_until: Instant | None = None


class SignedOut(UserEvent):
    """`sign_in_ids`: those that ended."""

    type: Literal["SignedOut"] = "SignedOut"
    sign_in_ids: tuple[SignInId, ...]


UserCommands = CreateUser | ModifyUser | SetUserPassword | SetUserTotp | PurgeUser | JoinProject | LeaveProject
SignInCommands = SignIn | NoteFailedSignIn | SignOut
UserEvents = (
    UserCreated
    | UserModified
    | UserPasswordSet
    | UserTotpSet
    | UserPurged
    | ProjectJoined
    | ProjectLeft
    | SignedIn
    | SignInFailed
    | SignedOut
)
