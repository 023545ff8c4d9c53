"""What a session may be asked to have beside its resources: a script, shared memory, a runtime, ports, fencing."""

import asyncio
import base64
from collections.abc import Sequence
from typing import Any, Final

import pytest

from api.sessions.environ import SCRIPT_BYTES_MAX, about_script
from domain.directory.messages.images import LOCAL, ImageFacts, RegisterImage
from domain.directory.messages.tenants import ModifyDomain
from domain.messages import SessionId
from domain.placements import RuntimeClass
from domain.session.messages import EVENTS, SessionRequested, SessionSpec
from tests.api.test_from_templates import CLIENT, PATH, TASK, kept
from tests.api.test_sessions import RECORDED
from tests.api.world import World
from tests.whole import now

NOTEBOOK = "docker.io/library/notebook:1"
SCRIPT = "pip install --index-url https://:a-password@example.org/ numpy\n"


def new(**config: Any) -> dict[str, Any]:
    return RECORDED | {"config": RECORDED["config"] | config}


def order(**spec: Any) -> dict[str, Any]:
    spec = {"image": "python:3.9", "slots": {"cpu": 1000, "mem": 2**28}} | spec
    return {"type": "RequestSession", "owner": "AKADA", "name": "told", "spec": spec}


def requested(world: World, session_id: str) -> SessionSpec:
    """As it stands in the log."""
    [event] = [
        event
        for log in world.log._logs.values()
        for record in log.records
        if b'"SessionRequested"' in record.value
        and isinstance(event := EVENTS.validate_json(record.value), SessionRequested)
        and event.session_id == session_id
    ]
    return event.spec


async def script_of(world: World, session_id: str) -> str | None:
    """In clear."""
    sealed = requested(world, session_id).bootstrap_script
    return None if sealed is None else await world.services.keyring.reveal(sealed, about_script(SessionId(session_id)))


async def test_what_is_asked_for_stands_in_the_log(world: World) -> None:
    asked = new(
        resources={"cpu": "1", "mem": "512m"},
        resource_opts={"shmem": "64m"},
        runtime_class="runsc",
        preopen_ports=["8080", 9000],
        fence_after_seconds=30,
    )
    async with world.client() as ada:
        answer = await ada.post("/session", json=asked)
        assert answer.status_code == 201, answer.text
        ada.headers["X-Refold-Position"] = answer.headers["X-Refold-Position"]
        shown = (await ada.get("/session/mysess")).json()
    assert (shown["resourceOpts"], shown["runtimeClass"]) == ({"shmem": str(64 * 2**20)}, "runsc")
    assert shown["preopenPorts"] == [8080, 9000]
    spec = requested(world, answer.json()["sessionId"])
    assert (spec.shm_bytes, spec.runtime_class) == (64 * 2**20, RuntimeClass.RUNSC)
    assert (spec.preopen_ports, spec.fence_after_seconds) == ((8080, 9000), 30)


_IMPOSSIBLE: Final[Sequence[tuple[dict[str, Any], str, str]]] = (
    ({"resource_opts": {"shmem": "512m"}}, "config.resource_opts.shmem", "not_less_than_mem"),
    ({"resource_opts": {"shmem": "lots"}}, "config.resource_opts.shmem", "value_error"),
    ({"resource_opts": {"huge_pages": "1"}}, "config.resource_opts.huge_pages", "not_supported_yet"),
    ({"resource_opts": []}, "config.resource_opts", "model_type"),
    ({"runtime_class": "qemu"}, "config.runtime_class", "enum"),
    ({"preopen_ports": ["http"]}, "config.preopen_ports.0", "int_parsing"),
    ({"preopen_ports": [0]}, "config.preopen_ports.0", "greater_than_equal"),
    ({"preopen_ports": [65536]}, "config.preopen_ports.0", "less_than_equal"),
    ({"preopen_ports": list(range(8000, 8011))}, "config.preopen_ports", "too_long"),
    ({"preopen_ports": [8080, 8080]}, "config.preopen_ports.1", "repeated"),
    ({"preopen_ports": [8080, 2200]}, "config.preopen_ports.1", "reserved"),
    ({"preopen_ports": [8080, 8888]}, "config.preopen_ports.1", "taken"),
    ({"fenceAfterSeconds": 1}, "config.fenceAfterSeconds", "greater_than_equal"),
)


async def test_what_cannot_be_is_refused_by_name(world: World) -> None:
    facts = ImageFacts(registry=LOCAL, labels={"ai.backend.service-ports": "jupyter:http:8888"})
    for command in (
        ModifyDomain(at=now(), name="default", changes={"allowed_docker_registries": (LOCAL,)}),
        RegisterImage(at=now(), reference=NOTEBOOK, facts=facts),
    ):
        await world.whole.give("directory", command)
    async with asyncio.timeout(10):
        while world.services.tail.directory.resolve_image(NOTEBOOK, "x86_64", [LOCAL]) is None:
            await asyncio.sleep(0.01)
    async with world.client() as ada:
        for config, field, rule in _IMPOSSIBLE:
            told = (await ada.post("/session", json=new(**config) | {"image": NOTEBOOK})).json()
            assert (told["status"], told["field"], told["rule"]) == (400, field, rule), told


async def test_a_command_is_held_to_the_same_rules(world: World) -> None:
    async with world.client() as ada:
        for spec, field, rule in (
            ({"shm_bytes": 2**28}, "spec.shm_bytes", "not_less_than_mem"),
            ({"shm_bytes": 1, "slots": {"cpu": 1000}}, "spec.shm_bytes", "not_less_than_mem"),
            ({"preopen_ports": [7681]}, "spec.preopen_ports.0", "reserved"),
            ({"bootstrap_script": 7}, "spec.bootstrap_script", "string_type"),
            ({"bootstrap_script": "ß" * SCRIPT_BYTES_MAX}, "spec.bootstrap_script", "value_error"),
        ):
            told = (await ada.post("/refold/commands", json=order(**spec))).json()
            assert (told["status"], told["field"], told["rule"]) == (400, field, rule), told


@pytest.mark.parametrize("path", ["/session", "/refold/commands"])
async def test_a_bootstrap_script_is_sealed_for_the_session(world: World, path: str) -> None:
    async with world.client() as ada:
        body = RECORDED | {"bootstrap_script": SCRIPT} if path == "/session" else order(bootstrap_script=SCRIPT)
        answer = await ada.post(path, json=body)
        assert answer.status_code in {200, 201}, answer.text
        told = answer.json()
        session_id = told["sessionId"] if path == "/session" else told["events"][0]["session_id"]
    assert await script_of(world, session_id) == SCRIPT
    records = [record.value for log in world.log._logs.values() for record in log.records]
    for text in (*records, answer.content):
        assert b"a-password" not in text
        assert base64.b64encode(SCRIPT.encode()) not in text


async def test_without_a_script_a_session_begins_with_that_of_its_keypair(world: World) -> None:
    async with world.client() as ada, world.client("admin") as admin:
        assert (await ada.post("/user-config/bootstrap-script", json={"script": SCRIPT})).status_code == 200
        begun = []
        for client, told in (
            (ada, {"name": "left-out"}),
            (admin, {"name": "for-ada", "owner_access_key": "AKADA"}),
            (ada, {"name": "another", "bootstrap_script": "true"}),
            (ada, {"name": "no-script", "bootstrap_script": ""}),
            (admin, {"name": "of-admin"}),
        ):
            answer = await client.post("/session", json=RECORDED | told)
            assert answer.status_code == 201, answer.text
            begun.append(await script_of(world, answer.json()["sessionId"]))
    assert begun == [SCRIPT, SCRIPT, "true", None, None]


async def test_the_script_of_a_template_is_the_sessions_unless_it_is_told_another(world: World) -> None:
    run = TASK["spec"]["kernel"]["run"] | {"bootstrap": SCRIPT}
    task = {**TASK, "spec": {**TASK["spec"], "kernel": TASK["spec"]["kernel"] | {"run": run}}}
    begun = []
    async with world.client() as ada:
        template_id = await kept(ada, task)
        for told in ({"name": "left-out"}, {"name": "another", "bootstrap_script": "true"}):
            answer = await ada.post(PATH, json=CLIENT | {"template_id": template_id} | told)
            assert answer.status_code == 201, answer.text
            begun.append(await script_of(world, answer.json()["sessionId"]))
    assert begun == [SCRIPT, "true"]
