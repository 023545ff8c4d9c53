"""All that the directory knows, folded from its events (`domain.directory.folding`), and what may be asked of it.

The api folds the same to let people in.
"""

from collections.abc import Container
from dataclasses import dataclass, field
from datetime import datetime

from immutables import Map

from domain.directory.images import Image, ImageKey, canonical_names
from domain.directory.messages.cluster import ManagerStatus
from domain.directory.messages.groups import GranteeKind, PresetSpec, ResourceGroupSpec
from domain.directory.messages.images import (
    LOCAL,
    Architecture,
    ImageReference,
    LocalImage,
    RegistrySpec,
    RegistryType,
)
from domain.directory.messages.keypairs import KeypairSpec, SshKeypair
from domain.directory.messages.personal import DotfileScope, Template, TemplateId
from domain.directory.messages.policies import KeypairPolicySpec, ProjectPolicySpec, UserPolicySpec
from domain.directory.messages.tasks import CommitSession, TaskId
from domain.directory.messages.tenants import DomainSpec, ProjectSpec, ProjectType
from domain.directory.messages.users import UserSpec
from domain.directory.tasks import Task
from domain.messages import AccessKey, AgentId, Cell, ProjectId, SessionId, UserId
from domain.session.idling import UtilisationRule
from domain.session.messages import Limits

OwnerKey = tuple[DotfileScope, str]
"""Of a `DotfileOwner`: his scope and id."""

PresetKey = tuple[str | None, str]
"""Resource group (None: all of them) and name."""

LOCAL_REGISTRY = RegistrySpec(url="http://localhost", registry_type=RegistryType.LOCAL)
"""There from the beginning; its URL is never asked."""


@dataclass(frozen=True, slots=True)
class Domain:
    name: str
    spec: DomainSpec
    created_at: datetime
    modified_at: datetime


@dataclass(frozen=True, slots=True)
class Project:
    project_id: ProjectId
    name: str
    domain: str
    project_type: ProjectType
    spec: ProjectSpec
    created_at: datetime
    modified_at: datetime


@dataclass(frozen=True, slots=True)
class User:
    """`failures`: wrong passwords in a row. `sign_ins`: what his browsers hold, and until when that counts.

    `otp_step`: the last of his one-time passwords that was used.
    """

    user_id: UserId
    email: str
    spec: UserSpec
    password_hash: str
    created_at: datetime
    modified_at: datetime
    totp_secret: str | None = None
    otp_step: int | None = None
    projects: tuple[ProjectId, ...] = ()
    keypairs: tuple[AccessKey, ...] = ()
    sign_ins: Map[str, datetime] = field(default_factory=Map)
    failures: int = 0
    locked_until: datetime | None = None

    @property
    def active(self) -> bool:
        return self.spec.active

    def locked(self, at: datetime) -> bool:
        """Whether nobody may sign in as him then, whatever password he gives."""
        return self.locked_until is not None and at < self.locked_until


@dataclass(frozen=True, slots=True)
class Keypair:
    access_key: AccessKey
    user_id: UserId
    secret_sealed: str
    spec: KeypairSpec
    created_at: datetime
    modified_at: datetime
    ssh: SshKeypair | None = None
    bootstrap_script: str | None = None


@dataclass(frozen=True, slots=True)
class ResourceGroup:
    name: str
    cell: Cell
    spec: ResourceGroupSpec
    created_at: datetime
    grantees: frozenset[tuple[GranteeKind, str]] = frozenset()

    def is_granted(self, domain: str, project_id: ProjectId | None, access_key: str | None) -> bool:
        """Whether it is for everybody, or for one of these three."""
        return (
            self.spec.public
            or (GranteeKind.DOMAIN, domain) in self.grantees
            or (project_id is not None and (GranteeKind.PROJECT, project_id) in self.grantees)
            or (access_key is not None and (GranteeKind.KEYPAIR, access_key) in self.grantees)
        )


@dataclass(frozen=True, slots=True)
class Dotfile:
    """`content` is sealed, `size` the bytes of it in the clear."""

    path: str
    mode: str
    content: str
    size: int


@dataclass(frozen=True, slots=True)
class Announcement:
    enabled: bool = False
    message: str = ""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who signs with an access key."""

    keypair: Keypair
    user: User

    @property
    def active(self) -> bool:
        """Whether the signature counts."""
        return self.keypair.spec.active and self.user.active


@dataclass(frozen=True, slots=True)
class Directory:
    domains: Map[str, Domain] = field(default_factory=Map)
    projects: Map[ProjectId, Project] = field(default_factory=Map)
    users: Map[UserId, User] = field(default_factory=Map)
    keypairs: Map[AccessKey, Keypair] = field(default_factory=Map)
    keypair_policies: Map[str, KeypairPolicySpec] = field(default_factory=Map)
    user_policies: Map[str, UserPolicySpec] = field(default_factory=Map)
    project_policies: Map[str, ProjectPolicySpec] = field(default_factory=Map)
    groups: Map[str, ResourceGroup] = field(default_factory=Map)
    presets: Map[PresetKey, PresetSpec] = field(default_factory=Map)
    templates: Map[TemplateId, Template] = field(default_factory=Map)
    templates_since: Map[TemplateId, datetime] = field(default_factory=Map)
    dotfiles: Map[OwnerKey, Map[str, Dotfile]] = field(default_factory=Map)
    announcement: Announcement = Announcement()
    manager_status: ManagerStatus = ManagerStatus.RUNNING
    utilisation_rule: UtilisationRule | None = None
    registries: Map[str, RegistrySpec] = field(default_factory=lambda: Map({LOCAL: LOCAL_REGISTRY}))
    images: Map[ImageKey, Image] = field(default_factory=Map)
    aliases: Map[str, Map[Architecture, ImageReference]] = field(default_factory=Map)
    agent_images: Map[AgentId, Map[ImageKey, LocalImage]] = field(default_factory=Map)
    tasks: Map[TaskId, Task] = field(default_factory=Map)
    projects_by_name: Map[tuple[str, str], ProjectId] = field(default_factory=Map)
    users_by_email: Map[str, UserId] = field(default_factory=Map)
    users_by_name: Map[str, UserId] = field(default_factory=Map)
    users_by_sign_in: Map[str, UserId] = field(default_factory=Map)
    agents_by_image: Map[ImageKey, frozenset[AgentId]] = field(default_factory=Map)
    architectures_by_image: Map[ImageReference, frozenset[Architecture]] = field(default_factory=Map)

    # -- who ---------------------------------------------------------------------------------------------------------

    def identity(self, access_key: str) -> Identity | None:
        """The keypair and its user; None if there is no such key."""
        keypair = self.keypairs.get(AccessKey(access_key))
        return None if keypair is None else Identity(keypair, self.users[keypair.user_id])

    def user_by_email(self, email: str) -> User | None:
        """Whatever the case in which the email is written."""
        user_id = self.users_by_email.get(email.lower())
        return None if user_id is None else self.users[user_id]

    def user_by_name(self, name: str) -> User | None:
        user_id = self.users_by_name.get(name)
        return None if user_id is None else self.users[user_id]

    def user_by_sign_in(self, sign_in_id: str, at: datetime) -> User | None:
        """Who signed in so, if that counts then."""
        user_id = self.users_by_sign_in.get(sign_in_id)
        user = None if user_id is None else self.users[user_id]
        return user if user is not None and user.active and at < user.sign_ins[sign_in_id] else None

    def members(self, project_id: ProjectId) -> list[User]:
        """The users in the project, by email."""
        return sorted(
            (user for user in self.users.values() if project_id in user.projects), key=lambda each: each.email
        )

    def project(self, domain: str, name: str) -> Project | None:
        """The project of that name in the domain."""
        project_id = self.projects_by_name.get((domain, name))
        return None if project_id is None else self.projects[project_id]

    # -- what they may use -------------------------------------------------------------------------------------------

    def limits(self, access_key: AccessKey) -> Limits | None:
        """What its policy allows the keypair's sessions; None where it may not start any."""
        identity = self.identity(access_key)
        if identity is None or not identity.active or not self.domains[identity.user.spec.domain].spec.active:
            return None
        return self.keypair_policies[identity.keypair.spec.resource_policy].limits

    def groups_for(self, domain: str, project_id: ProjectId | None, access_key: str | None) -> list[str]:
        """The active resource groups these may use, by name."""
        return sorted(
            group.name
            for group in self.groups.values()
            if group.spec.active and group.is_granted(domain, project_id, access_key)
        )

    def dotfiles_of(self, scope: DotfileScope, owner_id: str) -> Map[str, Dotfile]:
        """By path; empty if he has none."""
        found: Map[str, Dotfile] = self.dotfiles.get((scope, owner_id), Map())
        return found

    # -- images ------------------------------------------------------------------------------------------------------

    def resolve_image(
        self, name: str, architecture: str, registries: Container[str] | None = None, user_id: UserId | None = None
    ) -> Image | None:
        """The image that a name means: an alias, a canonical reference, or what is short for one.

        Images that are of none of these registries, and not this user's own, count as if they did not exist; without
        registries all count.
        """

        def counts(image: Image) -> bool:
            if registries is None:
                return True
            return image.registry in registries if image.owner is None else image.owner == user_id

        def found(reference: str | None) -> Image | None:
            image = None if reference is None else self.images.get((reference, architecture))
            return image if image is not None and counts(image) else None

        if (aliased := found(self.alias(name).get(architecture))) is not None:
            return aliased
        meant = map(found, canonical_names(name, sorted(self.registries)))
        return next((image for image in meant if image is not None), None)

    def architectures_of(self, name: str, registries: Container[str] | None = None) -> list[Architecture]:
        """For which architectures the name means an image, as `resolve_image` has it."""
        possible = set(self.alias(name))
        for reference in canonical_names(name, self.registries):
            possible |= self.architectures_by_image.get(reference, frozenset())
        return sorted(each for each in possible if self.resolve_image(name, each, registries) is not None)

    def commit_of(self, session_id: SessionId) -> Task | None:
        """The task that makes an image of the session at the moment."""
        for task in self.tasks.values():
            if task.open and isinstance(task.work, CommitSession) and task.work.session_id == session_id:
                return task
        return None

    def alias(self, name: str) -> Map[Architecture, ImageReference]:
        """What an alias means for each architecture; empty if there is no such alias."""
        found: Map[Architecture, ImageReference] = self.aliases.get(name, Map())
        return found

    def registry_of(self, reference: str) -> str:
        """The registry that has images under such references; `local` where none of the others does."""
        host = reference.partition("/")[0]
        return host if host in self.registries else LOCAL

    def images_of(self, agent_id: AgentId) -> Map[ImageKey, LocalImage]:
        """What the agent has, as far as it has told."""
        found: Map[ImageKey, LocalImage] = self.agent_images.get(agent_id, Map())
        return found

    def agents_with(self, reference: str, architecture: str) -> list[AgentId]:
        """The agents that have the image already."""
        return sorted(self.agents_by_image.get((reference, architecture), frozenset()))
