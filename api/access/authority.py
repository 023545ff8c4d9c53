"""Who may do what: the one place that decides it, for GraphQL, REST and `/refold/commands` alike.

A superadmin may everything. A domain admin may what concerns the users, projects and keypairs of his domain, but makes
nobody a superadmin and touches none. A user may what concerns himself. A monitor looks, and changes nothing. What has
no rule in `RULES` nobody may. What belongs to another tenant is refused in the words in which a thing that does not
exist is refused: who guesses ids learns nothing.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from api.http.problems import Problem
from domain.directory.messages.cluster import SetAnnouncement, SetManagerStatus, SetUtilisationRule
from domain.directory.messages.groups import (
    CreatePreset,
    CreateResourceGroup,
    DeletePreset,
    DeleteResourceGroup,
    GrantResourceGroup,
    ModifyPreset,
    ModifyResourceGroup,
    RevokeAllResourceGroups,
    RevokeResourceGroup,
)
from domain.directory.messages.images import (
    AliasImage,
    CreateRegistry,
    DealiasImage,
    DeleteRegistry,
    ForgetImage,
    ModifyImage,
    ModifyRegistry,
    RegisterImage,
)
from domain.directory.messages.keypairs import (
    CreateKeypair,
    DeleteKeypair,
    KeypairCommand,
    ModifyKeypair,
    SetBootstrapScript,
    SetSshKeypair,
)
from domain.directory.messages.personal import (
    CreateDotfile,
    CreateTemplate,
    DeleteDotfile,
    DeleteTemplate,
    DotfileCommand,
    DotfileScope,
    ModifyDotfile,
    ModifyTemplate,
    TemplateCommand,
)
from domain.directory.messages.policies import (
    CreateKeypairPolicy,
    CreateProjectPolicy,
    CreateUserPolicy,
    DeleteKeypairPolicy,
    DeleteProjectPolicy,
    DeleteUserPolicy,
    ModifyKeypairPolicy,
    ModifyProjectPolicy,
    ModifyUserPolicy,
)
from domain.directory.messages.tasks import CancelTask, StartTask
from domain.directory.messages.tenants import (
    CreateDomain,
    CreateProject,
    ModifyDomain,
    ModifyProject,
    ProjectCommand,
    PurgeDomain,
    PurgeProject,
)
from domain.directory.messages.users import (
    CreateUser,
    JoinProject,
    LeaveProject,
    ModifyUser,
    PurgeUser,
    Role,
    SetUserPassword,
    SetUserTotp,
    UserCommand,
)
from domain.directory.state import Directory, Identity, Project, User
from domain.messages import Command, ProjectId, Refused, UserId
from domain.scheduling.messages import ExcludeAgent, IncludeAgent, RemoveAgent
from domain.session.messages import (
    CancelSession,
    RenameSession,
    RequestSession,
    RestartSession,
    SessionCommand,
    TerminateSession,
)
from domain.vfolder.messages.common import ScopeCommand
from domain.vfolder.messages.requests import (
    AcceptInvitation,
    CancelInvitation,
    ChangeInvitation,
    CloneFolder,
    CreateFolder,
    InviteToFolder,
    LeaveFolder,
    PurgeFolder,
    RejectInvitation,
    RemoveMember,
    RenameFolder,
    RestoreFolder,
    SetFolderOptions,
    SetMember,
    SetQuota,
    TransferFolder,
    TrashFolder,
)
from domain.vfolder.mounts import Scope

Rule = Callable[[Any, Identity, Directory], None]
"""Passes for a command of its class that its sender may give; else raises `Refused` or `Problem`."""


def authorize(command: Command, who: Identity, directory: Directory) -> None:
    """Return if `who` may give the command. Raises `Refused` where it is about nothing he can see, else `Problem`."""
    rule = RULES.get(type(command))
    if rule is None:
        raise _forbidden(f"{type(command).__name__} is not given by people")
    if who.user.spec.role is Role.MONITOR:
        raise _forbidden("a monitor changes nothing")
    rule(command, who, directory)


# -- who sees what -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sight:
    """Whose things somebody sees. `domain` None: of all domains; `user_id` None: of all users in there."""

    domain: str | None = None
    user_id: UserId | None = None

    @property
    def everything(self) -> bool:
        return self.domain is None

    @property
    def own_only(self) -> bool:
        return self.user_id is not None

    def user(self, user: User) -> bool:
        """Whether he sees this user, and what belongs to him."""
        return self.everything or (user.spec.domain == self.domain and self.user_id in (None, user.user_id))

    def tenant(self, domain: str) -> bool:
        """Whether he sees this domain."""
        return self.domain in (None, domain)


def sight(who: Identity) -> Sight:
    """A superadmin sees everything, a domain admin and a monitor their domain, a user what is his."""
    user = who.user
    match user.spec.role:
        case Role.SUPERADMIN:
            return Sight()
        case Role.ADMIN | Role.MONITOR:
            return Sight(user.spec.domain)
        case Role.USER:
            return Sight(user.spec.domain, user.user_id)


def sees_project(who: Identity, project: Project) -> bool:
    """Users see the projects they are in."""
    seen = sight(who)
    return seen.tenant(project.domain) and (not seen.own_only or project.project_id in who.user.projects)


def is_superadmin(who: Identity) -> bool:
    return who.user.spec.role is Role.SUPERADMIN


def only_superadmins(who: Identity) -> None:
    """For what is no command. Raises `Problem` (403)."""
    if not is_superadmin(who):
        raise _forbidden("this is for superadmins")


def may_act_for(who: Identity, other: Identity) -> bool:
    """Whether sessions of another's keypair are his to ask for, to see and to end (`owner_access_key`)."""
    if who.user.user_id == other.user.user_id or is_superadmin(who):
        return True
    is_admin = who.keypair.spec.is_admin or who.user.spec.role is Role.ADMIN
    return is_admin and who.user.spec.domain == other.user.spec.domain and not is_superadmin(other)


# -- what a command is about -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Target:
    """What a command is about. `domain`: where it belongs, None where it is not there; `owner`: if it is somebody's."""

    missing: Refused
    domain: str | None = None
    owner: User | None = None


def _user(command: UserCommand, directory: Directory) -> Target:
    return _of_user(directory.users.get(command.user_id), command.user_id)


def _new_user(command: CreateUser, _directory: Directory) -> Target:
    return Target(_no_domain(command.spec.domain), command.spec.domain)


def _user_of_keypair(command: CreateKeypair, directory: Directory) -> Target:
    return _of_user(directory.users.get(command.user_id), command.user_id)


def _keypair(command: KeypairCommand, directory: Directory) -> Target:
    return _of_keypair(command.access_key, directory)


def _project(command: ProjectCommand, directory: Directory) -> Target:
    return _of_project(command.project_id, directory)


def _new_project(command: CreateProject, _directory: Directory) -> Target:
    return Target(_no_domain(command.domain), command.domain)


def _template(command: TemplateCommand, directory: Directory) -> Target:
    missing = Refused("unknown_template", f"no template {command.template_id}", "template_id")
    template = directory.templates.get(command.template_id)
    owner = None if template is None else directory.users.get(template.owner)
    return Target(missing, None if owner is None else owner.spec.domain, owner)


def _new_template(command: CreateTemplate, directory: Directory) -> Target:
    return _of_user(directory.users.get(command.template.owner), command.template.owner)


def _dotfile(command: DotfileCommand, directory: Directory) -> Target:
    match command.owner.scope:
        case DotfileScope.KEYPAIR:
            return _of_keypair(command.owner.id, directory)
        case DotfileScope.PROJECT:
            return _of_project(command.owner.id, directory)
        case DotfileScope.DOMAIN:
            return Target(_no_domain(command.owner.id), command.owner.id)


def _folders(command: ScopeCommand, directory: Directory) -> Target:
    return _of_scope(command.scope, directory)


def _of_scope(scope: Scope, directory: Directory) -> Target:
    """Users have their folders, and admins those of their domain's projects."""
    kind, _, subject = scope.partition(":")
    if kind == "user":
        return _of_user(directory.users.get(UserId(subject)), subject)
    return _of_project(subject, directory)


def _of_user(user: User | None, user_id: str) -> Target:
    missing = Refused("unknown_user", f"no user {user_id}", "user_id")
    return Target(missing) if user is None else Target(missing, user.spec.domain, user)


def _of_keypair(access_key: str, directory: Directory) -> Target:
    missing = Refused("unknown_keypair", f"no keypair {access_key}", "access_key")
    identity = directory.identity(access_key)
    return Target(missing) if identity is None else Target(missing, identity.user.spec.domain, identity.user)


def _of_project(project_id: str, directory: Directory) -> Target:
    project = directory.projects.get(ProjectId(project_id))
    return Target(_no_project(project_id), None if project is None else project.domain)


def _no_domain(name: str) -> Refused:
    return Refused("unknown_domain", f"no domain {name}", "domain")


def _no_project(project_id: str) -> Refused:
    return Refused("unknown_project", f"no project {project_id}", "project_id")


# -- the rules ---------------------------------------------------------------------------------------------------------

About = Callable[[Any, Directory], Target]


def _superadmins(command: Command, who: Identity, _directory: Directory) -> None:
    if not is_superadmin(who):
        raise _forbidden(f"{type(command).__name__} is for superadmins")


def _admins(about: About) -> Rule:
    """Superadmins, and the admins of the domain in which it is."""

    def rule(command: Command, who: Identity, directory: Directory) -> None:
        if is_superadmin(who):
            return
        if who.user.spec.role is not Role.ADMIN:
            raise _forbidden(f"{type(command).__name__} is for admins")
        target = about(command, directory)
        if target.domain != who.user.spec.domain:
            raise target.missing
        if target.owner is not None and target.owner.spec.role is Role.SUPERADMIN:
            raise _forbidden("only a superadmin changes what belongs to a superadmin")

    return rule


def _himself_and_admins(about: About) -> Rule:
    """Also whose it is; to other users it is not there."""
    admins = _admins(about)

    def rule(command: Command, who: Identity, directory: Directory) -> None:
        target = about(command, directory)
        if target.owner is not None and target.owner.user_id == who.user.user_id:
            return
        if target.owner is not None and who.user.spec.role is Role.USER:
            raise target.missing
        admins(command, who, directory)

    return rule


def _both(*rules: Rule) -> Rule:
    def rule(command: Command, who: Identity, directory: Directory) -> None:
        for each in rules:
            each(command, who, directory)

    return rule


def _no_new_superadmin(command: CreateUser | ModifyUser, who: Identity, _directory: Directory) -> None:
    role = command.spec.role if isinstance(command, CreateUser) else command.changes.get("role")
    if role is Role.SUPERADMIN and not is_superadmin(who):
        raise _forbidden("only a superadmin makes somebody a superadmin", "role")


def _stays_in_domain(command: ModifyUser, who: Identity, _directory: Directory) -> None:
    domain = command.changes.get("domain")
    if domain is not None and not sight(who).tenant(domain):
        raise _no_domain(domain)


def _into_own_project(command: JoinProject | LeaveProject, who: Identity, directory: Directory) -> None:
    project = directory.projects.get(command.project_id)
    if not is_superadmin(who) and (project is None or not sees_project(who, project)):
        raise _no_project(command.project_id)


def _template_in_own_project(command: CreateTemplate, who: Identity, directory: Directory) -> None:
    project = directory.projects.get(command.template.project_id)
    if not is_superadmin(who) and (project is None or not sees_project(who, project)):
        raise _no_project(command.template.project_id)


def _to_whom_he_sees(command: TransferFolder, who: Identity, directory: Directory) -> None:
    target = _of_scope(command.to, directory)
    if target.domain is None or not sight(who).tenant(target.domain):
        raise target.missing


def _in_a_volume(command: CreateFolder | CloneFolder, who: Identity, _directory: Directory) -> None:
    if command.spec.unmanaged_path is not None and not is_superadmin(who):
        raise _forbidden("only a superadmin makes a folder of a path on hosts", "unmanaged_path")


def _own_sessions(command: SessionCommand, who: Identity, directory: Directory) -> None:
    owner = directory.identity(command.owner)
    if is_superadmin(who) or (owner is not None and may_act_for(who, owner)):
        return
    if who.keypair.spec.is_admin or who.user.spec.role is Role.ADMIN:
        raise _of_keypair(command.owner, directory).missing
    raise _forbidden("these are not your sessions: owner must be your own access key", "owner")


RULES: Final[Mapping[type[Command], Rule]] = {
    RequestSession: _own_sessions,
    CancelSession: _own_sessions,
    TerminateSession: _own_sessions,
    RestartSession: _own_sessions,
    RenameSession: _own_sessions,
    RemoveAgent: _superadmins,
    ExcludeAgent: _superadmins,
    IncludeAgent: _superadmins,
    CreateDomain: _superadmins,
    ModifyDomain: _superadmins,
    PurgeDomain: _superadmins,
    CreateProject: _admins(_new_project),
    ModifyProject: _admins(_project),
    PurgeProject: _admins(_project),
    CreateUser: _both(_admins(_new_user), _no_new_superadmin),
    ModifyUser: _both(_admins(_user), _no_new_superadmin, _stays_in_domain),
    PurgeUser: _admins(_user),
    # One's own password is changed where the old one is asked for (`/auth/update-password`), not by a bare command.
    SetUserPassword: _admins(_user),
    SetUserTotp: _admins(_user),  # one's own takes a code (`/totp`)
    JoinProject: _both(_admins(_user), _into_own_project),
    LeaveProject: _both(_admins(_user), _into_own_project),
    CreateKeypair: _admins(_user_of_keypair),
    ModifyKeypair: _admins(_keypair),
    DeleteKeypair: _admins(_keypair),
    SetSshKeypair: _himself_and_admins(_keypair),
    SetBootstrapScript: _himself_and_admins(_keypair),
    CreateKeypairPolicy: _superadmins,
    ModifyKeypairPolicy: _superadmins,
    DeleteKeypairPolicy: _superadmins,
    CreateUserPolicy: _superadmins,
    ModifyUserPolicy: _superadmins,
    DeleteUserPolicy: _superadmins,
    CreateProjectPolicy: _superadmins,
    ModifyProjectPolicy: _superadmins,
    DeleteProjectPolicy: _superadmins,
    CreateResourceGroup: _superadmins,
    ModifyResourceGroup: _superadmins,
    DeleteResourceGroup: _superadmins,
    GrantResourceGroup: _superadmins,
    RevokeResourceGroup: _superadmins,
    RevokeAllResourceGroups: _superadmins,
    CreatePreset: _superadmins,
    ModifyPreset: _superadmins,
    DeletePreset: _superadmins,
    CreateTemplate: _both(_himself_and_admins(_new_template), _template_in_own_project),
    ModifyTemplate: _himself_and_admins(_template),
    DeleteTemplate: _himself_and_admins(_template),
    CreateDotfile: _himself_and_admins(_dotfile),
    ModifyDotfile: _himself_and_admins(_dotfile),
    DeleteDotfile: _himself_and_admins(_dotfile),
    SetAnnouncement: _superadmins,
    SetManagerStatus: _superadmins,
    SetUtilisationRule: _superadmins,
    CreateRegistry: _superadmins,
    ModifyRegistry: _superadmins,
    DeleteRegistry: _superadmins,
    RegisterImage: _superadmins,
    ModifyImage: _superadmins,
    ForgetImage: _superadmins,
    AliasImage: _superadmins,
    DealiasImage: _superadmins,
    StartTask: _superadmins,
    CancelTask: _superadmins,
    CreateFolder: _both(_himself_and_admins(_folders), _in_a_volume),
    CloneFolder: _both(_himself_and_admins(_folders), _in_a_volume),
    RenameFolder: _himself_and_admins(_folders),
    SetFolderOptions: _himself_and_admins(_folders),
    TrashFolder: _himself_and_admins(_folders),
    RestoreFolder: _himself_and_admins(_folders),
    PurgeFolder: _himself_and_admins(_folders),
    InviteToFolder: _himself_and_admins(_folders),
    ChangeInvitation: _himself_and_admins(_folders),
    CancelInvitation: _himself_and_admins(_folders),
    AcceptInvitation: _himself_and_admins(_folders),
    RejectInvitation: _himself_and_admins(_folders),
    SetMember: _himself_and_admins(_folders),
    RemoveMember: _himself_and_admins(_folders),
    LeaveFolder: _himself_and_admins(_folders),
    TransferFolder: _both(_admins(_folders), _to_whom_he_sees),
    SetQuota: _superadmins,
}


def _forbidden(detail: str, field: str | None = None) -> Problem:
    return Problem(403, "generic-forbidden", "Forbidden operation", detail, field=field)
