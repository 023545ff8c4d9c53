"""What else clients ask about sessions."""

from datetime import datetime

from tests.api.test_sessions import RECORDED
from tests.api.world import World


async def test_living_sessions_are_matched_by_how_their_name_or_id_begins(world: World) -> None:
    async with world.client() as ada, world.client("eve") as eve:
        ids = {}
        for client, name in ((ada, "train-1"), (ada, "train-2"), (ada, "other"), (ada, "train-3"), (eve, "train-9")):
            ids[name] = (await client.post("/session", json=RECORDED | {"name": name})).json()["sessionId"]
        position = (await ada.delete("/session/train-3")).headers["X-Refold-Position"]
        ada.headers["X-Refold-Position"] = position

        async def matched(beginning: str) -> list[dict[str, str]]:
            answer = await ada.get("/session/_/match", params={"id": beginning})
            assert answer.status_code == 200, answer.text
            told: list[dict[str, str]] = answer.json()["matches"]
            return told

        assert [each["name"] for each in await matched("train-")] == ["train-2", "train-1"]
        assert await matched(ids["other"][:8]) == [{"id": ids["other"], "name": "other", "status": "PENDING"}]
        assert await matched("train-9") == []
        unnamed = await ada.get("/session/_/match")
        assert (unnamed.status_code, unnamed.json()["field"]) == (400, "id")


async def test_a_session_is_the_root_of_its_dependencies_as_the_public_client_reads_them(world: World) -> None:
    async with world.client() as ada:
        made = await ada.post("/session", json=RECORDED)
        ada.headers["X-Refold-Position"] = made.headers["X-Refold-Position"]
        root = (await ada.get("/session/mysess/dependency-graph")).json()
    assert (root["session_id"], root["session_name"]) == (made.json()["sessionId"], "mysess")
    assert (root["status"].split("KernelStatus.")[1], root["depends_on"]) == ("PENDING", [])
    assert datetime.strptime(root["status_changed"].split(".")[0] + "Z", "%Y-%m-%d %H:%M:%S%z")


async def test_nothing_of_a_session_is_reached_past_the_api(world: World) -> None:
    async with world.client() as ada:
        made = await ada.post("/session", json=RECORDED)
        ada.headers["X-Refold-Position"] = made.headers["X-Refold-Position"]
        told = (await ada.get("/session/mysess/direct-access-info")).json()
    assert told == {
        "kernel_role": "INTERACTIVE",
        "session_type": "INTERACTIVE",
        "public_host": None,
        "sshd_ports": [],
    }


async def test_the_report_of_abuse_is_about_the_main_kernel_and_empty(world: World) -> None:
    async with world.client() as ada:
        made = await ada.post("/session", json=RECORDED)
        ada.headers["X-Refold-Position"] = made.headers["X-Refold-Position"]
        told = (await ada.get("/session/mysess/abusing-report")).json()
    assert told == {"kernel": made.json()["sessionId"], "abuse_report": None}
