"""`GET /refold/folders/{reference}/operations`: what was changed in a folder, page by page, for those it concerns."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from domain.vfolder.mounts import FolderRef, project_scope, user_scope
from domain.vfolder.operations import FileOperation, Operation
from infra import file_operations
from infra.postgres import connection
from tests.api.admin import HOME, AdminWorld, access_key, email, user_id
from tests.api.shelves import HOST, folder_id

pytestmark = [pytest.mark.cluster, pytest.mark.asyncio(loop_scope="module")]

AT = datetime(2026, 11, 21, 9, tzinfo=UTC)
OF_ADA = FolderRef(scope=user_scope(user_id("ada")), folder_id=folder_id("folder-of-ada"), host=HOST)
OF_HOME = FolderRef(scope=project_scope(HOME), folder_id=folder_id("folder-of-home"), host=HOST)


async def keep(admin: AdminWorld, folder: FolderRef, *paths: str, same: int = 1) -> None:
    """Of each `same` at a moment, the later ones of later moments."""
    told = [
        FileOperation(
            at=AT + timedelta(microseconds=number // same),
            folder=folder,
            actor=f"keypair:{access_key('ada')}",
            operation=Operation.RENAME,
            path=path,
            target=f"new {path}",
        )
        for number, path in enumerate(paths)
    ]
    async with connection(admin.pool) as db:
        await file_operations.store(db, {uuid4(): each for each in told})


async def asked(admin: AdminWorld, who: str, folder: FolderRef, **query: Any) -> tuple[int, Any]:
    async with admin.client(who) as client:
        answer = await client.get(f"/refold/folders/{folder.folder_id}/operations", params=query)
    return answer.status_code, answer.json()


async def test_every_change_is_on_one_page_also_where_many_were_made_at_a_moment(admin: AdminWorld) -> None:
    paths = [f"file-{number}" for number in range(23)]
    await keep(admin, OF_ADA, *paths, same=5)
    seen: list[dict[str, Any]] = []
    after: str | None = None
    while True:
        status, told = await asked(admin, "ada", OF_ADA, limit=4, **({"after": after} if after else {}))
        assert status == 200, told
        seen += told["operations"]
        if (after := told["next"]) is None:
            break
        assert len(told["operations"]) == 4
    assert sorted(each["path"] for each in seen) == sorted(paths)
    assert [each["at"] for each in seen] == sorted((each["at"] for each in seen), reverse=True)
    assert {**seen[0], "id": 0, "path": 0, "target": 0} == {
        "id": 0,
        "at": "2026-11-21T09:00:00.000004+00:00",
        "actor": f"keypair:{access_key('ada')}",
        "user_email": email("ada"),
        "operation": "rename",
        "path": 0,
        "target": 0,
        "size_bytes": None,
    }


@pytest.mark.parametrize(
    ("folder", "answers"),
    [
        # what lies in a user's folder is not for the admin of his domain; a project's admins see its folders
        (OF_ADA, {"ada": 200, "root": 200, "boss": 403, "eve": 404, "watch": 404, "lord": 404, "kim": 404}),
        (OF_HOME, {"ada": 403, "root": 200, "boss": 200, "eve": 403, "watch": 403, "lord": 404, "kim": 404}),
    ],
)
async def test_changes_are_for_the_owner_a_projects_admins_and_superadmins(
    admin: AdminWorld, folder: FolderRef, answers: dict[str, int]
) -> None:
    assert {who: (await asked(admin, who, folder))[0] for who in answers} == answers


@pytest.mark.parametrize(
    "wrong",
    [
        {"limit": 0},
        {"limit": 1001},
        {"limit": "many"},
        {"after": "nowhere"},
        {"after": "1-"},
        {"after": f"{'9' * 20}-{uuid4().hex}"},
        {"after": f"-1-{uuid4().hex}"},
        {"after": "x" * 65},
    ],
)
async def test_a_page_that_cannot_be_is_refused_with_the_field(admin: AdminWorld, wrong: dict[str, Any]) -> None:
    status, told = await asked(admin, "ada", OF_ADA, **wrong)
    assert (status, told["field"]) == (400, next(iter(wrong))), told
