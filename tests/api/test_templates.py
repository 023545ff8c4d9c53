"""Templates: kept as they are given, checked against their schema, and one's own."""

from contextlib import suppress
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.accounts.template_schema import drafts
from api.http.problems import Problem
from domain.directory.messages.personal import TemplateKind
from tests.api.neighbours import client_of, move_in
from tests.api.world import World

RECORDED = "apiVersion: v1\nkind: taskTemplate\nmetadata:\n  name: t\nspec: {}\n"
WHOLE = """\
api_version: v1
kind: task_template
metadata:
  name: training
  tag: gpu
spec:
  type: batch
  kernel:
    image: python:3.9
    environ:
      EPOCHS: 3
    run:
      bootstrap: pip install x
      stratup: python train.py
    git:
      repository: https://example.org/x.git
      credential:
        username: ada
        password: the-git-password
      destinationDir: src
  mounts:
    data: /home/work/data
    models:
  resources:
    cpu: 2
    mem: 4g
"""
CLUSTER = """\
apiVersion: v1
kind: clusterTemplate
mode: multi-node
metadata: {name: pair}
spec:
  nodes:
    - {role: main, session_template: abc}
    - {role: sub, session_template: abc, replicas: 3}
"""


def new(payload: Any = RECORDED) -> dict[str, Any]:
    return {"payload": payload, "group_name": "default", "domain_name": "default", "owner_access_key": None}


async def test_the_recorded_calls_of_the_client(world: World) -> None:
    async with world.client() as ada:
        created = await ada.post("/template/session", json=new())
        assert created.status_code == 200, created.text
        [entry] = created.json()
        template_id = entry["id"]
        listed = await ada.request("GET", "/template/session", json={"all": False})
        [told] = listed.json()
        assert {"name", "id", "created_at", "is_owner", "type", "user", "group"} <= set(told)
        assert (told["id"], told["name"], told["is_owner"]) == (template_id, "t", True)
        got = await ada.get(f"/template/session/{template_id}", params={"format": "yaml"})
        assert yaml.safe_load(got.text) == yaml.safe_load(RECORDED)
        assert (await ada.get(f"/template/session/{template_id}")).json() == yaml.safe_load(RECORDED)
        changed = {"payload": RECORDED.replace("name: t", "name: other")}
        assert (await ada.put(f"/template/session/{template_id}", json=changed)).json() == {"success": True}
        [changed_entry] = (await ada.get("/template/session")).json()
        assert (changed_entry["name"], changed_entry["created_at"]) == ("other", told["created_at"])
        assert (await ada.delete(f"/template/session/{template_id}")).json() == {"success": True}
        assert (await ada.get(f"/template/session/{template_id}")).status_code == 404
        assert (await ada.get("/template/session")).json() == []


async def test_several_at_once(world: World) -> None:
    other = RECORDED.replace("name: t", "name: u")
    async with world.client(**{"Idempotency-Key": '"several"'}) as ada:
        first = await ada.post("/template/session", json=new(f"{RECORDED}---\n{other}"))
        again = await ada.post("/template/session", json=new(f"{RECORDED}---\n{other}"))
        assert first.json() == again.json()
        assert len(first.json()) == 2
        assert [each["name"] for each in (await ada.get("/template/session")).json()] == ["t", "u"]


async def test_a_cluster_template_is_of_another_kind(world: World) -> None:
    async with world.client() as ada:
        [entry] = (await ada.post("/template/cluster", json=new(CLUSTER))).json()
        assert (await ada.get("/template/session")).json() == []
        assert (await ada.get(f"/template/session/{entry['id']}")).status_code == 404
        assert (await ada.get(f"/template/cluster/{entry['id']}")).json()["mode"] == "multi-node"
        wrong = await ada.post("/template/session", json=new(CLUSTER))
        assert (wrong.status_code, wrong.json()["field"]) == (400, "payload.kind")
        assert (await ada.get("/template/none")).status_code == 400


async def test_what_may_be_secret_in_it_is_told_to_its_owner_only(world: World) -> None:
    await move_in(world)
    async with world.client() as ada, client_of(world, "dora") as dora:
        [entry] = (await ada.post("/template/session", json=new(WHOLE))).json()
        mine = await ada.get(f"/template/session/{entry['id']}", params={"format": "yaml"})
        assert yaml.safe_load(mine.text) == yaml.safe_load(WHOLE)
        theirs = (await dora.get(f"/template/session/{entry['id']}")).json()
        [listed] = (await ada.get("/template/session")).json()
    for kernel in (theirs["spec"]["kernel"], listed["template"]["spec"]["kernel"]):
        assert kernel["git"]["credential"] == {"username": "ada", "password": "********"}
        assert kernel["environ"] == {"EPOCHS": "********"}
        assert kernel["image"] == "python:3.9"


async def test_the_variables_of_a_cluster_are_told_to_its_owner_only(world: World) -> None:
    payload = CLUSTER.replace("spec:", "spec:\n  environ: {TOKEN: the-token}")
    async with world.client() as ada:
        [entry] = (await ada.post("/template/cluster", json=new(payload))).json()
        assert (await ada.get(f"/template/cluster/{entry['id']}")).json()["spec"]["environ"] == {"TOKEN": "the-token"}
        assert "the-token" not in (await ada.get("/template/cluster")).text


async def test_nothing_of_it_but_its_name_stands_in_the_log(world: World) -> None:
    async with world.client() as ada:
        [entry] = (await ada.post("/template/session", json=new(WHOLE))).json()
        changed = WHOLE.replace("the-git-password", "another-password")
        assert (await ada.put(f"/template/session/{entry['id']}", json={"payload": changed})).status_code == 200
    everything = b"\n".join(record.value for log in world.log._logs.values() for record in log.records)
    assert everything.count(b'"TemplatePut"') == 2
    assert b'"training"' in everything
    words = ["the-git-password", "another-password", "EPOCHS", "python train.py", "pip install x", "x.git", "/data"]
    assert [word for word in words if word.encode() in everything] == []


async def test_one_that_cannot_be_read_any_more_is_still_listed_and_deleted(world: World) -> None:
    async with world.client() as ada, world.client("admin") as admin:
        [forgotten] = (await ada.post("/template/session", json=new())).json()
        await world.services.keyring.forget("user-ada")
        strange = {"template_id": "strange", "template": kept_as("bm90aGluZw==", world)}
        assert (await admin.post("/refold/commands", json={"type": "CreateTemplate"} | strange)).status_code == 200
        for template_id, status in ((forgotten["id"], 410), ("strange", 409)):
            assert (await admin.get(f"/template/session/{template_id}")).status_code == status
        listed = (await admin.request("GET", "/template/session", json={"all": True})).json()
        assert [(each["name"], each["template"]) for each in listed] == [("odd", None), ("t", None)]
        for template_id in (forgotten["id"], "strange"):
            assert (await admin.delete(f"/template/session/{template_id}")).status_code == 200


def kept_as(body: str, world: World) -> dict[str, Any]:
    project = world.services.tail.directory.project("default", "default")
    assert project is not None
    place = {"domain": "default", "project_id": project.project_id, "owner": "user-ada"}
    return place | {"kind": "task", "name": "odd", "body": body}


async def test_one_that_is_too_large_is_refused(world: World) -> None:
    large = yaml.safe_load(WHOLE)
    large["spec"]["mounts"] = {f"folder{number}": "/" + "x" * 1000 for number in range(200)}
    async with world.client() as ada:
        told = (await ada.post("/template/session", json=new(large))).json()
    assert (told["status"], told["field"], told["rule"]) == (400, "payload", "length")


async def test_anothers_template_is_not_there(world: World) -> None:
    await move_in(world)
    async with world.client() as ada, world.client("eve") as eve, client_of(world, "zed") as zed:
        [entry] = (await ada.post("/template/session", json=new())).json()
        for stranger in (eve, zed):
            assert (await stranger.request("GET", "/template/session", json={"all": True})).json() == []
            for method in ("GET", "PUT", "DELETE"):
                path, body = f"/template/session/{entry['id']}", {"payload": RECORDED}
                theirs = await stranger.request(method, path, json=body)
                nobodys = await stranger.request(method, "/template/session/0f0c1c2d", json=body)
                assert (theirs.status_code, nobodys.status_code) == (404, 404)
                assert theirs.json()["detail"].replace(entry["id"], "0f0c1c2d") == nobodys.json()["detail"]
        assert (await ada.get(f"/template/session/{entry['id']}")).status_code == 200


async def test_an_admin_sees_those_of_his_domain(world: World) -> None:
    await move_in(world)
    async with world.client() as ada, client_of(world, "dora") as dora, client_of(world, "mona") as mona:
        [entry] = (await ada.post("/template/session", json=new())).json()
        listed = await dora.request("GET", "/template/session", json={"all": True})
        assert [(each["id"], each["is_owner"]) for each in listed.json()] == [(entry["id"], False)]
        assert (await dora.request("GET", "/template/session", json={"all": False})).json() == []
        assert (await mona.delete(f"/template/session/{entry['id']}")).status_code == 403
        assert (await dora.delete(f"/template/session/{entry['id']}")).status_code == 200


async def test_it_belongs_to_a_project_one_is_in(world: World) -> None:
    async with world.client() as ada:
        theirs = await ada.post("/template/session", json=new() | {"group_name": "other"})
        nobodys = await ada.post("/template/session", json=new() | {"group_name": "never"})
    assert (theirs.status_code, nobodys.status_code) == (404, 404)
    assert theirs.json()["detail"].replace("other", "never") == nobodys.json()["detail"]


async def test_an_admin_makes_one_for_somebody_else(world: World) -> None:
    async with world.client("admin") as admin, world.client() as ada, world.client("eve") as eve:
        made = await admin.post("/template/session", json=new() | {"owner_access_key": "AKADA"})
        assert made.status_code == 200, made.text
        assert (await ada.get("/template/session")).json()[0]["is_owner"] is True
        assert (await eve.post("/template/session", json=new() | {"owner_access_key": "AKADA"})).status_code == 403


@pytest.mark.parametrize("payload", [None, 7, "", "   ", [], "# nothing\n", f"{RECORDED}---\n" * 30, "x" * 70_000])
async def test_a_payload_that_holds_no_templates_is_refused(world: World, payload: Any) -> None:
    async with world.client() as ada:
        answer = await ada.post("/template/session", json=new(payload))
    assert answer.status_code == 400, answer.text
    assert answer.json()["field"].startswith("payload")


# -- the schema --------------------------------------------------------------------------------------------------------


def refusal(payload: Any, kind: TemplateKind = TemplateKind.TASK) -> tuple[str, str, str]:
    """Field, rule and detail."""
    with pytest.raises(Problem) as raised:
        drafts(payload, kind)
    assert raised.value.status == 400
    return raised.value.members["field"], raised.value.members["rule"], raised.value.detail


def without(line: str) -> str:
    assert line in WHOLE
    return WHOLE.replace(line, "")


@pytest.mark.parametrize("payload", [RECORDED, WHOLE, yaml.safe_load(WHOLE), [yaml.safe_load(RECORDED)]])
def test_what_fits_the_schema_is_kept_as_it_is(payload: Any) -> None:
    [draft] = drafts(payload, TemplateKind.TASK)
    assert draft.name == draft.body["metadata"]["name"]


def test_a_list_of_them_is_taken_as_the_reference_takes_it() -> None:
    [draft] = drafts([{"name": "own", "template": yaml.safe_load(RECORDED)}], TemplateKind.TASK)
    assert (draft.name, draft.body) == ("own", yaml.safe_load(RECORDED))
    assert refusal([{"name": "own", "template": {}}])[0] == "payload.template.api_version"


@pytest.mark.parametrize(
    ("payload", "field", "line"),
    [
        (without("  name: training\n"), "payload.metadata.name", 4),
        (without("    image: python:3.9\n"), "payload.spec.kernel.image", 9),
        (without("      repository: https://example.org/x.git\n"), "payload.spec.kernel.git.repository", 16),
        (WHOLE.replace("kind: task_template", "kind: task"), "payload.kind", 2),
        (WHOLE.replace("type: batch", "type: forever"), "payload.spec.type", 7),
        (WHOLE.replace("cpu: 2", "cpu: many"), "payload.spec.resources.cpu", None),
        (WHOLE.replace("      EPOCHS: 3", "      EPOCHS: [3]"), "payload.spec.kernel.environ.EPOCHS", 11),
        (WHOLE.replace("  tag: gpu", "  tags: gpu"), "payload.metadata.tags", 5),
        ("just text", "payload", 1),
    ],
)
def test_what_does_not_fit_is_told_by_field_and_line(payload: str, field: str, line: int | None) -> None:
    told, rule, detail = refusal(payload)
    assert told.startswith(field), (told, detail)
    assert rule
    if line is not None:
        assert detail.startswith(f"line {line}: "), detail


@pytest.mark.parametrize(
    ("text", "rule", "line"),
    [
        ("a: b\n c: d", "yaml", 2),
        ("a: &x [1]\nb: *x", "no_aliases", 2),
        ("a: !!python/object:os.system x", "yaml", 1),
        ("a: 1\nb: " + "{" * 60_000, "nested", 2),  # to read all of it would take half a minute
        ("a: 2020-01-01", "yaml", None),
        ("? [1]\n: x", "yaml", None),
        ("a: \x01", "yaml", None),
    ],
)
def test_what_is_no_plain_yaml_is_refused(text: str, rule: str, line: int | None) -> None:
    field, told, detail = refusal(text)
    assert (field, told) == ("payload", rule)
    if line is not None:
        assert detail.startswith(f"line {line}: "), detail


def test_a_cluster_has_nodes() -> None:
    [draft] = drafts(CLUSTER, TemplateKind.CLUSTER)
    assert draft.name == "pair"
    assert refusal(CLUSTER.replace("mode: multi-node\n", ""), TemplateKind.CLUSTER)[0] == "payload.mode"
    without_nodes = CLUSTER[: CLUSTER.index("  nodes")] + "  nodes: []\n"
    assert refusal(without_nodes, TemplateKind.CLUSTER)[0] == "payload.spec.nodes"
    bad = CLUSTER.replace("replicas: 3", "replicas: 0")
    field, _, detail = refusal(bad, TemplateKind.CLUSTER)
    assert field == "payload.spec.nodes.1.replicas"
    assert detail.startswith("line 8: ")


_WORDS = st.sampled_from(
    ["apiVersion", "v1", "kind", "taskTemplate", "metadata", "name", "spec", "kernel", "image", ":", "-", "{", "}", "[",
     "]", "\n", "  ", "&a", "*a", "!!x", "1", "null", "'", '"', "#", "|", "? ", "---\n", "\u0000", "é", "\ud800"]
)  # fmt: skip
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8) | _WORDS, inner, max_size=3),
    max_leaves=10,
)


@given(st.lists(_WORDS, max_size=30).map("".join) | st.text(max_size=40) | st.lists(_VALUES, max_size=3))
@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_no_payload_is_a_defect(payload: Any) -> None:
    for kind in TemplateKind:
        with suppress(Problem):
            drafts(payload, kind)
