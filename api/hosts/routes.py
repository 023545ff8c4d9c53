"""What agents ask of the api. No user gets here: the door wants a token that was made with the internal key."""

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from api.hosts.outfits import account_of, outfit_of
from api.hosts.rights import require_kernel, require_part
from api.hosts.tokens import STARTING
from api.http.deps import All, Body
from domain.directory.messages.tasks import TaskId
from domain.messages import KernelId
from domain.outfits import Question, RegistryAccount

router = APIRouter(prefix="/internal", include_in_schema=False)


class Image(BaseModel):
    """A reference, as the order has it."""

    model_config = ConfigDict(extra="forbid")

    image: str = Field(min_length=1, max_length=512)


class Account(BaseModel):
    """None: anybody may use that registry, or we have no account there."""

    account: RegistryAccount | None


@router.post("/kernels/{kernel_id}/outfit")
async def outfit(kernel_id: KernelId, request: Request, body: Body, all_: All) -> Response:
    """What a kernel that is to start is given (`domain.outfits`), in clear.

    400: something was not sealed for its session. 403: it is not placed on the agent that asks, or (a problem of its
    own, see `domain.outfits`) one of its folders may not be mounted any more. 410 once the owner's key was deleted,
    with what it sealed.
    """
    session_id, agent_id = request.scope[STARTING]
    question = Question.model_validate_json(body)
    await require_kernel(agent_id, kernel_id, session_id, question, all_)
    return _told(await outfit_of(session_id, question, all_))


@router.post("/tasks/{task_id}/account")
async def account(task_id: TaskId, request: Request, body: Body, all_: All) -> Response:
    """For an image that an agent is to fetch or to push as part of a background task, in clear.

    403: it has no such part.
    """
    _, agent_id = request.scope[STARTING]
    image = Image.model_validate_json(body).image
    await require_part(agent_id, task_id, image, all_)
    return _told(Account(account=await account_of(image, all_)))


def _told(answer: BaseModel) -> Response:
    return Response(answer.model_dump_json(), media_type="application/json", headers={"Cache-Control": "no-store"})
