"""The AsyncAPI document: every topic with its messages, event streams and WebSockets, generated from the models."""

from collections.abc import Mapping
from typing import Any, Final, get_args

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from api.http import asyncapi_sockets as sockets
from domain.contexts import CONTEXTS
from domain.outcomes import Outcomes
from domain.placements import AgentOrder
from domain.telemetry import Telemetry
from domain.vfolder.operations import FileOperation
from infra.settings import Settings
from infra.topics import AUDIT, DEAD_LETTERS, PLACEMENTS, TELEMETRY, all_topics, commands, events

_REF: Final = "#/components/schemas/{model}"

_HEADERS: Final = {
    "type": "object",
    "description": "CloudEvents 1.0 in Kafka's binary mode.",
    "properties": {
        "ce_specversion": {"const": "1.0"},
        "ce_id": {"type": "string", "format": "uuid"},
        "ce_type": {"type": "string", "description": "Name of the message."},
        "ce_source": {"type": "string"},
        "ce_time": {"type": "string", "format": "date-time"},
        "ce_subject": {"type": "string", "description": "The one thing it is about."},
        "ce_correlationid": {"type": "string", "description": "What first led to it."},
        "ce_causationid": {"type": "string", "description": "What directly led to it."},
        "ce_actor": {"type": "string"},
        "ce_schemaversion": {"type": "string"},
        "ce_commandoffset": {"type": "string", "description": "Events: offset of their command."},
        "ce_outcome": {"type": "string", "examples": ["0/1"], "description": "Events: place in the outcome."},
        "ce_chain": {"type": "string", "description": "Events: SHA-256 that chains them."},
        "traceparent": {"type": "string"},
    },
    "required": ["ce_id", "ce_type", "ce_source", "ce_time", "ce_subject", "ce_correlationid", "ce_causationid"],
}

_STREAMED: Final = {
    "type": "object",
    "description": "Data of one server-sent event; its name is one of session_* and kernel_*, its id a position.",
    "properties": {
        "sessionId": {"type": "string"},
        "sessionName": {"type": "string"},
        "ownerAccessKey": {"type": "string"},
        "reason": {"type": "string"},
        "exitCode": {"type": ["integer", "null"]},
        "at": {"type": "string", "format": "date-time"},
        "result": {"enum": ["UNDEFINED", "SUCCESS", "FAILURE"]},
        "kernelId": {"type": "string"},
        "clusterRole": {"type": "string"},
        "clusterIdx": {"type": "integer"},
    },
    "required": ["sessionId", "sessionName", "ownerAccessKey", "reason", "at"],
}

_STREAMED_TASK: Final = {
    "type": "object",
    "description": "Data of one server-sent event; its name is task_updated, task_done, task_failed, task_cancelled.",
    "properties": {
        "task_id": {"type": "string", "format": "uuid"},
        "message": {"type": "string"},
        "current_progress": {"type": "integer"},
        "total_progress": {"type": "integer", "description": "0: not known yet."},
    },
    "required": ["task_id", "message", "current_progress", "total_progress"],
}

_OURS: Final = {"Headers": _HEADERS, "StreamedEvent": _STREAMED, "StreamedTaskEvent": _STREAMED_TASK}


def members(union: Any) -> list[type[BaseModel]]:
    """The models of an annotated union."""
    inner = get_args(union)
    if isinstance(union, type) and issubclass(union, BaseModel):
        return [union]
    return [model for each in inner for model in members(each)]


def asyncapi(settings: Settings) -> Mapping[str, Any]:
    """AsyncAPI 3.0."""
    by_topic = _messages_by_topic()
    models = list(dict.fromkeys(model for found in by_topic.values() for model in found))
    _, definitions = models_json_schema([(model, "validation") for model in models], ref_template=_REF)
    channels: dict[str, Any] = {
        topic.name: {
            "address": settings.topic_prefix + topic.name,
            "description": topic.carries,
            "messages": {
                model.__name__: {"$ref": f"#/components/messages/{model.__name__}"}
                for model in by_topic.get(topic.name, ())
            },
            "bindings": {"kafka": {"partitions": topic.partitions, "topicConfiguration": dict(topic.config)}},
        }
        for topic in all_topics(settings)
    }
    channels["session-event-stream"] = {
        "address": "/events/session",
        "description": "Server-sent events: what happens to sessions.",
        "messages": {"StreamedEvent": {"$ref": "#/components/messages/StreamedEvent"}},
        "bindings": {"http": {}},
    }
    channels["background-task-event-stream"] = {
        "address": "/events/background-task",
        "description": "Server-sent events: how far a background task is.",
        "messages": {"StreamedTaskEvent": {"$ref": "#/components/messages/StreamedTaskEvent"}},
        "bindings": {"http": {}},
    }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Refold",
            "version": "0.1.0",
            "description": "The log, the streams made of it, and the WebSockets into sessions, as clients see them.",
        },
        "defaultContentType": "application/json",
        "channels": channels | sockets.channels(),
        "operations": {
            **{
                f"receive-{name}": {"action": "receive", "channel": {"$ref": f"#/channels/{name}"}} for name in channels
            },
            **sockets.operations(),
        },
        "components": {
            "messages": {
                **sockets.messages(),
                **{model.__name__: _message(model) for model in models},
                "StreamedEvent": {
                    "contentType": "text/event-stream",
                    "payload": {"$ref": "#/components/schemas/StreamedEvent"},
                },
                "StreamedTaskEvent": {
                    "contentType": "text/event-stream",
                    "payload": {"$ref": "#/components/schemas/StreamedTaskEvent"},
                },
            },
            "schemas": {**definitions.get("$defs", {}), **_OURS, **sockets.schemas()},
        },
    }


def _message(model: type[BaseModel]) -> dict[str, Any]:
    return {
        "name": model.__name__,
        "summary": (model.__doc__ or "").strip(),
        "headers": {"$ref": "#/components/schemas/Headers"},
        "payload": {"$ref": _REF.format(model=model.__name__)},
    }


def _messages_by_topic() -> dict[str, list[type[BaseModel]]]:
    found: dict[str, list[type[BaseModel]]] = {
        PLACEMENTS: members(AgentOrder),
        TELEMETRY: members(Telemetry),
        AUDIT: members(FileOperation),
        DEAD_LETTERS: [],
    }
    for name, context in CONTEXTS.items():
        found[commands(name)] = members(context.commands._type)
        found[events(name)] = [*members(context.events._type), *members(Outcomes)]
    return found
