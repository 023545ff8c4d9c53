"""All that the directory knows, folded from its events. The api folds the same to let people in."""

from dataclasses import dataclass, field, replace

from immutables import Map

from domain.directory.messages import (
    DirectoryEvents,
    DomainCreated,
    KeypairCreated,
    KeypairModified,
    KeypairPolicyPut,
    ProjectCreated,
    ProjectId,
    ProjectJoined,
    ResourceGroupCreated,
    Role,
    UserCreated,
    UserId,
    UserModified,
    UserPasswordSet,
)
from domain.messages import AccessKey, Cell
from domain.session.messages import Limits


@dataclass(frozen=True, slots=True)
class Domain:
    name: str
    active: bool = True


@dataclass(frozen=True, slots=True)
class Project:
    project_id: ProjectId
    name: str
    domain: str
    active: bool = True


@dataclass(frozen=True, slots=True)
class User:
    user_id: UserId
    email: str
    username: str
    full_name: str
    role: Role
    domain: str
    password_hash: str
    active: bool = True
    projects: tuple[ProjectId, ...] = ()
    keypairs: tuple[AccessKey, ...] = ()


@dataclass(frozen=True, slots=True)
class Keypair:
    access_key: AccessKey
    user_id: UserId
    secret_sealed: str
    policy: str
    is_admin: bool
    rate_limit: int
    active: bool = True


@dataclass(frozen=True, slots=True)
class ResourceGroup:
    name: str
    cell: Cell
    is_public: bool
    active: bool = True


@dataclass(frozen=True, slots=True)
class Identity:
    """Who signs with an access key."""

    keypair: Keypair
    user: User

    @property
    def active(self) -> bool:
        """Whether the signature counts, and sessions may be started."""
        return self.keypair.active and self.user.active


@dataclass(frozen=True, slots=True)
class Directory:
    domains: Map[str, Domain] = field(default_factory=Map)
    projects: Map[ProjectId, Project] = field(default_factory=Map)
    users: Map[UserId, User] = field(default_factory=Map)
    keypairs: Map[AccessKey, Keypair] = field(default_factory=Map)
    policies: Map[str, Limits] = field(default_factory=Map)
    groups: Map[str, ResourceGroup] = field(default_factory=Map)
    projects_by_name: Map[tuple[str, str], ProjectId] = field(default_factory=Map)
    users_by_email: Map[str, UserId] = field(default_factory=Map)
    users_by_name: Map[str, UserId] = field(default_factory=Map)

    def identity(self, access_key: str) -> Identity | None:
        """The keypair and its user; None if there is no such key."""
        keypair = self.keypairs.get(AccessKey(access_key))
        return None if keypair is None else Identity(keypair, self.users[keypair.user_id])

    def user_by_email(self, email: str) -> User | None:
        """Whatever the case in which the email is written."""
        user_id = self.users_by_email.get(email.lower())
        return None if user_id is None else self.users[user_id]

    def project(self, domain: str, name: str) -> Project | None:
        """The project of that name in the domain."""
        project_id = self.projects_by_name.get((domain, name))
        return None if project_id is None else self.projects[project_id]

    def limits(self, access_key: AccessKey) -> Limits | None:
        """What its policy allows the keypair's sessions; None where it may not start any."""
        identity = self.identity(access_key)
        return self.policies[identity.keypair.policy] if identity is not None and identity.active else None


def evolve(state: Directory, event: DirectoryEvents) -> Directory:
    match event:
        case DomainCreated():
            return replace(state, domains=state.domains.set(event.name, Domain(event.name)))
        case ProjectCreated():
            project = Project(event.project_id, event.name, event.domain)
            return replace(
                state,
                projects=state.projects.set(event.project_id, project),
                projects_by_name=state.projects_by_name.set((event.domain, event.name), event.project_id),
            )
        case UserCreated():
            return _user_created(state, event)
        case UserModified():
            return _with_user(state, replace(state.users[event.user_id], active=event.active))
        case UserPasswordSet():
            return _with_user(state, replace(state.users[event.user_id], password_hash=event.password_hash))
        case ProjectJoined():
            user = state.users[event.user_id]
            return _with_user(state, replace(user, projects=(*user.projects, event.project_id)))
        case KeypairCreated():
            return _keypair_created(state, event)
        case KeypairModified():
            keypair = replace(state.keypairs[event.access_key], active=event.active, policy=event.policy)
            return replace(state, keypairs=state.keypairs.set(event.access_key, keypair))
        case KeypairPolicyPut():
            return replace(state, policies=state.policies.set(event.name, event.limits))
        case ResourceGroupCreated():
            group = ResourceGroup(event.name, event.cell, event.is_public)
            return replace(state, groups=state.groups.set(event.name, group))


def _user_created(state: Directory, event: UserCreated) -> Directory:
    user = User(
        user_id=event.user_id,
        email=event.email,
        username=event.username,
        full_name=event.full_name,
        role=event.role,
        domain=event.domain,
        password_hash=event.password_hash,
    )
    return replace(
        _with_user(state, user),
        users_by_email=state.users_by_email.set(event.email.lower(), event.user_id),
        users_by_name=state.users_by_name.set(event.username, event.user_id),
    )


def _keypair_created(state: Directory, event: KeypairCreated) -> Directory:
    keypair = Keypair(
        access_key=event.access_key,
        user_id=event.user_id,
        secret_sealed=event.secret_sealed,
        policy=event.policy,
        is_admin=event.is_admin,
        rate_limit=event.rate_limit,
    )
    user = state.users[event.user_id]
    return replace(
        _with_user(state, replace(user, keypairs=(*user.keypairs, event.access_key))),
        keypairs=state.keypairs.set(event.access_key, keypair),
    )


def _with_user(state: Directory, user: User) -> Directory:
    return replace(state, users=state.users.set(user.user_id, user))
