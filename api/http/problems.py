"""Every "no" of the api in one place: RFC 9457 problems with a stable `type` for each reason.

`msg` and `data` are what the public client prints, `field` and `rule` name what is wrong with a parameter, and
`retryable` says whether the same request may succeed later.
"""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

import orjson
from pydantic import ValidationError
from starlette.responses import Response

from domain.messages import Refused
from infra.keyring import Forgotten
from infra.log import LogUnavailable, Position
from infra.postgres import Unavailable
from infra.secrets import CannotUnseal
from infra.sending import Overloaded
from projections.filtering import BadQuery

BASE: Final = "https://api.backend.ai/probs/"
MEDIA_TYPE: Final = "application/problem+json"

_ERRORS_SHOWN_MAX = 20  # a body of thousands of wrong values is one mistake, not thousands


class Problem(Exception):
    """An answer that is not what was asked for. `kind` is the last part of the problem's `type`."""

    def __init__(
        self,
        status: int,
        kind: str,
        title: str,
        detail: str | None = None,
        *,
        retryable: bool = False,
        retry_after: int | None = None,
        headers: Mapping[str, str] | None = None,
        **members: Any,
    ) -> None:
        super().__init__(detail or title)
        self.status = status
        self.kind = kind
        self.title = title
        self.detail = detail or title
        self.retryable = retryable
        self.headers = dict(headers or {})
        if retry_after is not None:
            self.headers["Retry-After"] = str(retry_after)
        self.members = members

    def body(self, instance: str) -> dict[str, Any]:
        """`instance` is the path that was asked for."""
        return {
            "type": BASE + self.kind,
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "msg": self.detail,
            "instance": instance,
            "retryable": self.retryable,
            **{name: value for name, value in self.members.items() if value is not None},
        }

    def response(self, instance: str) -> Response:
        """The same as an answer."""
        return Response(orjson.dumps(self.body(instance), default=str), self.status, self.headers, MEDIA_TYPE)


# -- what the domain refuses -------------------------------------------------------------------------------------------

_REFUSALS: Final[Mapping[str, tuple[int, str, str]]] = {
    "unknown_session": (404, "session-not-found", "No such session"),
    "unknown_kernel": (404, "kernel-not-found", "No such kernel"),
    "session_name_taken": (409, "session-already-exists", "The session already exists"),
    "not_running": (409, "session-not-running", "The session is not running"),
    "already_started": (409, "session-already-started", "The session has started already"),
    # The reference answers a used-up quota with 412.
    "too_many_sessions": (412, "quota-exceeded", "The quota of sessions is used up"),
    "too_many_kernels": (412, "quota-exceeded", "The session is larger than the policy allows"),
    "keypair_not_admitted": (403, "keypair-not-admitted", "The keypair may not start sessions"),
    "not_your_kernel": (403, "not-your-kernel", "The kernel is not yours"),
    "no_startup_command": (400, "invalid-api-params", "Missing or invalid API parameters"),
    "bad_slots": (400, "invalid-api-params", "Missing or invalid API parameters"),
    "kernel_id_repeated": (400, "invalid-api-params", "Missing or invalid API parameters"),
    "wrong_kernels": (400, "invalid-api-params", "Missing or invalid API parameters"),
    "bad_path": (400, "invalid-api-params", "Missing or invalid API parameters"),
    "reserved_path": (400, "invalid-api-params", "Missing or invalid API parameters"),
    "bad_id": (400, "invalid-api-params", "Missing or invalid API parameters"),
    "bad_network": (400, "invalid-api-params", "Missing or invalid API parameters"),
    "bad_permission": (400, "invalid-api-params", "Missing or invalid API parameters"),
    "bad_range": (400, "invalid-api-params", "Missing or invalid API parameters"),
    "bad_registry_type": (400, "invalid-api-params", "Missing or invalid API parameters"),
    "wrong_registry": (400, "invalid-api-params", "Missing or invalid API parameters"),
    "nul_character": (400, "invalid-api-params", "Missing or invalid API parameters"),
    "shared_memory_too_large": (400, "invalid-api-params", "Missing or invalid API parameters"),
    "dotfiles_too_large": (400, "invalid-api-params", "Missing or invalid API parameters"),
    "too_many_dotfiles": (412, "quota-exceeded", "There are too many dotfiles"),
    "too_many_templates": (412, "quota-exceeded", "There are too many templates"),
    "too_many_folders": (406, "too-many-vfolders", "There are too many folders"),
    "folder_name_taken": (400, "vfolder-already-exists", "The folder already exists"),
    "reserved_folder_name": (400, "invalid-api-params", "Missing or invalid API parameters"),
    "owner_cannot_leave": (400, "invalid-api-params", "Missing or invalid API parameters"),
    "owner_invited": (400, "invalid-api-params", "Missing or invalid API parameters"),
    "project_folder": (400, "invalid-api-params", "Missing or invalid API parameters"),
    "wrong_owner": (400, "invalid-api-params", "Missing or invalid API parameters"),
    "folders_not_allowed": (403, "folders-not-allowed", "No folders are allowed"),
    "host_not_allowed": (403, "host-permission-missing", "Not allowed on this storage host"),
    "too_many_members": (412, "quota-exceeded", "Too many have the folder"),
    "unreadable": (400, "invalid-api-params", "The command could not be read"),
    "command_id_reused": (422, "idempotency-key-reused", "The key was used for another request"),
    "internal_error": (500, "internal-server-error", "The decision failed"),
}
"""Code of the domain → status, kind, title. A code that is not here follows `_by_form`."""


def _by_form(code: str) -> tuple[int, str, str]:
    words = code.replace("_", " ")
    if code.startswith("unknown_"):
        return 404, code.removeprefix("unknown_").replace("_", "-") + "-not-found", "No such " + words[8:]
    return 409, code.replace("_", "-"), words.capitalize()


def refused(code: str, reason: str, field: str | None = None, position: Position | None = None) -> Problem:
    """The problem that stands for a refusal of the domain."""
    status, kind, title = _REFUSALS.get(code) or _by_form(code)
    return Problem(
        status,
        kind,
        title,
        reason,
        code=code,
        field=field,
        rule=code if status == 400 else None,
        position=None if position is None else str(position),
        data={field: reason} if field is not None else {},
        headers={} if position is None else {"X-Refold-Position": str(position)},
    )


# -- what is wrong with a request --------------------------------------------------------------------------------------


def invalid(field: str, rule: str, detail: str) -> Problem:
    """A parameter that cannot be used. `rule` is a short name of what it breaks."""
    return Problem(
        400,
        "invalid-api-params",
        "Missing or invalid API parameters",
        detail,
        field=field,
        rule=rule,
        data={field: detail},
    )


def unsupported(field: str) -> Problem:
    """An option that would be silently without effect here is refused instead."""
    return invalid(field, "not_supported_yet", f"{field} is not supported yet: leave it out, or empty")


def not_valid(errors: Sequence[Mapping[str, Any]]) -> Problem:
    """From pydantic's list of errors; the first one is named in `field` and `rule`."""
    told = {_field(error["loc"]): str(error["msg"]) for error in errors[:_ERRORS_SHOWN_MAX]}
    first = errors[0]
    problem = invalid(_field(first["loc"]), str(first["type"]), str(first["msg"]))
    problem.members["data"] = told
    return problem


def _field(location: Sequence[str | int]) -> str:
    """Without where FastAPI says that it found it; a field may have such a name too."""
    parts = location[1:] if len(location) > 1 and location[0] in {"body", "query", "path"} else location
    return ".".join(map(str, parts))[:200] or "body"


def session_not_found(reference: str) -> Problem:
    return refused("unknown_session", f"you have no session {reference[:80]!r}", "session_id")


# -- what is wrong with us ---------------------------------------------------------------------------------------------


def overloaded(retry_after: int) -> Problem:
    return Problem(
        429,
        "rate-limit-exceeded",
        "Too many requests at once",
        "too many commands are on their way to the log; nothing was done",
        retryable=True,
        retry_after=retry_after,
    )


def log_unavailable() -> Problem:
    return Problem(
        503,
        "log-unavailable",
        "The log cannot be written",
        "whether the command was written is not known: send it again with the same Idempotency-Key",
        retryable=True,
        retry_after=1,
    )


def projection_unavailable() -> Problem:
    return Problem(
        503,
        "projection-unavailable",
        "What is known cannot be read",
        "the database of the projections does not answer",
        retryable=True,
        retry_after=1,
    )


def forgotten() -> Problem:
    return Problem(410, "secret-forgotten", "Forgotten", "the key it was sealed with was deleted, with all it sealed")


def not_sealed() -> Problem:
    return Problem(
        409, "secret-unreadable", "The secret cannot be read", "what is kept there was not sealed as that: set it anew"
    )


def not_there_yet(position: str) -> Problem:
    return Problem(
        504,
        "position-not-reached",
        "Not there yet",
        "the projections have not reached the given position in time",
        retryable=True,
        retry_after=1,
        position=position,
    )


def from_error(error: Exception) -> Problem | None:
    """The problem that stands for an error that routes let pass; None for one that is a defect of ours."""
    match error:
        case Problem():
            return error
        case Refused():
            return refused(error.code, error.reason, error.field)
        case ValidationError():
            return not_valid(error.errors(include_url=False, include_input=False, include_context=False))
        case BadQuery():
            return invalid(error.field, error.rule, str(error))
        case Overloaded():
            return overloaded(error.retry_after)
        case LogUnavailable():
            return log_unavailable()
        case Unavailable():
            return projection_unavailable()
        case Forgotten():
            return forgotten()
        case CannotUnseal():
            return not_sealed()
        case _:
            return None


def of_status(status: int, detail: str | None = None, headers: Mapping[str, str] | None = None) -> Problem:
    """For what the framework answers by itself: 404, 405 and the like."""
    phrase = HTTPStatus(status).phrase
    kind = {404: "api-not-found", 405: "method-not-allowed"}.get(status, phrase.lower().replace(" ", "-"))
    return Problem(status, kind, phrase, detail, headers=headers)


def internal() -> Problem:
    return Problem(500, "internal-server-error", "Internal server error", "a defect of ours; it has been logged")
