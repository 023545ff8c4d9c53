"""What may happen to the directory. `decide` is the table of contents; below it one function a command."""

from collections.abc import Sequence

from domain.directory.messages import (
    CreateDomain,
    CreateKeypair,
    CreateProject,
    CreateResourceGroup,
    CreateUser,
    DirectoryCommands,
    DirectoryEvents,
    DomainCreated,
    JoinProject,
    KeypairCreated,
    KeypairModified,
    KeypairPolicyPut,
    ModifyKeypair,
    ModifyUser,
    ProjectCreated,
    ProjectId,
    ProjectJoined,
    PutKeypairPolicy,
    ResourceGroupCreated,
    SetUserPassword,
    UserCreated,
    UserId,
    UserModified,
    UserPasswordSet,
)
from domain.directory.state import Directory, Project, ResourceGroup, User
from domain.messages import Refused

Events = Sequence[DirectoryEvents]


def decide(command: DirectoryCommands, state: Directory) -> Events:
    match command:
        case CreateDomain():
            return _create_domain(command, state)
        case CreateProject():
            return _create_project(command, state)
        case CreateUser():
            return _create_user(command, state)
        case ModifyUser():
            return _modify_user(command, state)
        case SetUserPassword():
            return _set_password(command, state)
        case JoinProject():
            return _join(command, state)
        case CreateKeypair():
            return _create_keypair(command, state)
        case ModifyKeypair():
            return _modify_keypair(command, state)
        case PutKeypairPolicy():
            return _put_policy(command, state)
        case CreateResourceGroup():
            return _create_group(command, state)


# -- domains, projects, resource groups --------------------------------------------------------------------------------


def _create_domain(command: CreateDomain, state: Directory) -> Events:
    if command.name in state.domains:
        return []
    return [DomainCreated(at=command.at, name=command.name)]


def _create_project(command: CreateProject, state: Directory) -> Events:
    _known_domain(command.domain, state)
    existing = state.projects.get(command.project_id)
    if existing is not None:
        if existing == Project(command.project_id, command.name, command.domain, existing.active):
            return []
        raise Refused("project_id_taken", f"{command.project_id} is another project", "project_id")
    if state.project(command.domain, command.name) is not None:
        raise Refused("project_name_taken", f"{command.domain} has a project named {command.name} already", "name")
    return [ProjectCreated(at=command.at, project_id=command.project_id, name=command.name, domain=command.domain)]


def _create_group(command: CreateResourceGroup, state: Directory) -> Events:
    existing = state.groups.get(command.name)
    if existing is not None:
        if existing == ResourceGroup(command.name, command.cell, command.is_public, existing.active):
            return []
        raise Refused("resource_group_exists", f"{command.name} exists with other properties", "name")
    return [ResourceGroupCreated(at=command.at, name=command.name, cell=command.cell, is_public=command.is_public)]


# -- users -------------------------------------------------------------------------------------------------------------


def _create_user(command: CreateUser, state: Directory) -> Events:
    _known_domain(command.domain, state)
    existing = state.users.get(command.user_id)
    if existing is not None:
        if _is_same_user(command, existing):
            return []
        raise Refused("user_id_taken", f"{command.user_id} is another user", "user_id")
    if command.email.lower() in state.users_by_email:
        raise Refused("email_taken", f"there is a user with the email {command.email} already", "email")
    if command.username in state.users_by_name:
        raise Refused("username_taken", f"there is a user named {command.username} already", "username")
    return [
        UserCreated(
            at=command.at,
            user_id=command.user_id,
            email=command.email,
            username=command.username,
            full_name=command.full_name,
            role=command.role,
            domain=command.domain,
            password_hash=command.password_hash,
        )
    ]


def _is_same_user(command: CreateUser, user: User) -> bool:
    asked = (command.email, command.username, command.full_name, command.role, command.domain)
    known = (user.email, user.username, user.full_name, user.role, user.domain)
    return asked == known and command.password_hash == user.password_hash


def _modify_user(command: ModifyUser, state: Directory) -> Events:
    if _known_user(command.user_id, state).active == command.active:
        return []
    return [UserModified(at=command.at, user_id=command.user_id, active=command.active)]


def _set_password(command: SetUserPassword, state: Directory) -> Events:
    if _known_user(command.user_id, state).password_hash == command.password_hash:
        return []
    return [UserPasswordSet(at=command.at, user_id=command.user_id, password_hash=command.password_hash)]


def _join(command: JoinProject, state: Directory) -> Events:
    user = _known_user(command.user_id, state)
    project = _known_project(command.project_id, state)
    if project.domain != user.domain:
        raise Refused("other_domain", f"the project belongs to the domain {project.domain}", "project_id")
    if command.project_id in user.projects:
        return []
    return [ProjectJoined(at=command.at, user_id=command.user_id, project_id=command.project_id)]


# -- keypairs ----------------------------------------------------------------------------------------------------------


def _create_keypair(command: CreateKeypair, state: Directory) -> Events:
    _known_user(command.user_id, state)
    _known_policy(command.policy, state)
    existing = state.keypairs.get(command.access_key)
    if existing is not None:
        asked = (command.user_id, command.secret_sealed, command.policy, command.is_admin, command.rate_limit)
        known = (
            existing.user_id,
            existing.secret_sealed,
            existing.policy,
            existing.is_admin,
            existing.rate_limit,
        )
        if asked == known:
            return []
        raise Refused("access_key_taken", f"there is a keypair {command.access_key} already", "access_key")
    return [
        KeypairCreated(
            at=command.at,
            access_key=command.access_key,
            user_id=command.user_id,
            secret_sealed=command.secret_sealed,
            policy=command.policy,
            is_admin=command.is_admin,
            rate_limit=command.rate_limit,
        )
    ]


def _modify_keypair(command: ModifyKeypair, state: Directory) -> Events:
    keypair = state.keypairs.get(command.access_key)
    if keypair is None:
        raise Refused("unknown_keypair", f"no keypair {command.access_key}", "access_key")
    active = keypair.active if command.active is None else command.active
    policy = keypair.policy if command.policy is None else command.policy
    _known_policy(policy, state)
    if (active, policy) == (keypair.active, keypair.policy):
        return []
    return [KeypairModified(at=command.at, access_key=command.access_key, active=active, policy=policy)]


def _put_policy(command: PutKeypairPolicy, state: Directory) -> Events:
    if state.policies.get(command.name) == command.limits:
        return []
    return [KeypairPolicyPut(at=command.at, name=command.name, limits=command.limits)]


# -- what must be there ------------------------------------------------------------------------------------------------


def _known_domain(name: str, state: Directory) -> None:
    if name not in state.domains:
        raise Refused("unknown_domain", f"no domain {name}", "domain")


def _known_policy(name: str, state: Directory) -> None:
    if name not in state.policies:
        raise Refused("unknown_policy", f"no keypair policy {name}", "policy")


def _known_user(user_id: UserId, state: Directory) -> User:
    user = state.users.get(user_id)
    if user is None:
        raise Refused("unknown_user", f"no user {user_id}", "user_id")
    return user


def _known_project(project_id: ProjectId, state: Directory) -> Project:
    project = state.projects.get(project_id)
    if project is None:
        raise Refused("unknown_project", f"no project {project_id}", "project_id")
    return project
