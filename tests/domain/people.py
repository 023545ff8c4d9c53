"""A small directory and what is said to it: the vocabulary of its examples."""

from datetime import UTC, datetime, timedelta
from typing import Any

from domain.directory.consequences import DIRECTORY
from domain.directory.messages.cluster import ManagerStatus, SetAnnouncement, SetManagerStatus, SetUtilisationRule
from domain.directory.messages.groups import (
    CreatePreset,
    CreateResourceGroup,
    DeleteResourceGroup,
    Grantee,
    GranteeKind,
    GrantResourceGroup,
    ModifyPreset,
    ModifyResourceGroup,
    PresetSpec,
)
from domain.directory.messages.keypairs import (
    CreateKeypair,
    DeleteKeypair,
    KeypairSpec,
    ModifyKeypair,
    SetBootstrapScript,
    SetSshKeypair,
    SshKeypair,
)
from domain.directory.messages.personal import (
    CreateDotfile,
    CreateTemplate,
    DeleteDotfile,
    DeleteTemplate,
    DotfileOwner,
    DotfileScope,
    Template,
    TemplateId,
    TemplateKind,
)
from domain.directory.messages.policies import (
    CreateKeypairPolicy,
    CreateProjectPolicy,
    CreateUserPolicy,
    DeleteKeypairPolicy,
    DeleteProjectPolicy,
    DeleteUserPolicy,
    KeypairPolicySpec,
)
from domain.directory.messages.tenants import (
    CreateDomain,
    CreateProject,
    ModifyDomain,
    ModifyProject,
    PurgeDomain,
    PurgeProject,
)
from domain.directory.messages.users import (
    CreateUser,
    LeaveProject,
    ModifyUser,
    NoteFailedSignIn,
    PurgeUser,
    Role,
    SetUserPassword,
    SetUserTotp,
    SignIn,
    SignOut,
    UserSpec,
)
from domain.messages import AccessKey, Cell, Command, ProjectId, UserId
from domain.session.idling import UtilisationRule
from domain.session.messages import Limits
from tests.domain import images
from tests.domain.spec import Given, given

NOW = datetime(2026, 1, 1, tzinfo=UTC)
HASH, OTHER_HASH = "$argon2id$v=19$m=8,t=1,p=1$c2FsdA$aGFzaA", "$argon2id$v=19$m=8,t=1,p=1$c2FsdA$b3RoZXI"
SEALED = "c2VjcmV0"
ROOT, ADA, EVE = UserId("u-root"), UserId("u-ada"), UserId("u-eve")
TEAM, ELSEWHERE = ProjectId("p-team"), ProjectId("p-elsewhere")
KEY, SPARE = AccessKey("AKIA"), AccessKey("AKIB")
SMALL = KeypairPolicySpec(max_concurrent_sessions=5, max_containers_per_session=2)
LIMITS = Limits(max_concurrent_sessions=5, max_kernels_per_session=2, idle_timeout_seconds=1800)
T1 = TemplateId("t-1")
COOKIE, NEXT_COOKIE = "a" * 64, "b" * 64


def after(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def user(user_id: str, name: str, role: Role = Role.USER, domain: str = "default", **more: Any) -> CreateUser:
    spec = UserSpec(username=name, role=role, domain=domain)
    return CreateUser(
        at=NOW, user_id=UserId(user_id), email=f"{name}@example.com", spec=spec, password_hash=HASH, **more
    )


def keypair(access_key: str, user_id: str = ADA, policy: str = "basic") -> CreateKeypair:
    spec = KeypairSpec(resource_policy=policy)
    return CreateKeypair(
        at=NOW, access_key=AccessKey(access_key), user_id=UserId(user_id), secret_sealed=SEALED, spec=spec
    )


def modify_user(user_id: UserId = ADA, projects: tuple[ProjectId, ...] | None = None, **changes: Any) -> ModifyUser:
    return ModifyUser.model_validate({"at": NOW, "user_id": user_id, "changes": changes, "projects": projects})


def modify_keypair(access_key: AccessKey = KEY, **changes: Any) -> ModifyKeypair:
    return ModifyKeypair.model_validate({"at": NOW, "access_key": access_key, "changes": changes})


def sign_in(cookie: str = COOKIE, at: float = 0, lasts: float = 3600, replaces: str | None = None) -> SignIn:
    return SignIn(
        at=after(at), user_id=ADA, sign_in_id=cookie, replaces=replaces, client="::1", expires_at=after(at + lasts)
    )


def wrong_password(at: float = 0) -> NoteFailedSignIn:
    return NoteFailedSignIn(at=after(at), user_id=ADA, client="::1")


def dotfile(
    path: str = ".bashrc", size: int = 5, owner: str = KEY, scope: DotfileScope = DotfileScope.KEYPAIR
) -> CreateDotfile:
    whose = DotfileOwner(scope=scope, id=owner)
    return CreateDotfile(at=NOW, owner=whose, path=path, mode="644", content=SEALED, size=size)


def grant(kind: GranteeKind, grantee_id: str, name: str = "gpus") -> GrantResourceGroup:
    return GrantResourceGroup(at=NOW, name=name, to=Grantee(kind=kind, id=grantee_id))


def template(template_id: str = T1, owner: str = ADA, project_id: str = TEAM) -> CreateTemplate:
    asked = Template(
        kind=TemplateKind.TASK,
        name="t",
        domain="default",
        project_id=ProjectId(project_id),
        owner=UserId(owner),
        body=SEALED,
    )
    return CreateTemplate(at=NOW, template_id=TemplateId(template_id), template=asked)


create_group = CreateResourceGroup(at=NOW, name="gpus", cell=Cell("default"))
create_preset = CreatePreset(at=NOW, name="one", resource_group="gpus", spec=PresetSpec(resource_slots={"cpu": 1000}))

beginning: tuple[Command, ...] = (
    CreateKeypairPolicy(at=NOW, name="basic", spec=SMALL),
    CreateUserPolicy(at=NOW, name="default"),
    CreateProjectPolicy(at=NOW, name="default"),
    CreateDomain(at=NOW, name="default"),
    CreateDomain(at=NOW, name="other"),
    CreateProject(at=NOW, project_id=TEAM, name="team", domain="default"),
    CreateProject(at=NOW, project_id=ELSEWHERE, name="team", domain="other"),
    create_group,
    user(ROOT, "root", Role.SUPERADMIN),
    user(ADA, "ada", projects=(TEAM,)),
    keypair(KEY),
)

nobody = given(DIRECTORY)
everybody: Given = nobody.and_when(*beginning)
"""A superadmin; ada in a project of the domain `default`, with one keypair; another domain with a project."""

life: tuple[Command, ...] = (
    *beginning,
    grant(GranteeKind.DOMAIN, "default"),
    create_preset,
    template(),
    dotfile(),
    sign_in(),
    wrong_password(),
    SignOut(at=NOW, user_id=ADA, sign_in_id=COOKIE),
    SetUserPassword(at=NOW, user_id=ADA, password_hash=OTHER_HASH, by_himself=True),
    SetUserTotp(at=NOW, user_id=ADA, secret=SEALED),
    SetSshKeypair(at=NOW, access_key=KEY, ssh=SshKeypair(public_key="ssh-ed25519 AAAA", private_key=SEALED)),
    SetBootstrapScript(at=NOW, access_key=KEY, script=SEALED),
    modify_keypair(rate_limit=10),
    modify_user(full_name="Ada L."),
    ModifyDomain(at=NOW, name="default", changes={"description": "ours"}, rename="home"),
    ModifyProject(at=NOW, project_id=TEAM, rename="crew"),
    ModifyResourceGroup(at=NOW, name="gpus", changes={"public": False}),
    ModifyPreset(at=NOW, name="one", resource_group="gpus", changes={"shared_memory": 1024}),
    SetAnnouncement(at=NOW, enabled=True, message="Hello"),
    SetManagerStatus(at=NOW, status=ManagerStatus.FROZEN),
    SetUtilisationRule(at=NOW, rule=UtilisationRule(thresholds={"cuda_util": 5}, window_seconds=600)),
    LeaveProject(at=NOW, user_id=ADA, project_id=TEAM),
    DeleteTemplate(at=NOW, template_id=T1),
    DeleteDotfile(at=NOW, owner=DotfileOwner(scope=DotfileScope.KEYPAIR, id=KEY), path=".bashrc"),
    DeleteResourceGroup(at=NOW, name="gpus"),
    keypair(SPARE),
    DeleteKeypair(at=NOW, access_key=SPARE),
    user(EVE, "eve", domain="other"),
    PurgeUser(at=NOW, user_id=EVE),
    PurgeProject(at=NOW, project_id=ELSEWHERE),
    PurgeDomain(at=NOW, name="other"),
    CreateKeypairPolicy(at=NOW, name="unused"),
    DeleteKeypairPolicy(at=NOW, name="unused"),
    CreateUserPolicy(at=NOW, name="unused"),
    DeleteUserPolicy(at=NOW, name="unused"),
    CreateProjectPolicy(at=NOW, name="unused"),
    DeleteProjectPolicy(at=NOW, name="unused"),
    *images.life,
)
"""One of everything that can happen."""
