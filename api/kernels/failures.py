"""What a kernel's runner says "no" with, as problems. It is the session's user who may be speaking: what it says is
told to whoever asked, and believed by nobody."""

from collections.abc import Mapping
from typing import Any, Final

from api.http.problems import Problem, invalid

_WHY_MAX: Final = 500
_ELSEWHERE: Final = "The session cannot do that now"

_STATUSES: Final[Mapping[str, int]] = {
    "too-many-requests": 429,
    "unsupported-mode": 409,
    "unknown-run": 404,
    "run-exists": 409,
    "too-many-runs": 429,
    "not-waiting": 409,
    "unknown-terminal": 404,
    "too-many-terminals": 429,
    "terminal-ended": 409,
    "terminal-busy": 429,
    "unknown-service": 404,
    "bad-definition": 409,
    "prestart-failed": 502,
    "service-died": 502,
    "service-silent": 504,
    "forbidden-argument": 400,
    "forbidden-variable": 400,
    "cannot-run": 409,
    "outside-home": 400,
    "no-such-path": 404,
    "not-a-folder": 400,
    "is-a-folder": 400,
    "not-a-file": 400,
    "forbidden": 403,
    "no-space": 507,
    "too-large": 400,
    "too-many-links": 400,
    "name-too-long": 400,
    "bad-path": 400,
    "changed": 409,
    "unknown-download": 404,
    "too-many-downloads": 429,
}
"""Code of the runner → status. What is not here is a fault of the runner, or of us."""

_LATER: Final = frozenset({429, 502, 504})


def failed(failure: Mapping[str, Any]) -> Problem:
    """The problem for `{"code": …, "why": …}`; its `kind` is the code."""
    code, why = str(failure.get("code")), str(failure.get("why"))[:_WHY_MAX]
    why = why.encode(errors="replace").decode()  # lone surrogates, which no answer may hold
    if code == "bad-request":
        field, _, rule = why.partition(": ")
        return invalid(field, "not_allowed", f"{field}: {rule}")
    status = _STATUSES.get(code)
    if status is None:
        return broken(f"its runner says: {why}")
    return Problem(status, code, _ELSEWHERE, why, retryable=status in _LATER, retry_after=1 if status == 429 else None)


def broken(detail: str) -> Problem:
    """502: the runner does not keep to its protocol."""
    return Problem(502, "runner-broken", "The session does not work as it should", detail)


class Gone(Problem):
    """The connection to the runner ended. What runs there goes on, unless its kernel has ended too."""

    def __init__(self) -> None:
        super().__init__(
            502,
            "runner-gone",
            "The session cannot be reached",
            "the connection to the session ended before it answered",
            retryable=True,
            retry_after=1,
        )


def silent() -> Problem:
    """504: the runner is there and does not answer."""
    return Problem(
        504,
        "runner-silent",
        "The session does not answer",
        "it has not answered in time",
        retryable=True,
        retry_after=1,
    )
