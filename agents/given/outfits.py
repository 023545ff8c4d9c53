"""What a kernel is given by the api when it starts (`domain.outfits`): in the order it is sealed, or not there at all.

None of it is written down by the agent itself, not in the journal, which keeps the order as it came, and not in a
record. (The kernel's own files are another thing: some of it is to be found there.)

OutfitFailure
├── OutfitUnavailable   the api does not answer, or cannot at the moment: ask again later
├── OutfitRefused       it never will: the owner or his key is gone, or the values are not of this session
└── FolderRefused       a folder that the session asked for is none that its owner may mount now
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, TypeVar

import aiohttp
import orjson
from pydantic import BaseModel, ValidationError

from agents.runtime import Account
from domain.messages import AgentId, KernelId, SessionId
from domain.outfits import MOUNT_REFUSED, Outfit, Question, RegistryAccount
from domain.placements import StartKernel
from infra.secrets import BadKey, start_token
from infra.settings import Settings

_SECONDS_MAX: Final = 10.0
_NEVER: Final = frozenset({400, 410})
"""What the api answers where asking again is of no use. Anything else may be about its own state, or our clock."""


Answer = TypeVar("Answer", bound=BaseModel)


class OutfitFailure(Exception):
    """It was not told."""


class OutfitUnavailable(OutfitFailure):
    """Not now."""


class OutfitRefused(OutfitFailure):
    """Never."""


class FolderRefused(OutfitFailure):
    """Never, wherever it is asked for. The text is for people."""


class _AccountAnswer(BaseModel):
    account: RegistryAccount | None


class Outfits:
    """`url`: the api's address."""

    def __init__(self, settings: Settings, agent_id: AgentId, url: str, http: aiohttp.ClientSession) -> None:
        self._settings = settings
        self._agent_id = agent_id
        self._url = url.rstrip("/")
        self._http = http

    async def of(self, order: StartKernel) -> Outfit:
        """Raises `OutfitFailure`."""
        question = Question(
            owner=order.owner,
            image=order.image,
            project_id=order.project_id,
            environ=order.sealed_environ,
            bootstrap_script=order.sealed_bootstrap,
            mounts=order.mounts,
        )
        path = f"kernels/{order.kernel_id}/outfit"
        return await self._asked(path, order.kernel_id, order.session_id, question.model_dump_json().encode(), Outfit)

    async def account(self, task_id: str, image: str) -> Account | None:
        """Ours at the registry of an image, for a background task. Raises `OutfitFailure`."""
        path, question = f"tasks/{task_id}/account", orjson.dumps({"image": image})
        answer = await self._asked(path, KernelId(task_id), SessionId(""), question, _AccountAnswer)
        return as_account(answer.account)

    async def _asked(
        self, path: str, about: KernelId, session_id: SessionId, question: bytes, kind: type[Answer]
    ) -> Answer:
        try:
            token = start_token(self._settings, self._agent_id, about, session_id)
            status, body = await self._post(path, token, question)
        except BadKey as error:
            raise OutfitRefused(str(error)) from error
        except (aiohttp.ClientError, TimeoutError) as error:
            raise OutfitUnavailable(f"the api at {self._url} does not answer: {error!r}") from error
        if status != 200:
            detail = _said(body, "detail")
            if _said(body, "type").endswith(f"/{MOUNT_REFUSED}"):
                raise FolderRefused(detail)
            refused = OutfitRefused if status in _NEVER else OutfitUnavailable
            raise refused(f"the api at {self._url} does not tell what is needed: {status}{detail and ', ' + detail}")
        try:
            return kind.model_validate_json(body)
        except ValidationError:  # whose text would tell what it was
            raise OutfitUnavailable(f"what answers at {self._url} is no api of Refold") from None

    async def _post(self, path: str, token: str, body: bytes) -> tuple[int, bytes]:
        async with self._http.post(
            f"{self._url}/internal/{path}",
            data=body,
            headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
            allow_redirects=False,
        ) as answer:
            return answer.status, await answer.read()


@asynccontextmanager
async def asking(settings: Settings, agent_id: AgentId, url: str) -> AsyncIterator[Outfits]:
    """While the block runs, connections to the api are kept."""
    timeout = aiohttp.ClientTimeout(total=_SECONDS_MAX)
    async with aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()) as http:
        yield Outfits(settings, agent_id, url, http)


def as_account(told: RegistryAccount | None) -> Account | None:
    """As a runtime is given it."""
    return None if told is None else Account(told.username, told.password.get_secret_value())


def _said(body: bytes, member: str) -> str:
    """By a problem; empty if it says nothing of the kind."""
    try:
        return str(orjson.loads(body)[member])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return ""
