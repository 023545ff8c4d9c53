"""What people give to their sessions and may be secret: an environment and a bootstrap script. Both are sealed for the
session's owner before anything is written, and opened for the agents that start its kernels."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Final

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from api.access.auth import Caller
from api.access.secrets import revealed
from api.http.deps import Services
from api.http.problems import Problem, invalid, not_valid
from domain.messages import AccessKey, SessionId
from domain.outfits import VARIABLES_MAX
from domain.session.messages import RequestSession

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

SCRIPT_BYTES_MAX: Final = 64 * 1024


def _script(text: str) -> str:
    if len(text.encode()) > SCRIPT_BYTES_MAX:
        raise ValueError(f"a script has at most {SCRIPT_BYTES_MAX} bytes")
    return text


Script = Annotated[str, AfterValidator(_script)]
"""Of a shell, in clear."""


@dataclass(frozen=True, slots=True)
class Given:
    """In clear. `bootstrap_script` None: what the owner's keypair has; empty: none."""

    environ: Mapping[str, str] = field(default_factory=dict)
    bootstrap_script: str | None = None


IN_CLEAR: Final[Mapping[str, TypeAdapter[Any]]] = {
    "environ": TypeAdapter(Environ),
    "bootstrap_script": TypeAdapter(Script | None),
}
"""Fields of a session's spec that people give in clear."""


def apart(told: Mapping[str, Any]) -> tuple[Mapping[str, Any], Given]:
    """A `RequestSession` as people give it, without what is secret, and that. Raises `Problem`."""
    spec = told.get("spec")
    if not isinstance(spec, dict):
        return told, Given()
    given: dict[str, Any] = {}
    for name in IN_CLEAR.keys() & spec.keys():
        try:
            given[name] = IN_CLEAR[name].validate_python(spec[name])
        except ValidationError as error:
            errors = error.errors(include_url=False, include_input=False, include_context=False)
            raise not_valid([{**each, "loc": ("spec", name, *each["loc"])} for each in errors]) from None
    return {**told, "spec": {name: value for name, value in spec.items() if name not in IN_CLEAR}}, Given(**given)


async def with_given(
    command: RequestSession, given: Given, command_id: str, caller: Caller, all_: Services
) -> RequestSession:
    """The command with these, each sealed for the user whose session it is to be.

    For a command that may be given: sealing makes a key for whoever has none yet. Raises `Unavailable`.
    """
    script = given.bootstrap_script
    if script is None:
        script = await script_of_keypair(command.owner, all_)
    values = {about(command.session_id, name): value for name, value in given.environ.items()}
    if script.strip():
        values[about_script(command.session_id)] = script
    if not values:
        return command
    owner = all_.tail.directory.identity(command.owner) or caller.identity
    sealed = await all_.keyring.seal_all(owner.user.user_id, values, command_id)
    found = {
        "environ": {name: sealed[about(command.session_id, name)] for name in given.environ},
        "bootstrap_script": sealed.get(about_script(command.session_id)),
    }
    return command.model_copy(update={"spec": command.spec.model_copy(update=found)})


async def script_of_keypair(access_key: str, all_: Services) -> str:
    """What each new session of the keypair runs first, unless it is given another; empty if there is none.

    Raises `SecretError`, `Unavailable`.
    """
    keypair = all_.tail.directory.keypairs.get(AccessKey(access_key))
    if keypair is None or keypair.bootstrap_script is None:
        return ""
    return await revealed(all_, keypair.bootstrap_script, about_keypairs_script(access_key))


def about(session_id: SessionId, name: str) -> str:
    """As what a value is sealed: it is of no use under another name, or to another session."""
    return f"environ/{session_id}/{name}"


def about_script(session_id: SessionId) -> str:
    """As what a session's bootstrap script is sealed."""
    return f"bootstrap-script-of/{session_id}"


def about_keypairs_script(access_key: str) -> str:
    """As what that of a keypair is sealed."""
    return f"bootstrap-script/{access_key}"


def strange(field: str) -> Problem:
    """For a sealed text that is not what the session was given as that."""
    return invalid(field, "not_sealed_for_it", f"this is not what {field} was sealed as for this session")
