"""The forms answers have: JSON, and "it is on its way"."""

from typing import Any

import orjson
from starlette.responses import Response

from api.writing import POSITION, Written


def json(body: Any, status: int = 200, position: str | None = None) -> Response:
    """`position` is told where the answer stands for a point in the log."""
    headers = None if position is None else {POSITION: position}
    return Response(orjson.dumps(body), status, headers, "application/json")


def accepted_for_later(written: Written) -> Response:
    """202: durable, and decided in a moment; `Location` is where the outcome will be."""
    body = {"command_id": written.command_id, "status": "pending", "position": str(written.position)}
    headers = {
        "Location": f"/refold/commands/{written.command_id}",
        "Retry-After": "1",
        POSITION: body["position"],
    }
    return Response(orjson.dumps(body), 202, headers, "application/json")
