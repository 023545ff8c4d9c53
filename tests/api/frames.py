"""The frames of WebSockets, as the AsyncAPI document has them."""

import re
from functools import cache
from typing import Any

from jsonschema_rs import Draft202012Validator

from api.http.asyncapi import asyncapi
from infra.settings import Settings

Frames = Draft202012Validator


@cache
def _frames() -> dict[re.Pattern[str], Frames]:
    document: dict[str, Any] = dict(asyncapi(Settings()))
    channels, components = document["channels"], document["components"]
    found = {}
    for operation in document["operations"].values():
        channel = channels[operation["channel"]["$ref"].rpartition("/")[2]]
        if operation["action"] == "receive" and "ws" in channel["bindings"]:
            names = [each["$ref"].rpartition("/")[2] for each in operation["messages"]]
            payloads = [components["messages"][name]["payload"] for name in names]
            schema = {"anyOf": payloads, "components": {"schemas": components["schemas"]}}
            address = channel["address"].replace("{reference}", "[^/]+").replace("session", "(session|kernel)")
            found[re.compile(f"{address}$")] = Draft202012Validator(schema)
    return found


def frames_of(path: str) -> Frames:
    """What a client may hear at that address, whatever its prefix and its query."""
    return next(frames for address, frames in _frames().items() if address.search(path.partition("?")[0]))
