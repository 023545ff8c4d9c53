"""`/session/{id}/commit`: an image of what a session's main kernel has become, for its user's next sessions."""

import re
from typing import Annotated, Final

from fastapi import APIRouter, Request
from pydantic import AliasChoices, Field
from starlette.responses import Response

from api.access.auth import Caller as Signer
from api.giving import Giving
from api.http.answers import json
from api.http.deps import All, Caller, Services
from api.http.parameters import Parameters, answers, in_body
from api.http.problems import Problem
from api.kernels.reaching import Place, place_of
from api.sessions.routes import found
from api.writing import now
from domain.directory.images import OWNER_LABEL
from domain.directory.messages.tasks import CommitSession, StartTask, TaskId
from domain.messages import AccessKey, AgentId

router = APIRouter(tags=["sessions"])

_LOCAL: Final = "localhost/"
"""Images below it have no registry."""

_LABEL: Final = OWNER_LABEL.rpartition(".")[0]
_TAG_MAX: Final = 80
"""Of the tag of the image it comes from: there is more to come in the new one."""

_EXAMPLE: Final = {
    "bgtask_id": "3f0f5a54-0a3c-5a6b-9a7e-6f5b2f6f2d11",
    "kernel": "0c4f1d7e-6a1c-4a37-8a39-1d2f6f4a8f10",
    "path": "localhost/customized/python:3.11-customized_3f0f5a540a3c5a6b9a7e6f5b2f6f2d11",
}


class NewImage(Parameters):
    """What the image is to be called by people; its session's name, if they name none."""

    image_name: Annotated[str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,62}[A-Za-z0-9])?$")] | None = Field(
        None, validation_alias=AliasChoices("image_name", "imageName", "filename", "fname")
    )


_BODY: Final = in_body(NewImage, image_name="with-numpy")["requestBody"] | {"required": False}


@router.post(
    "/session/{reference}/commit",
    status_code=201,
    openapi_extra={"requestBody": _BODY},
    responses=answers(_EXAMPLE, "It has begun.", 201),
)
async def commit(reference: str, request: Request, caller: Caller, all_: All) -> Response:
    """Begin to make an image of the session. `bgtask_id`: of the background task; `path`: what it will be called.

    The image has what was changed in the container, but not `/home/work`, which is another place and stays there, and
    no value of the session's environment. Once the task is done, its user, and nobody else, may start sessions from it.
    """
    if not all_.settings.container_commit:
        raise Problem(
            403,
            "commit-not-allowed",
            "Images of sessions are not allowed",
            "this installation does not allow it (REFOLD_CONTAINER_COMMIT)",
        )
    new = NewImage.of(request)
    place = await place_of(reference, caller, all_)
    name = new.image_name or (await found(place.session_id, caller, all_)).name
    giving = Giving(request, caller, all_)
    work = _work(place, name, giving.command_id, caller, all_)
    start = StartTask(at=now(), task_id=TaskId(giving.command_id), work=work)
    told = {"bgtask_id": start.task_id, "kernel": place.kernel_id, "path": work.reference}
    return await giving.give_vouched(start, told, 201)


@router.get("/session/{reference}/commit", responses=answers({"status": "ready", "kernel": _EXAMPLE["kernel"]}))
async def commit_status(reference: str, caller: Caller, all_: All) -> Response:
    """Whether an image is being made of the session (`ongoing`), or one may be (`ready`)."""
    place = await place_of(reference, caller, all_)
    going_on = all_.tail.directory.commit_of(place.session_id)
    return json({"status": "ready" if going_on is None else "ongoing", "kernel": place.kernel_id})


def _work(place: Place, name: str, task_id: str, caller: Signer, all_: Services) -> CommitSession:
    repository = all_.settings.commit_repository
    owner = all_.tail.directory.identity(caller.owner) or caller.identity
    image_id = task_id.replace("-", "")
    return CommitSession(
        owner=AccessKey(caller.owner),
        session_id=place.session_id,
        kernel_id=place.kernel_id,
        agent_id=AgentId(place.agent_id),
        reference=reference_of(repository, place.image, image_id),
        labels={OWNER_LABEL: f"user:{owner.user.user_id}", f"{_LABEL}.name": name, f"{_LABEL}.id": image_id},
        push=not repository.startswith(_LOCAL),
    )


def reference_of(repository: str, base: str, image_id: str) -> str:
    """What an image made of a session of the image `base` is called: short name and tag of that, and its id."""
    name, _, tag = base.partition("@")[0].rpartition("/")[2].partition(":")
    words = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "image"
    version = re.sub(r"[^A-Za-z0-9_.-]", "-", tag or "latest")[:_TAG_MAX].lstrip(".-")
    return f"{repository}/{words}:{version}-customized_{image_id}"
