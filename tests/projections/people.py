"""A history of the directory in which every event happens, and one of people by the thousand."""

from datetime import timedelta
from typing import Final

from domain.directory.messages.cluster import ManagerStatus, SetAnnouncement, SetManagerStatus, SetUtilisationRule
from domain.directory.messages.groups import (
    CreatePreset,
    CreateResourceGroup,
    DeletePreset,
    DeleteResourceGroup,
    Grantee,
    GranteeKind,
    GrantResourceGroup,
    ModifyPreset,
    ModifyResourceGroup,
    PresetSpec,
    ResourceGroupSpec,
    RevokeAllResourceGroups,
    RevokeResourceGroup,
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
    ModifyDotfile,
    ModifyTemplate,
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
    ModifyKeypairPolicy,
    ModifyProjectPolicy,
    ModifyUserPolicy,
)
from domain.directory.messages.tenants import (
    CreateDomain,
    CreateProject,
    DomainSpec,
    ModifyDomain,
    ModifyProject,
    ProjectSpec,
    ProjectType,
    PurgeDomain,
    PurgeProject,
)
from domain.directory.messages.users import (
    CreateUser,
    JoinProject,
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
    UserStatus,
)
from domain.messages import AccessKey, Cell, Command, ProjectId, UserId
from domain.session.idling import UtilisationRule
from tests.projections import images
from tests.projections.story import START, Scribe

SEALED: Final = "c2VjcmV0"  # "secret"
HASHED: Final = "$argon2id$v=19$m=16,t=2,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNo"
SIGN_IN: Final = "5e" * 32
AGAIN: Final = "a1" * 32

ADA, EVE, BOB = UserId("u-ada"), UserId("u-eve"), UserId("u-bob")
VISION, SOUND, MODELS = ProjectId("p-vision"), ProjectId("p-sound"), ProjectId("p-models")
LAB, CLUB = "lab", "club"
ADAS, ADAS_OTHER, EVES = AccessKey("AKADA"), AccessKey("AKADA2"), AccessKey("AKEVE")

_T = START
_LATER = START + timedelta(hours=1)


def commands() -> list[Command]:
    """What there is at the end: ada and eve in the domain `institute` (once `lab`), eve also in no project any more."""
    return [*_founded(), *_people(), *_things(), *_changed(), *images.commands(), *_ended()]


def _founded() -> list[Command]:
    return [
        CreateKeypairPolicy(at=_T, name="plain"),
        CreateKeypairPolicy(at=_T, name="short-lived"),
        CreateUserPolicy(at=_T, name="plain"),
        CreateUserPolicy(at=_T, name="short-lived"),
        CreateProjectPolicy(at=_T, name="plain"),
        CreateProjectPolicy(at=_T, name="short-lived"),
        CreateDomain(
            at=_T,
            name=LAB,
            spec=DomainSpec(
                description="of light",
                total_resource_slots={"cpu": 8000},
                allowed_vfolder_hosts={"local:volume1": ("create-vfolder",)},
                allowed_docker_registries=("registry.example",),
            ),
        ),
        CreateDomain(at=_T, name=CLUB),
        CreateProject(
            at=_T,
            project_id=VISION,
            name="vision",
            domain=LAB,
            spec=ProjectSpec(resource_policy="plain"),
        ),
        CreateProject(at=_T, project_id=SOUND, name="sound", domain=LAB, spec=ProjectSpec(resource_policy="plain")),
        CreateProject(
            at=_T,
            project_id=MODELS,
            name="models",
            domain=CLUB,
            project_type=ProjectType.MODEL_STORE,
            spec=ProjectSpec(resource_policy="plain", container_registry={"registry": "r", "project": "p"}),
        ),
    ]


def _user(user_id: UserId, name: str, domain: str, role: Role, *projects: ProjectId) -> Command:
    spec = UserSpec(username=name, full_name=name.title(), domain=domain, role=role, resource_policy="plain")
    return CreateUser(
        at=_T, user_id=user_id, email=f"{name.title()}@example.org", spec=spec, password_hash=HASHED, projects=projects
    )


def _people() -> list[Command]:
    spec = KeypairSpec(resource_policy="plain", rate_limit=1000)
    ssh = SshKeypair(public_key="ssh-ed25519 AAAA ada", private_key=SEALED)
    return [
        _user(ADA, "ada", LAB, Role.SUPERADMIN, VISION, SOUND),
        _user(EVE, "eve", LAB, Role.USER, VISION),
        _user(BOB, "bob", CLUB, Role.ADMIN, MODELS),
        CreateKeypair(at=_T, access_key=ADAS, user_id=ADA, secret_sealed=SEALED, spec=spec, ssh=ssh),
        CreateKeypair(at=_T, access_key=ADAS_OTHER, user_id=ADA, secret_sealed=SEALED, spec=spec),
        CreateKeypair(at=_T, access_key=EVES, user_id=EVE, secret_sealed=SEALED, spec=spec),
        CreateKeypair(at=_T, access_key=AccessKey("AKBOB"), user_id=BOB, secret_sealed=SEALED, spec=spec),
    ]


def _things() -> list[Command]:
    group = ResourceGroupSpec(public=False, wsproxy_addr="http://proxy", wsproxy_api_token=SEALED)
    slots = PresetSpec(resource_slots={"cpu": 1000, "mem": 1 << 30}, shared_memory=1 << 20)
    template = Template(kind=TemplateKind.TASK, name="t", domain=LAB, project_id=VISION, owner=ADA, body=SEALED)
    things: list[Command] = [
        CreateResourceGroup(at=_T, name="gpus", cell=Cell("default"), spec=group),
        CreateResourceGroup(at=_T, name="cpus", cell=Cell("default")),
        CreatePreset(at=_T, name="small", spec=slots),
        CreatePreset(at=_T, name="small", resource_group="gpus", spec=slots),
        CreatePreset(at=_T, name="gone", spec=slots),
        CreateTemplate(at=_T, template_id=TemplateId("t-1"), template=template),
        CreateTemplate(at=_T, template_id=TemplateId("t-2"), template=template),
    ]
    for to in (
        Grantee(kind=GranteeKind.DOMAIN, id=LAB),
        Grantee(kind=GranteeKind.DOMAIN, id=CLUB),
        Grantee(kind=GranteeKind.PROJECT, id=VISION),
        Grantee(kind=GranteeKind.KEYPAIR, id=EVES),
    ):
        things += [GrantResourceGroup(at=_T, name=name, to=to) for name in ("gpus", "cpus")]
    for scope, owner in ((DotfileScope.DOMAIN, LAB), (DotfileScope.PROJECT, VISION), (DotfileScope.KEYPAIR, ADAS)):
        about = DotfileOwner(scope=scope, id=owner)
        for path in (".vimrc", ".bashrc"):
            things.append(CreateDotfile(at=_T, owner=about, path=path, mode="644", content=SEALED, size=6))
        things.append(ModifyDotfile(at=_LATER, owner=about, path=".vimrc", mode="600", content=SEALED, size=6))
        things.append(DeleteDotfile(at=_LATER, owner=about, path=".bashrc"))
    return things


def _changed() -> list[Command]:
    at = _LATER
    ssh = SshKeypair(public_key="ssh-ed25519 BBBB ada", private_key=SEALED)
    return [
        ModifyKeypairPolicy(at=at, name="plain", changes={"max_concurrent_sessions": 7}),
        ModifyUserPolicy(at=at, name="plain", changes={"max_vfolder_count": 3}),
        ModifyProjectPolicy(at=at, name="plain", changes={"max_network_count": 3}),
        ModifyDomain(at=at, name=LAB, changes={"description": "of sound"}, rename="institute"),
        CreateDomain(at=at, name=LAB),  # another thing of the old name
        ModifyProject(at=at, project_id=SOUND, changes={"description": "s"}, rename="noise"),
        ModifyUser(at=at, user_id=EVE, changes={"role": Role.ADMIN, "full_name": "Eve Adams"}),
        ModifyKeypair(at=at, access_key=EVES, changes={"active": False, "is_admin": True}),
        SetSshKeypair(at=at, access_key=ADAS, ssh=ssh),
        SetBootstrapScript(at=at, access_key=ADAS, script=SEALED),
        SetUserPassword(at=at, user_id=EVE, password_hash=HASHED + "x"),
        SetUserTotp(at=at, user_id=EVE, secret=SEALED),
        LeaveProject(at=at, user_id=EVE, project_id=VISION),
        JoinProject(at=at, user_id=EVE, project_id=SOUND),
        SignIn(at=at, user_id=EVE, sign_in_id=SIGN_IN, client="192.0.2.7", expires_at=at + timedelta(days=1)),
        NoteFailedSignIn(at=at, user_id=EVE, client="192.0.2.8"),
        SignOut(at=at, user_id=EVE, sign_in_id=SIGN_IN),
        SignIn(at=at, user_id=BOB, sign_in_id=AGAIN, client="192.0.2.9", expires_at=at + timedelta(days=1)),
        ModifyResourceGroup(at=at, name="gpus", changes={"description": "fast", "scheduler_opts": {"a": {"b": 1}}}),
        ModifyPreset(at=at, name="small", changes={"shared_memory": None}),
        ModifyTemplate(at=at, template_id=TemplateId("t-1"), name="renamed", body="b3RoZXI="),
        SetAnnouncement(at=at, enabled=True, message="tea at five"),
        SetManagerStatus(at=at, status=ManagerStatus.FROZEN),
        SetUtilisationRule(at=at, rule=UtilisationRule(thresholds={"cuda_util": 5}, window_seconds=600)),
    ]


def _ended() -> list[Command]:
    at = _LATER + timedelta(hours=1)
    return [
        RevokeResourceGroup(at=at, name="cpus", to=Grantee(kind=GranteeKind.PROJECT, id=VISION)),
        RevokeAllResourceGroups(at=at, to=Grantee(kind=GranteeKind.KEYPAIR, id=EVES)),
        DeletePreset(at=at, name="gone"),
        DeleteTemplate(at=at, template_id=TemplateId("t-2")),
        DeleteResourceGroup(at=at, name="cpus"),
        DeleteKeypair(at=at, access_key=ADAS_OTHER),
        ModifyUser(at=at, user_id=EVE, changes={"status": UserStatus.DELETED}),
        PurgeProject(at=at, project_id=SOUND),
        PurgeUser(at=at, user_id=BOB),
        PurgeProject(at=at, project_id=MODELS),
        PurgeDomain(at=at, name=CLUB),
        DeleteKeypairPolicy(at=at, name="short-lived"),
        DeleteUserPolicy(at=at, name="short-lived"),
        DeleteProjectPolicy(at=at, name="short-lived"),
    ]


def everything(scribe: Scribe) -> None:
    for command in commands():
        scribe.settle("directory", [command])


def thousands(scribe: Scribe, count: int) -> None:
    """So many users with a keypair each, in ten projects of five domains."""
    given: list[Command] = [
        CreateKeypairPolicy(at=_T, name="default", spec=KeypairPolicySpec()),
        CreateUserPolicy(at=_T, name="default"),
        CreateProjectPolicy(at=_T, name="default"),
    ]
    for n in range(5):
        given.append(CreateDomain(at=_T, name=f"domain{n}"))
        for m in range(2):
            project_id = ProjectId(f"p-{n}-{m}")
            given.append(CreateProject(at=_T, project_id=project_id, name=f"project{m}", domain=f"domain{n}"))
    for n in range(count):
        user_id, at = UserId(f"u-{n:06}"), _T + timedelta(seconds=n)
        spec = UserSpec(username=f"user{n}", full_name=f"User {n}", domain=f"domain{n % 5}")
        projects = tuple(ProjectId(f"p-{n % 5}-{m}") for m in range(2))
        given.append(
            CreateUser(
                at=at,
                user_id=user_id,
                email=f"user{n}@example.org",
                spec=spec,
                password_hash=HASHED,
                projects=projects,
            )
        )
        given.append(CreateKeypair(at=at, access_key=AccessKey(f"AK{n:06}"), user_id=user_id, secret_sealed=SEALED))
    scribe.settle("directory", given)
