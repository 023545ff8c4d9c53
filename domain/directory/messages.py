"""What is said to and by the directory. No secret is readable here: passwords are hashed, keys are sealed."""

from enum import StrEnum
from typing import Annotated, ClassVar, Literal, NewType

from pydantic import Base64Bytes, Field, TypeAdapter, field_validator

from domain.messages import AccessKey, Cell, Command, Event
from domain.session.messages import Limits

KEY = "directory"
"""The one boundary key: emails, access keys and names are unique in the whole cluster."""

UserId = NewType("UserId", str)
ProjectId = NewType("ProjectId", str)

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,62}[A-Za-z0-9])?$")]
"""Of a domain, project, policy or resource group."""

Email = Annotated[str, Field(pattern=r"^[^@\s]+@[^@\s]+$", max_length=254)]
PasswordHash = Annotated[str, Field(pattern=r"^\$argon2id\$", max_length=512)]
_BASE64: TypeAdapter[bytes] = TypeAdapter(Base64Bytes)


class Role(StrEnum):
    """What a user may do beyond his own things."""

    SUPERADMIN = "superadmin"
    ADMIN = "admin"
    USER = "user"
    MONITOR = "monitor"


# -- commands ----------------------------------------------------------------------------------------------------------


class DirectoryCommand(Command):
    by_users: ClassVar[bool] = True
    for_admins: ClassVar[bool] = True
    """People may send it, but only those who administer the cluster."""

    @property
    def key(self) -> str:
        return KEY


class CreateDomain(DirectoryCommand):
    type: Literal["CreateDomain"] = "CreateDomain"
    name: Name

    @property
    def subject(self) -> str:
        return self.name


class CreateProject(DirectoryCommand):
    """`name` is unique in its domain."""

    type: Literal["CreateProject"] = "CreateProject"
    project_id: ProjectId
    name: Name
    domain: Name

    @property
    def subject(self) -> str:
        return self.project_id


class UserCommand(DirectoryCommand):
    user_id: UserId

    @property
    def subject(self) -> str:
        return self.user_id


class CreateUser(UserCommand):
    """Emails (whatever their case) and user names are unique in the cluster."""

    type: Literal["CreateUser"] = "CreateUser"
    email: Email
    username: Annotated[str, Field(min_length=1, max_length=64)]
    full_name: str = Field("", max_length=64)
    role: Role = Role.USER
    domain: Name
    password_hash: PasswordHash


class ModifyUser(UserCommand):
    """An inactive user is not let in, and his keypairs start nothing; what runs goes on."""

    type: Literal["ModifyUser"] = "ModifyUser"
    active: bool


class SetUserPassword(UserCommand):
    type: Literal["SetUserPassword"] = "SetUserPassword"
    password_hash: PasswordHash


class JoinProject(UserCommand):
    type: Literal["JoinProject"] = "JoinProject"
    project_id: ProjectId


class KeypairCommand(DirectoryCommand):
    access_key: AccessKey

    @property
    def subject(self) -> str:
        return self.access_key


class CreateKeypair(KeypairCommand):
    """`secret_sealed`: base64 of the secret key, encrypted by infra. `rate_limit`: per 15 minutes."""

    type: Literal["CreateKeypair"] = "CreateKeypair"
    user_id: UserId
    secret_sealed: str = Field(min_length=1, max_length=1024)
    policy: Name
    is_admin: bool = False
    rate_limit: int = Field(30000, ge=0)

    @field_validator("secret_sealed")
    @classmethod
    def _is_base64(cls, text: str) -> str:
        _BASE64.validate_python(text)
        return text


class ModifyKeypair(KeypairCommand):
    """None: as it is."""

    type: Literal["ModifyKeypair"] = "ModifyKeypair"
    active: bool | None = None
    policy: Name | None = None


class PutKeypairPolicy(DirectoryCommand):
    """Create the policy, or change it for every keypair that has it."""

    type: Literal["PutKeypairPolicy"] = "PutKeypairPolicy"
    name: Name
    limits: Limits

    @property
    def subject(self) -> str:
        return self.name


class CreateResourceGroup(DirectoryCommand):
    """`is_public`: every domain may use it."""

    type: Literal["CreateResourceGroup"] = "CreateResourceGroup"
    name: Name
    cell: Cell
    is_public: bool = True

    @property
    def subject(self) -> str:
        return self.name


DirectoryCommands = Annotated[
    CreateDomain
    | CreateProject
    | CreateUser
    | ModifyUser
    | SetUserPassword
    | JoinProject
    | CreateKeypair
    | ModifyKeypair
    | PutKeypairPolicy
    | CreateResourceGroup,
    Field(discriminator="type"),
]


# -- events ------------------------------------------------------------------------------------------------------------


class DomainCreated(Event):
    type: Literal["DomainCreated"] = "DomainCreated"
    name: Name

    @property
    def subject(self) -> str:
        return self.name


class ProjectCreated(Event):
    type: Literal["ProjectCreated"] = "ProjectCreated"
    project_id: ProjectId
    name: Name
    domain: Name

    @property
    def subject(self) -> str:
        return self.project_id


class UserEvent(Event):
    user_id: UserId

    @property
    def subject(self) -> str:
        return self.user_id


class UserCreated(UserEvent):
    type: Literal["UserCreated"] = "UserCreated"
    email: str
    username: str
    full_name: str
    role: Role
    domain: Name
    password_hash: PasswordHash


class UserModified(UserEvent):
    type: Literal["UserModified"] = "UserModified"
    active: bool


class UserPasswordSet(UserEvent):
    type: Literal["UserPasswordSet"] = "UserPasswordSet"
    password_hash: PasswordHash


class ProjectJoined(UserEvent):
    type: Literal["ProjectJoined"] = "ProjectJoined"
    project_id: ProjectId


class KeypairEvent(Event):
    access_key: AccessKey

    @property
    def subject(self) -> str:
        return self.access_key


class KeypairCreated(KeypairEvent):
    type: Literal["KeypairCreated"] = "KeypairCreated"
    user_id: UserId
    secret_sealed: str
    policy: Name
    is_admin: bool
    rate_limit: int


class KeypairModified(KeypairEvent):
    """Both as they are now."""

    type: Literal["KeypairModified"] = "KeypairModified"
    active: bool
    policy: Name


class KeypairPolicyPut(Event):
    type: Literal["KeypairPolicyPut"] = "KeypairPolicyPut"
    name: Name
    limits: Limits

    @property
    def subject(self) -> str:
        return self.name


class ResourceGroupCreated(Event):
    type: Literal["ResourceGroupCreated"] = "ResourceGroupCreated"
    name: Name
    cell: Cell
    is_public: bool

    @property
    def subject(self) -> str:
        return self.name


DirectoryEvents = Annotated[
    DomainCreated
    | ProjectCreated
    | UserCreated
    | UserModified
    | UserPasswordSet
    | ProjectJoined
    | KeypairCreated
    | KeypairModified
    | KeypairPolicyPut
    | ResourceGroupCreated,
    Field(discriminator="type"),
]

COMMANDS: TypeAdapter[DirectoryCommands] = TypeAdapter(DirectoryCommands)
EVENTS: TypeAdapter[DirectoryEvents] = TypeAdapter(DirectoryEvents)
