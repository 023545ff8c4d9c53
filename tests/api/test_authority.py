"""Who may give which command: the whole table, role by role, and what strangers are told."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

import pytest

from api.access.authority import RULES, authorize, may_act_for, sight
from api.commands import GivenByPeople
from api.http.asyncapi import members
from api.http.problems import Problem
from domain.contexts import CONTEXTS
from domain.directory.messages import DirectoryCommands
from domain.directory.messages.common import DirectoryCommand
from domain.directory.messages.groups import Grantee, GranteeKind, PresetSpec
from domain.directory.messages.images import ImageFacts, RegistrySpec
from domain.directory.messages.keypairs import CreateKeypair, KeypairSpec, SshKeypair
from domain.directory.messages.personal import (
    CreateTemplate,
    DotfileOwner,
    DotfileScope,
    Template,
    TemplateId,
    TemplateKind,
)
from domain.directory.messages.policies import CreateKeypairPolicy, CreateProjectPolicy, CreateUserPolicy
from domain.directory.messages.tasks import ScanRegistries
from domain.directory.messages.tenants import CreateDomain, CreateProject
from domain.directory.messages.users import CreateUser, ModifyUser, Role, UserSpec
from domain.directory.state import Directory, Identity
from domain.messages import AccessKey, AgentId, Cell, Command, KernelId, ProjectId, Refused, SessionId, UserId
from domain.session.messages import Seat, SessionCommand, SessionSpec
from domain.vfolder.messages import FolderCommands
from domain.vfolder.messages.common import FolderSpec, ScopeCommand
from domain.vfolder.messages.requests import TransferFolder
from domain.vfolder.mounts import FolderId, FolderRef, Permission, project_scope, user_scope

FOLDER: Final = FolderId("00000000-0000-0000-0000-00000000000f")
NOW: Final = datetime(2026, 1, 1, tzinfo=UTC)
HASHED: Final = "$argon2id$x"

PEOPLE: Final = {
    "root": ("home", Role.SUPERADMIN),
    "boss": ("home", Role.ADMIN),
    "ada": ("home", Role.USER),
    "eve": ("home", Role.USER),
    "watch": ("home", Role.MONITOR),
    "lord": ("away", Role.ADMIN),
    "kim": ("away", Role.USER),
}
HOME, AWAY = ProjectId("home-project"), ProjectId("away-project")


def _directory() -> Directory:
    directory = Directory()
    given: list[Any] = [
        CreateKeypairPolicy(at=NOW, name="default"),
        CreateUserPolicy(at=NOW, name="default"),
        CreateProjectPolicy(at=NOW, name="default"),
        CreateDomain(at=NOW, name="home"),
        CreateDomain(at=NOW, name="away"),
        CreateProject(at=NOW, project_id=HOME, name="p", domain="home"),
        CreateProject(at=NOW, project_id=AWAY, name="p", domain="away"),
    ]
    for who, (domain, role) in PEOPLE.items():
        project = HOME if domain == "home" else AWAY
        spec = UserSpec(username=who, role=role, domain=domain)
        given += [
            CreateUser(
                at=NOW, user_id=UserId(who), email=f"{who}@x", spec=spec, password_hash=HASHED, projects=(project,)
            ),
            CreateKeypair(at=NOW, access_key=AccessKey(f"AK{who}"), user_id=UserId(who), secret_sealed="c2VjcmV0"),
            CreateTemplate(at=NOW, template_id=TemplateId(f"template-{who}"), template=_template(who)),
        ]
    for command in given:
        for event in DIRECTORY_CONTEXT.decide(command, directory):
            directory = DIRECTORY_CONTEXT.evolve(directory, event)
    return directory


def _template(who: str) -> Template:
    domain = PEOPLE[who][0]
    return Template(
        kind=TemplateKind.TASK,
        name="t",
        domain=domain,
        project_id=HOME if domain == "home" else AWAY,
        owner=UserId(who),
        body="c2VjcmV0",
    )


DIRECTORY_CONTEXT: Final[Any] = CONTEXTS["directory"]
DIRECTORY: Final = _directory()


def identity(who: str) -> Identity:
    found = DIRECTORY.identity(f"AK{who}")
    assert found is not None
    return found


def answer(who: str, command: Command) -> str:
    """`may`, `missing` or `forbidden`."""
    try:
        authorize(command, identity(who), DIRECTORY)
    except Refused as refused:
        return "missing" if refused.code.startswith("unknown_") else refused.code
    except Problem as problem:
        return "forbidden" if problem.status == 403 else problem.kind
    return "may"


# -- the table ---------------------------------------------------------------------------------------------------------


def about(whose: str) -> dict[str, Any]:
    """Fields that say what a command is about, were it that user's, or his domain's."""
    domain = PEOPLE[whose][0]
    spec: dict[str, Any] = {"username": "new", "domain": domain}
    return {
        "user_id": whose,
        "access_key": f"AK{whose}",
        "owner": f"AK{whose}",
        "project_id": HOME if domain == "home" else AWAY,
        "domain": domain,
        "name": "name",
        "email": "new@x",
        "password_hash": HASHED,
        "secret_sealed": "c2VjcmV0",
        "secret": None,
        "script": None,
        "ssh": SshKeypair(public_key="ssh-rsa", private_key="c2VjcmV0"),
        "to": Grantee(kind=GranteeKind.DOMAIN, id=domain),
        "template_id": f"template-{whose}",
        "template": _template(whose),
        "path": ".x",
        "mode": "644",
        "content": "c2VjcmV0",
        "size": 6,
        "enabled": True,
        "status": "frozen",
        "rule": None,
        "session_id": SessionId("s"),
        "kernels": (Seat(kernel_id=KernelId("s"), role="main", index=1),),
        "cell": Cell("default"),
        "agent_id": AgentId("a"),
        "reference": "cr.example.org/x:1",
        "alias": "x",
        "facts": ImageFacts(registry="local"),
        "task_id": "t",
        "work": ScanRegistries(registries=("local",)),
        "user_spec": spec,
        "scope": user_scope(UserId(whose)),
        "folder_id": FOLDER,
        "source": FolderRef(scope=user_scope(UserId(whose)), folder_id=FOLDER, host="local:volume1"),
        "retention_seconds": 60,
        "invitation_id": "i",
        "inviter": whose,
        "invitee": whose,
        "permission": Permission.RO,
        "host": "local:volume1",
        "max_bytes": 1,
    }


SPECS: Final[dict[str, Any]] = {
    "CreatePreset": PresetSpec(resource_slots={}),
    "CreateRegistry": RegistrySpec(url="https://cr.example.org"),
    "RequestSession": SessionSpec(image="i", slots={}),
    "CreateFolder": FolderSpec(host="local:volume1"),
    "CloneFolder": FolderSpec(host="local:volume1"),
}


def command_of(kind: type[Command], whose: str) -> Any:
    fields = {name: value for name, value in about(whose).items() if name in kind.model_fields}
    if kind is CreateUser:
        fields["spec"] = UserSpec.model_validate(about(whose)["user_spec"])
    elif kind.__name__ in SPECS:
        fields["spec"] = SPECS[kind.__name__]
    elif "Dotfile" in kind.__name__:
        fields["owner"] = DotfileOwner(scope=DotfileScope.KEYPAIR, id=f"AK{whose}")
    elif kind is TransferFolder:
        fields["to"] = user_scope(UserId(whose))
    return kind.model_validate({"type": kind.__name__, "at": NOW, **fields})


FOLDERS: Final = [kind for kind in members(FolderCommands) if issubclass(kind, ScopeCommand) and kind.by_users]
"""Given by their routes only, which see to what their owner may do on a host."""

KINDS: Final = [*(kind for kind in members(GivenByPeople) if issubclass(kind, Command)), *FOLDERS]

SUPERADMINS: Final = {
    "RemoveAgent", "ExcludeAgent", "IncludeAgent",
    "CreateDomain", "ModifyDomain", "PurgeDomain", "CreateKeypairPolicy", "ModifyKeypairPolicy",
    "DeleteKeypairPolicy", "CreateUserPolicy", "ModifyUserPolicy", "DeleteUserPolicy", "CreateProjectPolicy",
    "ModifyProjectPolicy", "DeleteProjectPolicy", "CreateResourceGroup", "ModifyResourceGroup", "DeleteResourceGroup",
    "GrantResourceGroup", "RevokeResourceGroup", "RevokeAllResourceGroups", "CreatePreset", "ModifyPreset",
    "DeletePreset", "SetAnnouncement", "SetManagerStatus", "SetUtilisationRule", "CreateRegistry", "ModifyRegistry",
    "DeleteRegistry", "RegisterImage", "ModifyImage", "ForgetImage", "AliasImage", "DealiasImage", "StartTask",
    "CancelTask", "SetQuota",
}  # fmt: skip
ADMINS: Final = {
    "CreateProject", "ModifyProject", "PurgeProject", "CreateUser", "ModifyUser", "PurgeUser", "SetUserPassword",
    "JoinProject", "LeaveProject", "CreateKeypair", "ModifyKeypair", "DeleteKeypair", "SetUserTotp",
    "TransferFolder",
}  # fmt: skip
OWNERS: Final = {
    "SetSshKeypair", "SetBootstrapScript", "CreateTemplate", "ModifyTemplate", "DeleteTemplate",
    "CreateDotfile", "ModifyDotfile", "DeleteDotfile",
    "CreateFolder", "CloneFolder", "RenameFolder", "SetFolderOptions", "TrashFolder", "RestoreFolder", "PurgeFolder",
    "InviteToFolder", "ChangeInvitation", "CancelInvitation", "AcceptInvitation", "RejectInvitation", "SetMember",
    "RemoveMember", "LeaveFolder",
}  # fmt: skip
SESSIONS: Final = {"RequestSession", "CancelSession", "TerminateSession", "RestartSession", "RenameSession"}

EXPECTED: Final[dict[str, dict[str, str]]] = {
    # who gives it:   about ada of home,   and about kim of away
    "root": {"superadmins": "may may", "admins": "may may", "owners": "may may", "sessions": "may may"},
    "boss": {
        "superadmins": "forbidden forbidden",
        "admins": "may missing",
        "owners": "may missing",
        "sessions": "may missing",
    },
    "lord": {
        "superadmins": "forbidden forbidden",
        "admins": "missing may",
        "owners": "missing may",
        "sessions": "missing may",
    },
    "ada": {
        "superadmins": "forbidden forbidden",
        "admins": "forbidden forbidden",
        "owners": "may missing",
        "sessions": "may forbidden",
    },
    "eve": {
        "superadmins": "forbidden forbidden",
        "admins": "forbidden forbidden",
        "owners": "missing missing",
        "sessions": "forbidden forbidden",
    },
    "watch": dict.fromkeys(("superadmins", "admins", "owners", "sessions"), "forbidden forbidden"),
}


def group_of(kind: type[Command]) -> str:
    """A command that is in none fails here: say who may give it."""
    groups = {"superadmins": SUPERADMINS, "admins": ADMINS, "owners": OWNERS, "sessions": SESSIONS}
    [group] = [name for name, names in groups.items() if kind.__name__ in names]
    return group


@pytest.mark.parametrize("who", EXPECTED)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_who_may_give_a_command(kind: type[Command], who: str) -> None:
    told = f"{answer(who, command_of(kind, 'ada'))} {answer(who, command_of(kind, 'kim'))}"
    assert told == EXPECTED[who][group_of(kind)]


def test_every_command_that_people_give_has_a_rule() -> None:
    assert {kind.__name__ for kind in KINDS} == {kind.__name__ for kind in RULES}


def test_what_has_no_rule_nobody_may_give() -> None:
    class Unheard(DirectoryCommand):
        pass

    assert answer("root", Unheard(at=NOW)) == "forbidden"


def test_what_only_the_api_gives_nobody_may_give() -> None:
    by_the_api = [kind for kind in members(DirectoryCommands) if kind not in KINDS]
    assert by_the_api
    assert not set(by_the_api) & set(RULES)


# -- what strangers are told -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind", [kind for kind in KINDS if group_of(kind) in {"admins", "owners"}], ids=lambda kind: kind.__name__
)
def test_another_tenants_thing_is_refused_as_one_that_does_not_exist(kind: type[Command]) -> None:
    there = command_of(kind, "kim")
    names = {"user_id": "nobody", "access_key": "AKnobody", "project_id": "nowhere", "domain": "nowhere"}
    changed: dict[str, Any] = {name: value for name, value in names.items() if name in kind.model_fields}
    if "template_id" in kind.model_fields:
        changed["template_id"] = "nothing"
    if kind is CreateTemplate:
        changed = {"template": there.template.model_copy(update={"owner": "nobody", "project_id": "nowhere"})}
    if kind is CreateUser:
        changed = {"spec": there.spec.model_copy(update={"domain": "nowhere"})}
    if kind is CreateKeypair:
        changed = {"user_id": "nobody"}
    if "Dotfile" in kind.__name__:
        changed = {"owner": DotfileOwner(scope=DotfileScope.KEYPAIR, id="AKnobody")}
    if kind in FOLDERS:
        changed = {"scope": user_scope(UserId("nobody"))}
    missing = there.model_copy(update=changed)
    told = []
    for command in (there, missing):
        with pytest.raises(Refused) as raised:
            authorize(command, identity("boss"), DIRECTORY)
        told.append((raised.value.code, raised.value.field, _without_name(raised.value.reason)))
    assert told[0] == told[1]


def _without_name(reason: str) -> str:
    return reason.rsplit(" ", 1)[0]


# -- what a domain admin must not --------------------------------------------------------------------------------------


def test_only_a_superadmin_makes_a_superadmin() -> None:
    spec = UserSpec(username="new", domain="home", role=Role.SUPERADMIN)
    create = CreateUser(at=NOW, user_id=UserId("new"), email="new@x", spec=spec, password_hash=HASHED)
    raise_ada = ModifyUser(at=NOW, user_id=UserId("ada"), changes={"role": Role.SUPERADMIN})
    assert [answer("boss", create), answer("boss", raise_ada)] == ["forbidden", "forbidden"]
    assert [answer("root", create), answer("root", raise_ada)] == ["may", "may"]
    assert answer("boss", ModifyUser(at=NOW, user_id=UserId("ada"), changes={"role": Role.ADMIN})) == "may"


@pytest.mark.parametrize("name", ["ModifyUser", "PurgeUser", "SetUserPassword", "CreateKeypair", "ModifyKeypair"])
def test_a_domain_admin_touches_no_superadmin(name: str) -> None:
    [kind] = [each for each in KINDS if each.__name__ == name]
    assert answer("boss", command_of(kind, "root")) == "forbidden"


def test_a_user_is_not_moved_into_another_domain_by_its_admin() -> None:
    assert answer("boss", ModifyUser(at=NOW, user_id=UserId("ada"), changes={"domain": "away"})) == "missing"
    assert answer("root", ModifyUser(at=NOW, user_id=UserId("ada"), changes={"domain": "away"})) == "may"


def test_a_user_is_not_put_into_another_domains_project() -> None:
    [join] = [kind for kind in KINDS if kind.__name__ == "JoinProject"]
    assert answer("boss", command_of(join, "ada").model_copy(update={"project_id": AWAY})) == "missing"


@pytest.mark.parametrize("kind", FOLDERS, ids=lambda kind: kind.__name__)
def test_a_projects_folders_are_the_admins_of_its_domain(kind: type[Command]) -> None:
    project = project_scope(HOME)
    command = command_of(kind, "ada").model_copy(
        update={"scope": project} | ({"to": project} if kind is TransferFolder else {})
    )
    told = {who: answer(who, command) for who in EXPECTED}
    boss, lord = ("forbidden", "forbidden") if kind.__name__ == "SetQuota" else ("may", "missing")
    rest = dict.fromkeys(("ada", "eve", "watch"), "forbidden")
    assert told == {"root": "may", "boss": boss, "lord": lord} | rest


def test_only_a_superadmin_makes_a_folder_of_a_path_on_hosts() -> None:
    [create] = [kind for kind in FOLDERS if kind.__name__ == "CreateFolder"]
    spec = FolderSpec(host="local:volume1", unmanaged_path="/mnt/raw")
    command = command_of(create, "ada").model_copy(update={"spec": spec})
    assert [answer(who, command) for who in ("ada", "boss", "root")] == ["forbidden", "forbidden", "may"]


def test_a_folder_is_not_given_to_another_tenants_user() -> None:
    command = command_of(TransferFolder, "ada").model_copy(update={"to": user_scope(UserId("kim"))})
    assert [answer(who, command) for who in ("boss", "root")] == ["missing", "may"]


# -- who sees what -----------------------------------------------------------------------------------------------------


def test_who_sees_whom() -> None:
    seen = {who: {other for other in PEOPLE if sight(identity(who)).user(identity(other).user)} for who in PEOPLE}
    at_home = {who for who, (domain, _) in PEOPLE.items() if domain == "home"}
    assert seen == {
        "root": set(PEOPLE),
        "boss": at_home,
        "watch": at_home,
        "ada": {"ada"},
        "eve": {"eve"},
        "lord": {"lord", "kim"},
        "kim": {"kim"},
    }


def test_who_acts_for_whom() -> None:
    for_ada = {who for who in PEOPLE if may_act_for(identity(who), identity("ada"))}
    assert for_ada == {"root", "boss", "ada"}
    assert {who for who in PEOPLE if may_act_for(identity(who), identity("root"))} == {"root"}


def test_a_keypair_with_the_admin_flag_acts_for_others_of_its_domain_only() -> None:
    eve = identity("eve")
    flagged = Identity(_with(eve.keypair, spec=KeypairSpec(is_admin=True)), eve.user)
    assert may_act_for(flagged, identity("ada"))
    assert not may_act_for(flagged, identity("kim"))


def _with(thing: Any, **changes: Any) -> Any:
    return replace(thing, **changes)


def test_all_session_commands_of_people_are_in_the_table() -> None:
    assert {kind.__name__ for kind in KINDS if issubclass(kind, SessionCommand)} == SESSIONS
