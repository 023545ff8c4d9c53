"""Users, and the projects they are in."""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from ipaddress import ip_network

from domain.directory.deciding import endings, keypairs
from domain.directory.deciding.references import (
    Events,
    changed,
    known_domain,
    known_policy,
    known_project,
    known_user,
    proper_id,
)
from domain.directory.messages.users import (
    CreateUser,
    JoinProject,
    LeaveProject,
    ModifyUser,
    ProjectJoined,
    ProjectLeft,
    PurgeUser,
    Role,
    SetUserPassword,
    SetUserTotp,
    SignedOut,
    UserCommands,
    UserCreated,
    UserModified,
    UserPasswordSet,
    UserPurged,
    UserSpec,
    UserTotpSet,
)
from domain.directory.state import Directory, User
from domain.messages import AccessKey, ProjectId, Refused


def decide(command: UserCommands, state: Directory) -> Events:
    match command:
        case CreateUser():
            return _create(command, state)
        case ModifyUser():
            return _modify(command, state)
        case SetUserPassword():
            return _set_password(command, state)
        case SetUserTotp():
            return _set_totp(command, state)
        case PurgeUser():
            return _purge(command, state)
        case JoinProject():
            return _join(command, state)
        case LeaveProject():
            return _leave(command, state)


def _create(command: CreateUser, state: Directory) -> Events:
    proper_id(command.user_id, "user_id")
    existing = state.users.get(command.user_id)
    if existing is not None:
        if _is_same(command, existing, state):
            return []
        raise Refused("user_id_taken", f"{command.user_id} is another user", "user_id")
    if state.user_by_email(command.email) is not None:
        raise Refused("email_taken", f"there is a user with the email {command.email} already", "email")
    new = command.keypair
    spec = command.spec
    if new is not None and spec.main_access_key is None:
        spec = spec.model_copy(update={"main_access_key": new.access_key})
    _proper(spec, None, state, () if new is None else (new.access_key,))
    _of_domain(command.projects, spec.domain, state)
    about = {"at": command.at, "user_id": command.user_id}
    return [
        UserCreated(**about, email=command.email, spec=spec, password_hash=command.password_hash),
        *([] if new is None else [keypairs.created(new, command.user_id, command.at, state, "keypair.")]),
        *(ProjectJoined(**about, project_id=project_id) for project_id in dict.fromkeys(command.projects)),
    ]


def _is_same(command: CreateUser, user: User, state: Directory) -> bool:
    """More keypairs, another main one, and more projects may have come since."""
    asked = (command.email, command.spec, command.password_hash)
    spec = user.spec.model_copy(update={"main_access_key": command.spec.main_access_key})
    return (
        asked == (user.email, spec, user.password_hash)
        and set(command.projects) <= set(user.projects)
        and (command.keypair is None or keypairs.is_there(command.keypair, command.user_id, state))
    )


def _modify(command: ModifyUser, state: Directory) -> Events:
    user = known_user(command.user_id, state)
    spec = changed(user.spec, command.changes)
    _proper(spec, user, state, user.keypairs)
    if not _is_superadmin(spec):
        _not_the_last(user, "status" if spec.role is user.spec.role else "role", state)
    stays = user.projects if spec.domain == user.spec.domain else ()
    if command.projects is not None:
        _of_domain(command.projects, spec.domain, state)
    wanted = stays if command.projects is None else tuple(dict.fromkeys(command.projects))
    about = {"at": command.at, "user_id": command.user_id}
    return [
        *(ProjectLeft(**about, project_id=each) for each in user.projects if each not in wanted),
        *([UserModified(**about, spec=spec)] if spec != user.spec else []),
        *(ProjectJoined(**about, project_id=each) for each in wanted if each not in user.projects),
        *(() if spec.active else ended_sign_ins(user, user.sign_ins, command.at)),
    ]


def _set_password(command: SetUserPassword, state: Directory) -> Events:
    """Whoever holds a cookie by the old password has to sign in again."""
    user = known_user(command.user_id, state)
    need_change = user.spec.need_password_change and not command.by_himself
    if (command.password_hash, need_change) == (user.password_hash, user.spec.need_password_change):
        return []
    changed = UserPasswordSet(
        at=command.at, user_id=command.user_id, password_hash=command.password_hash, need_change=need_change
    )
    return [changed, *ended_sign_ins(user, user.sign_ins, command.at)]


def _set_totp(command: SetUserTotp, state: Directory) -> Events:
    if known_user(command.user_id, state).totp_secret == command.secret:
        return []
    return [UserTotpSet(at=command.at, user_id=command.user_id, secret=command.secret)]


def _purge(command: PurgeUser, state: Directory) -> Events:
    user = known_user(command.user_id, state)
    _not_the_last(user, "user_id", state)
    return [
        *ended_sign_ins(user, user.sign_ins, command.at),
        *(event for access_key in user.keypairs for event in endings.keypair(access_key, command.at, state)),
        *endings.templates_of(command.user_id, command.at, state),
        *(ProjectLeft(at=command.at, user_id=command.user_id, project_id=each) for each in user.projects),
        UserPurged(at=command.at, user_id=command.user_id),
    ]


def _join(command: JoinProject, state: Directory) -> Events:
    user = known_user(command.user_id, state)
    _of_domain([command.project_id], user.spec.domain, state)
    if command.project_id in user.projects:
        return []
    return [ProjectJoined(at=command.at, user_id=command.user_id, project_id=command.project_id)]


def _leave(command: LeaveProject, state: Directory) -> Events:
    user = known_user(command.user_id, state)
    known_project(command.project_id, state)
    if command.project_id not in user.projects:
        return []
    return [ProjectLeft(at=command.at, user_id=command.user_id, project_id=command.project_id)]


def ended_sign_ins(user: User, sign_in_ids: Iterable[str], at: datetime) -> Sequence[SignedOut]:
    """One event for all of them; none for none."""
    gone = tuple(sorted(sign_in_ids))
    return [SignedOut(at=at, user_id=user.user_id, sign_in_ids=gone)] if gone else []


# -- what must hold of a user ------------------------------------------------------------------------------------------


def _proper(spec: UserSpec, user: User | None, state: Directory, his: Collection[AccessKey]) -> None:
    """Of the user as he is to be; `user` is who he was, if he was there. `his`: the keypairs he has then."""
    known_domain(spec.domain, state)
    known_policy(spec.resource_policy, state.user_policies)
    namesake = state.user_by_name(spec.username)
    if namesake is not None and (user is None or namesake.user_id != user.user_id):
        raise Refused("username_taken", f"there is a user named {spec.username} already", "username")
    if spec.main_access_key is None and his:
        raise Refused("main_keypair", "one of his keypairs must be the main one", "main_access_key")
    if spec.main_access_key is not None and spec.main_access_key not in his:
        raise Refused("unknown_keypair", f"he has no keypair {spec.main_access_key}", "main_access_key")
    for network in spec.allowed_client_ip:
        _proper_network(network)


def _proper_network(text: str) -> None:
    try:
        ip_network(text, strict=False)
    except ValueError:
        raise Refused("bad_network", f"{text[:80]!r} is no address or network", "allowed_client_ip") from None


def _of_domain(projects: Iterable[ProjectId], domain: str, state: Directory) -> None:
    for project_id in projects:
        project = known_project(project_id, state)
        if project.domain != domain:
            raise Refused("other_domain", f"the project belongs to the domain {project.domain}", "project_id")


def _is_superadmin(spec: UserSpec) -> bool:
    return spec.active and spec.role is Role.SUPERADMIN


def _not_the_last(user: User, field: str, state: Directory) -> None:
    """Somebody must be left who may do everything."""
    if _is_superadmin(user.spec) and not any(
        _is_superadmin(other.spec) for other in state.users.values() if other.user_id != user.user_id
    ):
        raise Refused("last_superadmin", "he is the last active superadmin", field)
