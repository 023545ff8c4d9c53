"""The WebSockets of the AsyncAPI document: which there are, and their frames, from the models that read them."""

import inspect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Final

from pydantic import TypeAdapter

from api.kernels import live_runs, terminals, tunnels
from api.kernels.execution import Result

_SCHEMAS: Final = "#/components/schemas/"
_MESSAGES: Final = "#/components/messages/"
_TEXT: Final = {"type": "string"}
_OBJECT_TEXT: Final = {"type": "string", "description": "A JSON object.", "default": "{}"}
_CODES: Final = """
It is refused by a problem (RFC 9457) with its status. Once it is open, it is closed with the code 1000, with 4000 and a
problem's status, or with 1012 where the server leaves.
"""


@dataclass(frozen=True, slots=True)
class Frame:
    """`schema`: of what it carries; of bytes where `is_binary`."""

    name: str
    summary: str
    schema: Mapping[str, Any]
    is_binary: bool = False


@dataclass(frozen=True, slots=True)
class Channel:
    """`said` by the client, `heard` by it. `query`: schema of each parameter, `needed` ones must be given."""

    name: str
    address: str
    about: ModuleType
    said: Sequence[Frame]
    heard: Sequence[Frame]
    query: Mapping[str, Any]
    needed: Sequence[str] = ()


def _schema_of(kind: Any, name: str) -> dict[str, Any]:
    """With what it refers to inside, so that it stands by itself. `name`: where it will stand."""
    place = f"{_SCHEMAS}{name}/$defs/{{model}}"
    return TypeAdapter(kind).json_schema(ref_template=place)


def _result() -> dict[str, Any]:
    """What a run is told to clients as: its files have addresses, and one that cannot go on ends with `error`."""
    schema = _schema_of(Result, "RunResult")
    fields = schema["properties"]
    fields["status"]["enum"].append("error")
    fields["problem"] = {"type": "object", "description": "Of `error`: what is wrong (RFC 9457)."}
    schema["$defs"]["File"]["properties"]["url"] = {"type": "string", "description": "Where it can be had."}
    schema["required"] = ["status", "exitCode", "console", "options", "files"]
    return schema


_RUN: Final = Frame("RunRequest", "The first frame: what to run.", _schema_of(live_runs.First, "RunRequest"))
_TYPED: Final = Frame("RunInput", "After `waiting-input`: the typed line, as it is.", _TEXT)
_RESULT: Final = Frame("RunResult", "What was printed since the one before, and how the run stands.", _result())
_PIECE: Final = Frame("TunnelPiece", "A piece of what the TCP connection carries.", _TEXT, is_binary=True)
_OWNER: Final = {"owner_access_key": {"type": "string", "description": "For admins: whose session it is."}}

_TUNNELLED: Final[Mapping[str, Any]] = {
    "app": {"type": "string", "description": "Name of a service."},
    "arguments": _OBJECT_TEXT,
    "envs": _OBJECT_TEXT,
}

CHANNELS: Final[Sequence[Channel]] = (
    Channel("session-run", "/stream/session/{reference}/execute", live_runs, (_RUN, _TYPED), (_RESULT,), {}),
    Channel(
        "session-terminal",
        "/stream/session/{reference}/pty",
        terminals,
        said=(
            Frame("TerminalTyped", "Base64 of what is typed.", _schema_of(terminals.Typed, "TerminalTyped")),
            Frame("TerminalResized", "Its size from now on.", _schema_of(terminals.Resized, "TerminalResized")),
            Frame(
                "TerminalAsked",
                "Somebody is there; or: end the shell and start another.",
                _schema_of(terminals.Other, "TerminalAsked"),
            ),
        ),
        heard=(
            Frame("TerminalShown", "Base64 of what there is to see.", _schema_of(terminals.Shown, "TerminalShown")),
            Frame("TerminalWrong", "What went wrong; it goes on.", _schema_of(terminals.Wrong, "TerminalWrong")),
        ),
        query={"app": {"type": "string", "description": "A service of the protocol `pty`; else the session's shell."}},
    ),
    *(
        Channel(
            f"{kind}-{protocol}",
            f"/stream/{kind}/{{reference}}/{protocol}proxy",
            tunnels,
            (_PIECE,),
            (_PIECE,),
            _TUNNELLED,
            needed=("app",),
        )
        for kind in ("session", "kernel")
        for protocol in ("tcp", "http")
    ),
)


def channels() -> dict[str, Any]:
    """For the document's `channels`."""
    return {each.name: _channel(each) for each in CHANNELS}


def operations() -> dict[str, Any]:
    """For the document's `operations`; what is sent is sent by the client."""
    told: dict[str, Any] = {}
    for each in CHANNELS:
        for action, frames in (("send", each.said), ("receive", each.heard)):
            told[f"{action}-{each.name}"] = {
                "action": action,
                "channel": {"$ref": f"#/channels/{each.name}"},
                "messages": [{"$ref": f"#/channels/{each.name}/messages/{frame.name}"} for frame in frames],
            }
    return told


def messages() -> dict[str, Any]:
    """For the document's `components.messages`."""
    return {
        frame.name: {
            "name": frame.name,
            "summary": frame.summary,
            "contentType": _content_type(frame),
            "payload": {"$ref": _SCHEMAS + frame.name},
        }
        for frame in _frames()
    }


def schemas() -> dict[str, Any]:
    """For the document's `components.schemas`."""
    return {frame.name: dict(frame.schema) for frame in _frames()}


def _frames() -> Iterable[Frame]:
    """Each once."""
    return {frame.name: frame for each in CHANNELS for frame in (*each.said, *each.heard)}.values()


def _channel(channel: Channel) -> dict[str, Any]:
    query = {
        "type": "object",
        "properties": {**channel.query, **_OWNER},
        "required": list(channel.needed),
    }
    return {
        "address": channel.address,
        "description": (inspect.getdoc(channel.about) or "") + "\n" + _CODES,
        "parameters": {"reference": {"description": "A session's id, its name, or the beginning of either."}},
        "messages": {frame.name: {"$ref": _MESSAGES + frame.name} for frame in (*channel.said, *channel.heard)},
        "bindings": {"ws": {"method": "GET", "query": query}},
    }


def _content_type(frame: Frame) -> str:
    if frame.is_binary:
        return "application/octet-stream"
    return "text/plain" if frame.schema is _TEXT else "application/json"
