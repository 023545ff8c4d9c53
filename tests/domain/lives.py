"""What may be asked of a directory, told by numbers, so that hypothesis looks for a short life that breaks a rule."""

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from domain.context import Alarm
from domain.directory.consequences import DIRECTORY
from domain.directory.messages import COMMANDS, DirectoryEvents
from domain.directory.state import Directory
from domain.messages import AccessKey, Refused
from domain.placements import ImageOrder, StopImageTask
from domain.session.messages import Limits, SetSessionLimits
from domain.vfolder.messages.common import ScopeLimits
from domain.vfolder.messages.reports import CloseScope, SetScopeLimits
from domain.vfolder.mounts import Scope
from tests.domain.people import HASH, OTHER_HASH, SEALED, after, beginning

many = settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
choices = st.lists(st.integers(0, 2**32), min_size=50, max_size=200)
"""Each is the seed of one command: lists of numbers are quickly made, and well shrunk."""

Pool = Sequence[Any] | Mapping[str, Any]
"""Values of which one is taken; or fields, each of which is taken of its own pool."""

# Few names, so that they meet.
DOMAINS, PROJECTS, POLICIES = ("default", "other"), ("p-team", "p-elsewhere", "p-3"), ("basic", "default")
PEOPLE, KEYS, NAMES = ("u-root", "u-ada", "u-eve"), ("AKIA", "AKIB", "AKIC"), ("root", "ada", "eve")
EMAILS = ("root@x.org", "Ada@x.org", "ADA@X.ORG", "ada@example.com")
GROUPS, PRESETS, TEMPLATES, COOKIES = ("gpus", "cpus"), ("small", "big"), ("t-1", "t-2"), ("a" * 64, "b" * 64)
STATUSES, TRUTH = ("active", "active", "inactive"), (True, False)
MEMBERSHIPS = ((), ("p-team",), ("p-elsewhere",), ("p-team", "p-3"))
GRANTEES = tuple(
    {"kind": kind, "id": each}
    for kind, pool in (("domain", DOMAINS), ("project", PROJECTS), ("keypair", KEYS))
    for each in pool
)
OWNERS = tuple({"scope": each["kind"], "id": each["id"]} for each in GRANTEES)
HOSTS: Sequence[Any] = (
    {},
    {"local:one": ["create-vfolder"]},
    {"local:one": ["upload-file"], "local:two": ["create-vfolder"]},
)
PROJECT_CHANGES = ({"resource_policy": POLICIES}, {"active": TRUTH}, {"allowed_vfolder_hosts": HOSTS})
COUNTED: Sequence[Mapping[str, int]] = ({}, {"max_vfolder_count": 1}, {"max_vfolder_count": 2})
SLOTS = ({"resource_slots": {"cpu": 1000}}, {"resource_slots": {"cpu": 2000}})
REGISTRIES, ARCHITECTURES, ALIASES = ("x.org", "y.org", "local"), ("x86_64", "aarch64"), ("py", "torch")
REFERENCES = ("x.org/py:1", "x.org/py:2", "y.org/py:1", "z.org/py:1")
AGENTS, TASKS = ("a1", "a2"), ("t1", "t2", "t3")
IMAGE = {"reference": REFERENCES, "architecture": ARCHITECTURES}
COME = tuple(
    tuple({"reference": each, "architecture": "x86_64", "size_bytes": size} for each in some)
    for size in (1, 2)
    for some in ((), REFERENCES[:1], REFERENCES[1:3])
)
GONE = tuple(tuple((each, "x86_64") for each in some) for some in ((), REFERENCES[:2], REFERENCES[2:]))
FOLDER = {"scope": "user:u-ada", "folder_id": "f1", "host": "local:one"}
WORKS = (
    {"work": "scan", "registries": ("x.org", "local")},
    {"work": "preload", "references": REFERENCES[:2], "agents": AGENTS},
    {"work": "unload", "references": REFERENCES[:1], "agents": AGENTS[:1]},
    {"work": "copy", "owner": KEYS[0], "source": FOLDER, "target": {**FOLDER, "folder_id": "t3"}},
)
USER = {"username": NAMES, "role": ("superadmin", "user"), "domain": DOMAINS}
USER_CHANGES = (
    {"role": ("superadmin", "user")},
    {"status": STATUSES},
    {"domain": DOMAINS},
    {"domain": DOMAINS},
    {"username": NAMES},
    {"main_access_key": (*KEYS, None)},
    {"resource_policy": POLICIES},
)
TEMPLATE = {
    "kind": ("task",),
    "name": ("t",),
    "domain": DOMAINS,
    "project_id": PROJECTS,
    "owner": PEOPLE,
    "body": (SEALED,),
}
DOTFILE = {"owner": OWNERS, "path": (".a", ".b")}
CONTENT = {**DOTFILE, "mode": ("600", "644"), "content": (SEALED,), "size": (1,)}

ABOUT_PEOPLE: Mapping[str, Mapping[str, Pool]] = {
    "CreateDomain": {"name": DOMAINS},
    "ModifyDomain": {
        "name": DOMAINS,
        "rename": (None, *DOMAINS, "third"),
        "changes": {"active": TRUTH, "allowed_vfolder_hosts": HOSTS},
    },
    "PurgeDomain": {"name": DOMAINS},
    "CreateProject": {"project_id": PROJECTS, "name": NAMES, "domain": DOMAINS},
    "ModifyProject": {"project_id": PROJECTS, "rename": NAMES, "changes": PROJECT_CHANGES},
    "PurgeProject": {"project_id": PROJECTS},
    "CreateUser": {
        "user_id": PEOPLE,
        "email": EMAILS,
        "spec": USER,
        "password_hash": (HASH,),
        "projects": MEMBERSHIPS,
        "keypair": (None, {"access_key": KEYS, "secret_sealed": (SEALED,), "spec": {"resource_policy": POLICIES}}),
    },
    "ModifyUser": {"user_id": PEOPLE, "changes": USER_CHANGES, "projects": (None, *MEMBERSHIPS)},
    "SetUserPassword": {"user_id": PEOPLE, "password_hash": (HASH, OTHER_HASH), "by_himself": TRUTH},
    "SetUserTotp": {"user_id": PEOPLE, "secret": (None, SEALED)},
    "PurgeUser": {"user_id": PEOPLE},
    "JoinProject": {"user_id": PEOPLE, "project_id": PROJECTS},
    "LeaveProject": {"user_id": PEOPLE, "project_id": PROJECTS},
    "SignIn": {
        "user_id": PEOPLE,
        "sign_in_id": COOKIES,
        "replaces": (None, *COOKIES),
        "expires_at": (after(60), after(3600)),
    },
    "NoteFailedSignIn": {"user_id": PEOPLE},
    "SignOut": {"user_id": PEOPLE, "sign_in_id": (None, *COOKIES)},
    "CreateKeypair": {
        "access_key": KEYS,
        "user_id": PEOPLE,
        "secret_sealed": (SEALED,),
        "spec": {"resource_policy": POLICIES},
    },
    "ModifyKeypair": {"access_key": KEYS, "changes": {"active": TRUTH, "resource_policy": POLICIES}},
    "SetSshKeypair": {"access_key": KEYS, "ssh": ({"public_key": "ssh", "private_key": SEALED},)},
    "SetBootstrapScript": {"access_key": KEYS, "script": (None, SEALED)},
    "DeleteKeypair": {"access_key": KEYS},
    "CreateKeypairPolicy": {"name": POLICIES, "spec": {"max_concurrent_sessions": (1, 2)}},
    "ModifyKeypairPolicy": {"name": POLICIES, "changes": {"max_concurrent_sessions": (1, 2)}},
    "DeleteKeypairPolicy": {"name": POLICIES},
    "CreateUserPolicy": {"name": POLICIES},
    "ModifyUserPolicy": {"name": POLICIES, "changes": COUNTED},
    "DeleteUserPolicy": {"name": POLICIES},
    "CreateProjectPolicy": {"name": POLICIES},
    "ModifyProjectPolicy": {"name": POLICIES, "changes": COUNTED},
    "DeleteProjectPolicy": {"name": POLICIES},
    "CreateResourceGroup": {"name": GROUPS},
    "ModifyResourceGroup": {"name": GROUPS, "changes": {"active": TRUTH, "public": TRUTH}},
    "DeleteResourceGroup": {"name": GROUPS},
    "GrantResourceGroup": {"name": GROUPS, "to": GRANTEES},
    "RevokeResourceGroup": {"name": GROUPS, "to": GRANTEES},
    "RevokeAllResourceGroups": {"to": GRANTEES},
    "CreatePreset": {"name": PRESETS, "resource_group": (None, *GROUPS), "spec": SLOTS},
    "ModifyPreset": {"name": PRESETS, "resource_group": (None, *GROUPS), "changes": SLOTS},
    "DeletePreset": {"name": PRESETS, "resource_group": (None, *GROUPS)},
    "CreateTemplate": {"template_id": TEMPLATES, "template": TEMPLATE},
    "ModifyTemplate": {"template_id": TEMPLATES, "name": ("t", "u")},
    "DeleteTemplate": {"template_id": TEMPLATES},
    "CreateDotfile": CONTENT,
    "ModifyDotfile": CONTENT,
    "DeleteDotfile": DOTFILE,
    "SetAnnouncement": {"enabled": TRUTH},
    "SetManagerStatus": {"status": ("running", "frozen")},
    "SetUtilisationRule": {"rule": (None, {"thresholds": {"mem": 5}, "window_seconds": 60})},
}
ABOUT_IMAGES: Mapping[str, Mapping[str, Pool]] = {
    "CreateRegistry": {"name": REGISTRIES, "spec": {"url": ("https://x",)}},
    "ModifyRegistry": {"name": REGISTRIES, "changes": {"ssl_verify": TRUTH}},
    "DeleteRegistry": {"name": REGISTRIES},
    "RegisterImage": {**IMAGE, "facts": {"registry": REGISTRIES, "size_bytes": (1, 2)}},
    "ModifyImage": {**IMAGE, "changes": {"accelerators": (None, ("cuda",))}},
    "ForgetImage": IMAGE,
    "AliasImage": {**IMAGE, "alias": ALIASES},
    "DealiasImage": {"alias": ALIASES},
    "ReportAgentImages": {"agent_id": AGENTS, "afresh": TRUTH, "come": COME, "gone": GONE},
    "ForgetAgent": {"agent_id": AGENTS},
    "StartTask": {"task_id": TASKS, "work": WORKS},
    "CancelTask": {"task_id": TASKS},
    "ReportTaskProgress": {"task_id": TASKS, "done": (0, 1, 5), "total": (0, 2), "agent_id": (None, *AGENTS)},
    "ReportTaskEnd": {"task_id": TASKS, "end": ("done", "failed"), "agent_id": (None, *AGENTS)},
    "PassTaskDeadline": {"task_id": TASKS, "deadline": (after(600), after(620))},
}
ASKED = {**ABOUT_PEOPLE, **ABOUT_IMAGES}
_OFTEN = (
    "CreateKeypair",
    "CreateUser",
    "ModifyUser",
    "ModifyUser",
    "CreateProject",
    "GrantResourceGroup",
    "CreateDotfile",
    "CreateTemplate",
    "SignIn",
)
PEOPLE_KINDS, IMAGE_KINDS = (*ABOUT_PEOPLE, *(_OFTEN * 4)), tuple(ABOUT_IMAGES)
"""Things have to be there before they can go wrong, and users have most rules."""


def command(seed: int, number: int, kinds: Sequence[str]) -> Any:
    """The command of one of these kinds that a number stands for."""
    random = Random(seed)

    def taken(pool: Pool) -> Any:
        if isinstance(pool, Mapping):
            return {name: taken(each) for name, each in pool.items()}
        value = random.choice(pool)
        return taken(value) if isinstance(value, Mapping) and _is_pool(value) else value

    kind = random.choice(kinds)
    return COMMANDS.validate_python({"type": kind, "at": after(number), **taken(ASKED[kind])})


def _is_pool(value: Mapping[str, Any]) -> bool:
    return bool(value) and all(
        isinstance(each, tuple) or (isinstance(each, Mapping) and _is_pool(each)) for each in value.values()
    )


class Life:
    """What came of the commands: the state, the events in the log, and what others have been told.

    `limits`: by keypair, and `folder_limits`: by owner, the last ones sent; `orders`: to agents, all of them;
    `alarms`: by subject, those yet to ring.
    """

    def __init__(self, seeds: list[int], kinds: Sequence[str] = PEOPLE_KINDS) -> None:
        self.state = Directory()
        self.events: list[DirectoryEvents] = []
        self.limits: dict[AccessKey, Limits | None] = {}
        self.folder_limits: dict[Scope, ScopeLimits | None] = {}
        self.orders: list[ImageOrder | StopImageTask] = []
        self.alarms: dict[str, Alarm] = {}
        for first in beginning:
            self.give(first)
        for number, seed in enumerate(seeds):
            if seed % 16 == 0:
                self.ring()
            else:
                self.give(command(seed, number, kinds))

    def give(self, asked: Any) -> None:
        try:
            events = DIRECTORY.decide(asked, self.state)
        except Refused:
            return
        for event in events:
            for sent in DIRECTORY.consequences(event, self.state):
                if isinstance(sent.message, SetSessionLimits):
                    self.limits[sent.message.owner] = sent.message.limits
                elif isinstance(sent.message, SetScopeLimits):
                    self.folder_limits[sent.message.scope] = sent.message.limits
                elif isinstance(sent.message, CloseScope):
                    self.folder_limits[sent.message.scope] = None
                else:
                    assert isinstance(sent.message, ImageOrder | StopImageTask)
                    self.orders.append(sent.message)
            if (alarm := DIRECTORY.alarm(event, self.state)) is not None:
                self.alarms[alarm.subject] = alarm
            self.state = DIRECTORY.evolve(self.state, event)
        self.events += events

    def ring(self) -> bool:
        """The next deadline comes, if there is one."""
        due = sorted((alarm.due, subject) for subject, alarm in self.alarms.items() if alarm.due)
        for _, subject in due[:1]:
            self.give(self.alarms.pop(subject).command)
        return bool(due)
