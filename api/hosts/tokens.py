"""How an agent proves that it is one: by a token made with its own key, for one kernel and its session."""

from collections.abc import Mapping
from typing import Final

import structlog

from api.http.problems import Problem
from domain.messages import AgentId, KernelId, SessionId
from infra.secrets import BadKey, BadToken, session_to_start
from infra.settings import Settings

INTERNAL: Final = "/internal/"
"""What is below is for agents only."""

STARTING: Final = "refold.starting"
"""In the scope of a request: what `starting` said."""

_log = structlog.get_logger("api")


def starting(path: str, headers: Mapping[str, str], settings: Settings) -> tuple[SessionId, AgentId]:
    """The session of the kernel in the path, `/internal/kernels/{kernel_id}/…`, and which agent asks; of a task the
    session is empty.

    Raises `Problem` (401, 503).
    """
    kernel_id = KernelId(path.removeprefix(INTERNAL).partition("/")[2].partition("/")[0])
    scheme, _, token = headers.get("authorization", "").partition(" ")
    try:
        if scheme != "Bearer":
            raise BadToken("a bearer token is needed")
        return session_to_start(settings, token, kernel_id)
    except BadToken as error:
        _log.warning("not an agent of ours", kernel=kernel_id[:80], reason=str(error))
        raise Problem(401, "auth-failed", "Credential/signature mismatch", str(error)) from error
    except BadKey as error:
        raise Problem(503, "internal-key-missing", "No agent can prove itself", str(error)) from error
