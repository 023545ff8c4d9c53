"""The environment people give to their sessions. Its values may be secrets, so they are sealed for the session's owner
before anything is written, and opened for the agents that start its kernels."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Final

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from api.auth import Caller
from api.deps import Services
from api.problems import Problem, invalid, not_valid
from domain.messages import SessionId
from domain.session.messages import RequestSession

VARIABLES_MAX: Final = 1000
BYTES_MAX: Final = 64 * 1024
"""Of names and values together. Sealed they still fit into one request of an agent, and into one order to it."""

_NAME: Final = re.compile(r"[^=\x00-\x20]{1,256}")


def _variables(environ: dict[str, str]) -> dict[str, str]:
    for name in environ:
        if _NAME.fullmatch(name) is None:
            raise ValueError(f"{name[:40]!r} cannot be the name of a variable")
    if sum(len(name.encode()) + len(value.encode()) for name, value in environ.items()) > BYTES_MAX:
        raise ValueError(f"all variables together have at most {BYTES_MAX} bytes")
    return environ


Environ = Annotated[dict[str, str], Field(max_length=VARIABLES_MAX), AfterValidator(_variables)]
"""Name → value, in clear."""

ENVIRON: Final[TypeAdapter[dict[str, str]]] = TypeAdapter(Environ)
_IN_COMMAND: Final = ("spec", "environ")


def apart(told: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, str]]:
    """A `RequestSession` as people give it, without its environment, and that. Raises `Problem`."""
    spec = told.get("spec")
    if not isinstance(spec, dict) or "environ" not in spec:
        return told, {}
    try:
        environ = ENVIRON.validate_python(spec["environ"])
    except ValidationError as error:
        errors = error.errors(include_url=False, include_input=False, include_context=False)
        raise not_valid([{**each, "loc": (*_IN_COMMAND, *each["loc"])} for each in errors]) from None
    return {**told, "spec": {name: value for name, value in spec.items() if name != "environ"}}, environ


async def with_environ(
    command: RequestSession, environ: Mapping[str, str], command_id: str, caller: Caller, all_: Services
) -> RequestSession:
    """The command with these variables, each value sealed for the user whose session it is to be.

    For a command that may be given: sealing makes a key for whoever has none yet. Raises `Unavailable`.
    """
    if not environ:
        return command
    owner = all_.tail.directory.identity(command.owner) or caller.identity
    values = {about(command.session_id, name): value for name, value in environ.items()}
    sealed = await all_.keyring.seal_all(owner.user.user_id, values, command_id)
    by_name = {name: sealed[about(command.session_id, name)] for name in environ}
    return command.model_copy(update={"spec": command.spec.model_copy(update={"environ": by_name})})


def about(session_id: SessionId, name: str) -> str:
    """As what a value is sealed: it is of no use under another name, or to another session."""
    return f"environ/{session_id}/{name}"


def strange(name: str) -> Problem:
    """For a sealed text that is not the value of that variable of the session."""
    return invalid(f"environ.{name}", "not_sealed_for_it", f"this is not what {name} was sealed as for this session")
