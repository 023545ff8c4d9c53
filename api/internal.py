"""What agents ask of the api. No user gets here: the door wants a token that was made with the internal key."""

from typing import Annotated

import structlog
from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from api.agent_tokens import STARTING
from api.answers import json
from api.deps import All, Body
from api.environ import VARIABLES_MAX, about, strange
from api.secrets import revealed
from domain.messages import Sealed, SessionId
from infra.secrets import CannotUnseal

router = APIRouter(prefix="/internal", include_in_schema=False)

_log = structlog.get_logger("api.internal")


class Asked(BaseModel):
    """`environ`: as the order to start the kernel has it."""

    model_config = ConfigDict(extra="forbid")

    environ: dict[Annotated[str, Field(max_length=256)], Sealed] = Field(max_length=VARIABLES_MAX)


@router.post("/kernels/{kernel_id}/environ")
async def environ(kernel_id: str, request: Request, body: Body, all_: All) -> Response:
    """The environment of a kernel that is to start, in clear. Opens what was sealed for its session, and nothing else.

    410 once the owner's key was deleted: then no kernel of the session starts again.
    """
    session_id: SessionId = request.scope[STARTING]
    opened = {}
    for name, text in Asked.model_validate_json(body).environ.items():
        try:
            opened[name] = await revealed(all_, text, about(session_id, name))
        except CannotUnseal as error:
            _log.warning("not sealed for this session", kernel=kernel_id, session=session_id, reason=str(error))
            raise strange(name) from error
    answer = json({"environ": opened})
    answer.headers["Cache-Control"] = "no-store"
    return answer
