"""Who is answered what: each REST operation and WebSocket, asked by everybody. A route that has no row here fails.

What is asked for is ada's, or of her domain. Where a role may change something, it is made anew for each of them, or
the request would change nothing, so that one world serves all.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, Final

import httpx
import pytest
import pytest_asyncio

from api.app import _ROUTES
from api.http.sockets import UPGRADE
from domain.directory.messages.policies import ModifyUserPolicy
from domain.directory.messages.tenants import ModifyDomain
from domain.vfolder.messages.common import FolderSpec
from domain.vfolder.messages.requests import CreateFolder
from domain.vfolder.mounts import FolderId, user_scope
from tests.api.admin import HOME, AdminWorld, access_key, email, user_id
from tests.api.kernels import HANDSHAKE
from tests.api.storing import EVERYTHING, HOST, storing
from tests.whole import AGENT, an_id, now

pytestmark = [pytest.mark.cluster, pytest.mark.asyncio(loop_scope="module")]

ROLES: Final = ("root", "boss", "watch", "ada", "kim", "lord")
"""Superadmin, domain admin, monitor, the user whose things these are, a user and an admin of another domain."""

FOR_ADA: Final = {"owner_access_key": access_key("ada")}


@dataclass(frozen=True)
class Row:
    """`answers`: the status for each of `ROLES`; one stands for all. `is_public`: nobody has to sign it."""

    answers: str
    query: Mapping[str, Any] = field(default_factory=dict)
    body: Any = None
    path: Mapping[str, str] = field(default_factory=dict)
    is_public: bool = False

    def status(self, who: str) -> int:
        each = self.answers.split()
        return int(each[0] if len(each) == 1 else each[ROLES.index(who)])


TEMPLATE: Final = "apiVersion: v1\nkind: taskTemplate\nmetadata: {name: t}\nspec: {kernel: {image: python}}\n"
SESSION: Final = {"image": "python", "domain": "home", "group": "home-project", "enqueueOnly": True, "name": "$new"}
SSH: Final = {"pubkey": "x", "privkey": "x"}
MISSING: Final = {"agent_id": "nobody"}

EVERYBODY: Final = "200"
SUPERADMINS: Final = "200 403 403 403 403 403"
SUPERADMINS_204: Final = "204 403 403 403 403 403"

ACTING: Final = "200 200 403 200 403 404"
"""For who acts for ada: others may not, and to an admin of another domain she is not there."""

WAITING: Final = "409 409 403 409 403 404"
"""The same, where her session would have to run."""

OF_DOMAIN: Final = "200 200 200 200 404 404"
"""What her domain shares is not there for others."""

FOLDER: Final = FolderId(an_id("folder on a disk"))
OF_FOLDER: Final = {"reference": FOLDER}

MANAGED: Final = "200 200 404 200 404 404"
"""What admins may see and do about her folder; to others it is not there."""

LOOKED_INTO: Final = "200 403 404 200 404 404"
"""What lies in it is not for the admin of her domain."""

FOLDER_ROWS: Final[Mapping[str, Row]] = {
    "GET /folders": Row(EVERYBODY),
    "GET /folders/_/id": Row("404 404 404 200 404 404", {"name": "folder-on-disk"}),
    "POST /folders": Row("201 201 403 201 403 403", body={"name": "$new", "host": HOST}),
    "POST /folders/{reference}/clone": Row(
        "403 403 404 403 404 404", body={"target_name": "$new", "target_host": HOST}, path=OF_FOLDER
    ),
    "GET /folders/{reference}": Row(MANAGED, path=OF_FOLDER),
    "POST /folders/{reference}/rename": Row(
        "201 201 404 201 404 404", body={"new_name": "$new"}, path={"reference": "$folder"}
    ),
    "POST /folders/{reference}/update-options": Row(
        "201 201 404 201 404 404", body={"cloneable": False}, path=OF_FOLDER
    ),
    "DELETE /folders/{reference}": Row("204 204 404 204 404 404", path={"reference": "$folder"}),
    "DELETE /folders": Row("204 204 404 204 404 404", body={"id": "$folder"}),
    "POST /folders/restore-from-trash-bin": Row(MANAGED, body={"id": FOLDER}),
    "POST /folders/delete-from-trash-bin": Row("409 409 404 409 404 404", body={"id": FOLDER}),
    "POST /folders/purge": Row("409 409 404 409 404 404", body={"id": FOLDER}),
    # what lies in it
    "GET /folders/{reference}/files": Row(LOOKED_INTO, path=OF_FOLDER),
    "GET /refold/folders/{reference}/operations": Row(LOOKED_INTO, path=OF_FOLDER),
    "POST /folders/{reference}/request-upload": Row(LOOKED_INTO, body={"path": "a", "size": 1}, path=OF_FOLDER),
    "POST /folders/{reference}/request-download": Row(LOOKED_INTO, body={"path": "a"}, path=OF_FOLDER),
    "POST /folders/{reference}/mkdir": Row(
        "201 403 404 201 404 404", body={"path": "d", "exist_ok": True}, path=OF_FOLDER
    ),
    **{
        f"{method} /folders/{{reference}}/delete-files": Row(
            "404 403 404 404 404 404", body={"files": ["nothing"]}, path=OF_FOLDER
        )
        for method in ("POST", "DELETE")
    },
    "POST /folders/{reference}/rename-file": Row(
        "404 403 404 404 404 404", body={"target_path": "nothing", "new_name": "x"}, path=OF_FOLDER
    ),
    "POST /folders/{reference}/move-file": Row(
        "404 403 404 404 404 404", body={"src": "nothing", "dst": "x"}, path=OF_FOLDER
    ),
    # who else has it
    "POST /folders/{reference}/invite": Row(MANAGED, body={"perm": "ro", "emails": [email("eve")]}, path=OF_FOLDER),
    "GET /folders/invitations/list": Row(EVERYBODY),
    "GET /folders/invitations/list-sent": Row(EVERYBODY),
    "GET /folders/invitations/list_sent": Row(EVERYBODY),
    "POST /folders/invitations/update/{inv_id}": Row("404", body={"perm": "ro"}, path={"inv_id": an_id("nothing")}),
    "POST /folders/invitations/accept": Row("404", body={"inv_id": an_id("nothing")}),
    "POST /folders/invitations/delete": Row("404", body={"inv_id": an_id("nothing")}),
    "DELETE /folders/invitations/delete": Row("404", body={"inv_id": an_id("nothing")}),
    "POST /folders/{reference}/leave": Row("400 400 404 400 404 404", path=OF_FOLDER),
    "POST /folders/{reference}/share": Row("400 400 404 400 404 404", body={"emails": [email("eve")]}, path=OF_FOLDER),
    **{
        f"{method} /folders/{{reference}}/unshare": Row(
            "400 400 404 400 404 404", body={"emails": [email("eve")]}, path=OF_FOLDER
        )
        for method in ("POST", "DELETE")
    },
    "GET /folders/_/shared": Row(MANAGED, {"vfolder_id": FOLDER}),
    "POST /folders/_/shared": Row(MANAGED, body={"vfolder": FOLDER, "user": email("eve")}),
    "POST /folders/_/change-ownership": Row(
        "200 200 404 403 404 404", body={"vfolder": FOLDER, "user_email": email("ada")}
    ),
    # where it lies
    "GET /folders/_/hosts": Row(EVERYBODY),
    "GET /folders/_/all_hosts": Row(SUPERADMINS),
    "GET /folders/_/all-hosts": Row(SUPERADMINS),
    "GET /folders/_/allowed_types": Row(EVERYBODY),
    "GET /folders/_/allowed-types": Row(EVERYBODY),
    "GET /folders/_/perf-metric": Row(SUPERADMINS, {"folder_host": HOST}),
    "GET /folders/_/mounts": Row(SUPERADMINS),
    "POST /folders/_/mounts": Row("403"),
    "DELETE /folders/_/mounts": Row("403"),
    "GET /folders/_/fstab": Row(SUPERADMINS),
    "GET /folders/_/quota": Row(MANAGED, {"id": FOLDER}),
    "POST /folders/_/quota": Row(SUPERADMINS, body={"id": FOLDER, "input": {"size_bytes": 10**9}}),
    "GET /folders/_/usage": Row(LOOKED_INTO, {"id": FOLDER}),
    "GET /folders/_/used-bytes": Row(MANAGED, {"id": FOLDER}),
}

ROWS: Final[Mapping[str, Row]] = {
    **FOLDER_ROWS,
    # sessions
    "POST /session": Row("201 201 403 201 403 404", FOR_ADA, SESSION),
    "POST /session/create": Row("201 201 403 201 403 404", FOR_ADA, SESSION),
    "POST /session/_/create-from-template": Row("404 404 403 404 403 404", FOR_ADA, {"template_id": "nothing"}),
    "GET /session/{reference}": Row(ACTING, FOR_ADA, path={"reference": "session-of-ada"}),
    "PATCH /session/{reference}": Row("409 409 403 409 403 404", FOR_ADA, path={"reference": "$session"}),
    "DELETE /session/{reference}": Row(ACTING, FOR_ADA, path={"reference": "$session"}),
    "POST /session/{reference}/rename": Row(
        "204 204 403 204 403 404", FOR_ADA | {"name": "$new"}, path={"reference": "$session"}
    ),
    "POST /session/{reference}/commit": Row("403 403 403 403 403 404", FOR_ADA, path={"reference": "session-of-ada"}),
    "GET /session/{reference}/commit": Row(WAITING, FOR_ADA, path={"reference": "session-of-ada"}),
    "GET /session/{reference}/logs": Row("502 502 403 502 403 404", FOR_ADA, path={"reference": "session-of-ada"}),
    "POST /session/{reference}": Row(WAITING, FOR_ADA, {"mode": "query"}, {"reference": "session-of-ada"}),
    "POST /session/{reference}/complete": Row(WAITING, FOR_ADA, {"code": "x"}, {"reference": "session-of-ada"}),
    "POST /session/{reference}/interrupt": Row(WAITING, FOR_ADA, path={"reference": "session-of-ada"}),
    "WEBSOCKET /stream/session/{reference}/execute": Row(WAITING, FOR_ADA, path={"reference": "session-of-ada"}),
    "POST /session/{reference}/upload": Row(WAITING, FOR_ADA, path={"reference": "session-of-ada"}),
    "GET /stream/session/{reference}/apps": Row(WAITING, FOR_ADA, path={"reference": "session-of-ada"}),
    "POST /session/{reference}/start-service": Row(
        WAITING, FOR_ADA, {"app": "x"}, path={"reference": "session-of-ada"}
    ),
    "POST /session/{reference}/shutdown-service": Row(
        WAITING, FOR_ADA, {"service_name": "x"}, path={"reference": "session-of-ada"}
    ),
    "WEBSOCKET /stream/session/{reference}/pty": Row(WAITING, FOR_ADA, path={"reference": "session-of-ada"}),
    "WEBSOCKET /stream/session/{reference}/tcpproxy": Row(
        WAITING, FOR_ADA | {"app": "x"}, path={"reference": "session-of-ada"}
    ),
    "WEBSOCKET /stream/session/{reference}/httpproxy": Row(
        WAITING, FOR_ADA | {"app": "x"}, path={"reference": "session-of-ada"}
    ),
    "WEBSOCKET /stream/kernel/{reference}/tcpproxy": Row(
        WAITING, FOR_ADA | {"app": "x"}, path={"reference": "session-of-ada"}
    ),
    "WEBSOCKET /stream/kernel/{reference}/httpproxy": Row(
        WAITING, FOR_ADA | {"app": "x"}, path={"reference": "session-of-ada"}
    ),
    "GET /session/_/logs": Row("502 502 403 502 403 404", FOR_ADA | {"taskId": "session-of-ada"}),
    "GET /session/_/match": Row(ACTING, FOR_ADA | {"id": "x"}),
    "GET /session/{reference}/dependency-graph": Row(ACTING, FOR_ADA, path={"reference": "session-of-ada"}),
    "GET /session/{reference}/direct-access-info": Row(ACTING, FOR_ADA, path={"reference": "session-of-ada"}),
    "GET /session/{reference}/abusing-report": Row(ACTING, FOR_ADA, path={"reference": "session-of-ada"}),
    "GET /session/{reference}/status-history": Row(ACTING, FOR_ADA, path={"reference": "session-of-ada"}),
    "GET /refold/sessions/{reference}/history": Row(ACTING, FOR_ADA, path={"reference": "session-of-ada"}),
    "GET /events/session": Row("400 400 403 400 403 404", FOR_ADA | {"scope": "nothing"}),
    "GET /events/background-task": Row("404", {"task_id": an_id("task")}),
    "GET /session/{reference}/files": Row(WAITING, FOR_ADA | {"path": "."}, path={"reference": "session-of-ada"}),
    "GET /session/{reference}/download": Row(WAITING, FOR_ADA | {"files": "x"}, path={"reference": "session-of-ada"}),
    "POST /session/{reference}/download": Row(WAITING, FOR_ADA | {"files": "x"}, path={"reference": "session-of-ada"}),
    "GET /session/{reference}/download_single": Row(
        WAITING, FOR_ADA | {"file": "x"}, path={"reference": "session-of-ada"}
    ),
    "POST /session/{reference}/download_single": Row(
        WAITING, FOR_ADA | {"file": "x"}, path={"reference": "session-of-ada"}
    ),
    # commands and queries
    "POST /refold/commands": Row(SUPERADMINS, body={"type": "SetManagerStatus", "status": "running"}),
    "GET /refold/commands/{command_id}": Row("200 404 404 200 404 404", path={"command_id": "$command"}),
    "POST /admin/gql": Row(EVERYBODY, body={"query": "{ domains { name } }"}),
    "POST /admin/graphql": Row(EVERYBODY, body={"query": "{ domains { name } }"}),
    # the system
    "GET /refold/status": Row(EVERYBODY),
    "GET /": Row("200", is_public=True),
    "GET /v{major}": Row("200", path={"major": "7"}, is_public=True),
    "GET /health": Row("200", is_public=True),
    "GET /ready": Row("200", is_public=True),
    "GET /metrics": Row("200", is_public=True),
    "GET /asyncapi.json": Row("200", is_public=True),
    # signing in
    "POST /server/login": Row("200", body={"username": "nobody", "password": "x"}, is_public=True),
    "POST /server/login-check": Row("200", is_public=True),
    "POST /server/logout": Row("200", is_public=True),
    "POST /server/extend-login-session": Row("401", is_public=True),
    "POST /server/update-password-no-auth": Row(
        "401", body={"username": "nobody", "current_password": "x", "new_password": "y"}, is_public=True
    ),
    "POST /auth/update-password-no-auth": Row(
        "401", body={"username": "nobody", "current_password": "x", "new_password": "y"}, is_public=True
    ),
    "POST /auth/authorize": Row("401", body={"username": "nobody", "password": "x"}, is_public=True),
    "POST /auth/signup": Row("403", body={"email": "x@x", "password": "x"}, is_public=True),
    # oneself
    "GET /auth": Row(EVERYBODY),
    "POST /auth": Row(EVERYBODY),
    "GET /auth/test": Row(EVERYBODY),
    "POST /auth/test": Row(EVERYBODY),
    "GET /auth/role": Row(OF_DOMAIN, {"group": HOME}),
    "GET /auth/keypair": Row(ACTING, FOR_ADA),
    "POST /auth/update-full-name": Row("400 400 400 200 400 400", body={"email": email("ada"), "full_name": "Ada"}),
    "POST /auth/update-password": Row(
        "400", body={"old_password": "wrong", "new_password": "new pass", "new_password2": "new pass"}
    ),
    "POST /auth/signout": Row("400", body={"email": email("ada"), "password": "wrong"}),
    "GET /auth/ssh-keypair": Row(ACTING, FOR_ADA),
    "PATCH /auth/ssh-keypair": Row(ACTING, FOR_ADA),
    "POST /auth/ssh-keypair": Row("400 400 403 400 403 404", FOR_ADA, SSH),
    "PUT /auth/ssh-keypair": Row("400 400 403 400 403 404", FOR_ADA, SSH),
    "POST /totp": Row(EVERYBODY),
    "POST /totp/verify": Row("400", body={"otp": "000000"}),
    "DELETE /totp": Row(EVERYBODY, body={"otp": "000000"}),
    # the cluster
    "GET /manager/status": Row(EVERYBODY),
    "PUT /manager/status": Row(SUPERADMINS_204, body={"status": "running"}),
    "POST /manager/scheduler/operation": Row(SUPERADMINS_204, body={"op": "include-agents", "args": [AGENT]}),
    "GET /manager/announcement": Row(EVERYBODY),
    "POST /manager/announcement": Row(SUPERADMINS_204, body={"enabled": False}),
    "GET /resource/presets": Row(EVERYBODY),
    "POST /resource/check-presets": Row(OF_DOMAIN, {"group": HOME}),
    "POST /resource/recalculate-usage": Row(SUPERADMINS),
    "GET /scaling-groups": Row(OF_DOMAIN, {"group": HOME}),
    "GET /scaling-groups/{name}/wsproxy-version": Row("404", {"group": HOME}, path={"name": "default"}),
    "GET /resource/usage/month": Row(SUPERADMINS, {"month": "202611"}),
    "GET /resource/usage/period": Row(
        SUPERADMINS, {"group_id": HOME, "start_date": "20261101", "end_date": "20261101"}
    ),
    "GET /resource/stats/user/month": Row(ACTING, FOR_ADA),
    "GET /resource/stats/admin/month": Row(SUPERADMINS),
    "GET /resource/watcher": Row(SUPERADMINS, {"agent_id": AGENT}),
    "POST /resource/watcher/agent/{operation}": Row(
        "404 403 403 403 403 403", body=MISSING, path={"operation": "stop"}
    ),
    "GET /config/resource-slots": Row(EVERYBODY),
    "GET /config/resource-slots/details": Row(EVERYBODY),
    "GET /config/vfolder-types": Row(EVERYBODY),
    "GET /config/docker-registries": Row(SUPERADMINS),
    "POST /config/get": Row(SUPERADMINS, body={"key": "x"}),
    "POST /config/set": Row(SUPERADMINS, body={"key": "config/docker/registry/x", "value": "http://x"}),
    "POST /config/delete": Row(SUPERADMINS, body={"key": "config/docker/registry/x/type"}),
    # what people keep
    "POST /user-config/dotfiles": Row(ACTING, FOR_ADA, {"path": ".$new", "data": "x", "permission": "644"}),
    "GET /user-config/dotfiles": Row(ACTING, FOR_ADA),
    "PATCH /user-config/dotfiles": Row(
        "404 404 403 404 403 404", FOR_ADA, {"path": ".$new", "data": "x", "permission": "644"}
    ),
    "DELETE /user-config/dotfiles": Row("404 404 403 404 403 404", FOR_ADA | {"path": ".$new"}),
    "GET /user-config/bootstrap-script": Row(ACTING, FOR_ADA),
    "POST /user-config/bootstrap-script": Row(ACTING, FOR_ADA, {"script": "x"}),
    "POST /group-config/dotfiles": Row(
        "200 200 403 403 404 404", body={"group": HOME, "path": ".$new", "data": "x", "permission": "644"}
    ),
    "GET /group-config/dotfiles": Row(OF_DOMAIN, {"group": HOME}),
    "PATCH /group-config/dotfiles": Row(
        "404 404 403 403 404 404", body={"group": HOME, "path": ".$new", "data": "x", "permission": "644"}
    ),
    "DELETE /group-config/dotfiles": Row("404 404 403 403 404 404", {"group": HOME, "path": ".$new"}),
    "POST /domain-config/dotfiles": Row(
        "200 200 403 403 404 404", body={"domain": "home", "path": ".$new", "data": "x", "permission": "644"}
    ),
    "GET /domain-config/dotfiles": Row(OF_DOMAIN, {"domain": "home"}),
    "PATCH /domain-config/dotfiles": Row(
        "404 404 403 403 404 404", body={"domain": "home", "path": ".$new", "data": "x", "permission": "644"}
    ),
    "DELETE /domain-config/dotfiles": Row("404 404 403 403 404 404", {"domain": "home", "path": ".$new"}),
    "POST /template/{kind}": Row(
        ACTING, body=FOR_ADA | {"payload": TEMPLATE, "group": HOME, "domain": "home"}, path={"kind": "session"}
    ),
    "GET /template/{kind}": Row(ACTING, FOR_ADA, path={"kind": "session"}),
    "GET /template/{kind}/{template_id}": Row(OF_DOMAIN, path={"kind": "session", "template_id": "$template"}),
    "PUT /template/{kind}/{template_id}": Row(
        "200 200 403 200 404 404", body={"payload": TEMPLATE}, path={"kind": "session", "template_id": "$template"}
    ),
    "DELETE /template/{kind}/{template_id}": Row(
        "200 200 403 200 404 404", path={"kind": "session", "template_id": "$template"}
    ),
    "GET /logs/error": Row(ACTING, FOR_ADA),
    "POST /logs/error": Row(
        EVERYBODY, body={"severity": "error", "source": "x", "message": "x", "context_lang": "x", "context_env": {}}
    ),
    "POST /logs/error/{log_id}/clear": Row("404", path={"log_id": an_id("log")}),
}

AGENTS_ONLY: Final = frozenset({"POST /internal/kernels/{kernel_id}/outfit", "POST /internal/tasks/{task_id}/account"})
"""No person gets there, whoever he is: `tests.api.test_environ`."""

_number: Final = itertools.count(1)


def operations() -> set[str]:
    return {
        f"{method} {route.path}"
        for module in _ROUTES
        for route in module.router.routes
        for method in getattr(route, "methods", {"WEBSOCKET"}) - {"HEAD"}
    }


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def clients(
    admin: AdminWorld, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Mapping[str, httpx.AsyncClient]]:
    """One for each role, one for who signs nothing (`nobody`), and one whose keypair is off (`idle`).

    Ada's folder is on the disk of a storage service, and all may be done there by those at home.
    """
    for command in (
        ModifyDomain(at=now(), name="home", changes={"allowed_vfolder_hosts": EVERYTHING}),
        ModifyUserPolicy(at=now(), name="default", changes={"max_vfolder_count": 1000}),
    ):
        await admin.whole.give("directory", command)
    await admin.settled()
    async with AsyncExitStack() as stack:
        folder = tmp_path_factory.mktemp("storage")
        storage = await stack.enter_async_context(storing(admin.settings, admin.log, folder))
        spec = FolderSpec(host=HOST)
        create = CreateFolder(
            at=now(), scope=user_scope(user_id("ada")), folder_id=FOLDER, name="folder-on-disk", spec=spec
        )
        await admin.whole.give("vfolder", create)
        async with asyncio.timeout(10):
            while not storage.folder(FOLDER).exists():
                await asyncio.sleep(0.01)
        await admin.settled()
        known = {who: await stack.enter_async_context(admin.client(who)) for who in (*ROLES, "idle")}
        nobody = await stack.enter_async_context(admin.anonymous())
        nobody.headers["Via"] = "1.1 elsewhere"  # not on this machine, where some things need no signature
        yield known | {"nobody": nobody}


async def test_every_route_has_a_row() -> None:
    assert operations() == ROWS.keys() | AGENTS_ONLY


async def made(what: str, ada: httpx.AsyncClient) -> str:
    """Something of ada's, made anew."""
    name = f"new-{next(_number)}"
    match what:
        case "$session":
            answer = await ada.post("/session", json=SESSION | {"name": name})
            return str(answer.json()["sessionId"])
        case "$folder":
            answer = await ada.post("/folders", json={"name": name, "host": HOST})
            return str(answer.json()["id"])
        case "$template":
            body = {"payload": TEMPLATE, "group": HOME, "domain": "home"}
            return str((await ada.post("/template/session", json=body)).json()[0]["id"])
        case "$command":
            answer = await ada.post("/session", json=SESSION | {"name": name}, headers={"Prefer": "respond-async"})
            return str(answer.json()["command_id"])
    return name


async def filled(told: Any, ada: httpx.AsyncClient) -> Any:
    if isinstance(told, Mapping):
        return {name: await filled(value, ada) for name, value in told.items()}
    if isinstance(told, str) and "$" in told:
        place = told[told.index("$") :]
        return told.replace(place, await made(place, ada))
    return told


async def sent(client: httpx.AsyncClient, operation: str, ada: httpx.AsyncClient) -> httpx.Response:
    method, _, path = operation.partition(" ")
    row = ROWS[operation]
    return await client.request(
        "GET" if method == UPGRADE else method,
        path.format(**await filled(row.path, ada)),
        params=await filled(row.query, ada),
        json=await filled(row.body, ada),
        headers=HANDSHAKE if method == UPGRADE else None,
    )


@pytest.mark.parametrize("operation", ROWS)
async def test_who_is_answered_what(clients: Mapping[str, httpx.AsyncClient], operation: str) -> None:
    told = {who: await sent(clients[who], operation, clients["ada"]) for who in ROLES}
    row = ROWS[operation]
    assert {who: answer.status_code for who, answer in told.items()} == {who: row.status(who) for who in ROLES}
    expected = row.status("kim") if row.is_public else 401
    for who in ("nobody", "idle"):
        answer = await sent(clients[who], operation, clients["ada"])
        assert answer.status_code == expected, (who, answer.text)
