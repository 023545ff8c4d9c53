"""Who is let in. The vectors are the manual's, and others computed with its keys."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from api.access.auth import Caller, Gate, Signed
from api.http.problems import Problem
from domain.contexts import CONTEXTS
from domain.directory.messages.keypairs import KeypairChanges, ModifyKeypair
from domain.directory.messages.users import ModifyUser, UserChanges, UserStatus
from domain.directory.state import Directory
from domain.messages import AccessKey, Command, UserId
from infra.keyring import KeyMissing, Keyring, MemoryKeys
from infra.secrets import new_key
from infra.settings import Settings
from infra.signing import KeypairAuth, body_hash, media_type, sign, signing_key, string_to_sign
from tests.api.world import KEYS, World, people

SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
OLD = "20160930T01:23:45Z"
NEW = "20240102T030405Z"
HOST = "api.example.test:8081"
BODY = b'{"image": "python:3.9-ubuntu20.04"}'


@pytest.mark.parametrize(
    ("day", "host", "text", "signature"),
    [
        (
            "20160930",
            "your.sorna.api.endpoint",
            string_to_sign(
                "GET",
                "/v1",
                OLD,
                "your.sorna.api.endpoint",
                "application/json",
                "v1.20160915",
                body_hash(b""),
                "x-sorna-version",
            ),
            "022ae894b4ecce097bea6eca9a97c41cd17e8aff545800cd696112cc387059cf",
        ),
        (
            "20160930",
            "your.sorna.api.endpoint",
            string_to_sign(
                "GET",
                "/v2",
                OLD,
                "your.sorna.api.endpoint",
                "application/json",
                "v2.20170215",
                body_hash(b""),
                "x-sorna-version",
            ),
            "ca177162e332893e70743f6612ffe2cfad8b1a036bcfddf4a83f4897459be757",
        ),
        (
            "20160930",
            "your.sorna.api.endpoint",
            string_to_sign(
                "GET", "/v2", OLD, "your.sorna.api.endpoint", "application/json", "v2.20170215", body_hash(b"")
            ),
            "9a44c7b7ee1082109ab93d7079ccbd3b4e0f351435e8fcd24418ae31bd9b793e",
        ),
        (
            "20240102",
            HOST,
            string_to_sign("POST", "/session", NEW, HOST, "application/json", "v6.20220615", body_hash(BODY)),
            "e48da85270905febb23b04f1402ed33af5590320be7faeec5053261df0b75229",
        ),
        (
            "20240102",
            HOST,
            string_to_sign("POST", "/session", NEW, HOST, "application/json", "v6.20220615", body_hash(b"")),
            "bcf825cd44d6a0c0bfa2e507d1b36f515e0697668f5f1a45fb4cd523b27b2317",
        ),
        (
            "20240102",
            HOST,
            string_to_sign(
                "GET", "/folders?group_id=abc", NEW, HOST, "application/json", "v6.20220615", body_hash(b"")
            ),
            "3d6e612c2accc6f8013390665034b237c4b9a6a02971641c515c7b8b8efff82d",
        ),
    ],
)
def test_signatures_are_those_of_the_manual(day: str, host: str, text: bytes, signature: str) -> None:
    assert sign(signing_key(SECRET, day, host), text) == signature


def test_derived_keys_are_those_of_the_manual() -> None:
    assert (
        signing_key(SECRET, "20160930", "your.sorna.api.endpoint").hex()
        == "3802e2dbb130fcb43b78d7dea6ae36738b8bd90ef910d8fa0a0faec162d30492"
    )
    assert (
        signing_key(SECRET, "20240102", HOST).hex()
        == "2b6a70379cdff7beff0f1d69936a6b9b146b722e9c532de2c3caf843dbfd03f2"
    )


def test_a_media_type_is_signed_without_its_parameters() -> None:
    assert media_type("Multipart/Form-Data; boundary=x") == "multipart/form-data"
    assert media_type("") == "application/octet-stream"


NOW = datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)


class Setting:
    """A directory of people, and a gate to it at a time of its own."""

    def __init__(self) -> None:
        self.directory: Directory = CONTEXTS["directory"].empty
        self.settings = Settings.model_validate({"master_key": new_key()})
        self.keys = MemoryKeys()
        self.keyring = Keyring(self.settings, self.keys)
        self.gate = Gate(lambda: self.directory, self.keyring, lambda: NOW)

    async def move_in(self) -> None:
        for command in await people(self.keyring):
            self.give(command)

    def give(self, command: Command) -> None:
        context = CONTEXTS["directory"]
        for event in context.decide(command, self.directory):
            self.directory = context.evolve(self.directory, event)

    def signed(
        self,
        who: str = "ada",
        body: bytes = b"",
        hashed: bytes = b"",
        date: str = NEW,
        at: datetime = NOW,
        names: tuple[str, str] = ("Date", "X-BackendAI-Version"),
        algorithm: str = "sha256",
        **changed: str,
    ) -> Signed:
        access_key, secret_key = KEYS.get(who, ("AKNOBODY", "x"))
        text = string_to_sign(
            "POST",
            "/session?a=%20b",
            date,
            HOST,
            "application/json",
            "v6.20220615",
            body_hash(hashed, algorithm),
            names[1].lower(),
        )
        signature = sign(signing_key(secret_key, f"{at:%Y%m%d}", HOST, algorithm), text, algorithm)
        headers = {
            "host": HOST,
            "content-type": "application/json",
            names[0].lower(): date,
            names[1].lower(): "v6.20220615",
            "authorization": f"BackendAI signMethod=HMAC-{algorithm.upper()}, credential={access_key}:{signature}",
        } | {name.replace("_", "-"): value for name, value in changed.items()}
        return Signed("POST", "/session?a=%20b", {k: v for k, v in headers.items() if v != "-"}, body)

    def why_not(self, request: Signed, owner: str | None = None) -> str:
        with pytest.raises(Problem) as refused:
            self.gate.admit(request, owner)
        assert refused.value.status == (403 if owner else 401)
        return refused.value.kind


@pytest.fixture
async def setting() -> Setting:
    made = Setting()
    await made.move_in()
    return made


@pytest.mark.parametrize(
    "request_of",
    [
        lambda s: s.signed(),
        lambda s: s.signed(body=BODY),
        lambda s: s.signed(body=BODY, hashed=BODY),
        lambda s: s.signed(names=("X-BackendAI-Date", "X-BackendAI-Version")),
        lambda s: s.signed(names=("X-Sorna-Date", "X-Sorna-Version")),
        lambda s: s.signed(algorithm="sha512"),
        lambda s: s.signed(date="2024-01-02T03:04:05.123456+00:00"),
        lambda s: s.signed(date="2024-01-02T03:04:05"),
        lambda s: s.signed(date="Tue, 02 Jan 2024 03:04:05 GMT"),
        lambda s: s.signed(date="2024-01-02T04:04:05+01:00"),
    ],
)
def test_every_documented_way_to_sign_is_let_in(setting: Setting, request_of: Callable[[Setting], Signed]) -> None:
    caller = setting.gate.admit(request_of(setting))
    assert caller.owner == "AKADA"
    assert not caller.is_admin


def _later(minutes: int) -> str:
    return (NOW + timedelta(minutes=minutes)).isoformat()


@pytest.mark.parametrize(
    ("request_of", "kind"),
    [
        (lambda s: s.signed(authorization="-"), "authorization-missing"),
        (lambda s: s.signed(authorization="Bearer x"), "authorization-malformed"),
        (lambda s: s.signed(authorization="BackendAI signMethod=HMAC-MD5, credential=a:00"), "sign-method-unknown"),
        (lambda s: s.signed(date="-"), "date-missing"),
        (lambda s: s.signed(date="yesterday"), "date-malformed"),
        (lambda s: s.signed(date="0001-01-01T00:00:00+14:00"), "date-malformed"),
        (lambda s: s.signed(date=_later(16)), "date-skewed"),
        (lambda s: s.signed(date=_later(-16)), "date-skewed"),
        (lambda s: s.signed(x_backendai_version="-"), "version-missing"),
        (lambda s: s.signed(x_backendai_version="7"), "version-malformed"),
        (lambda s: s.signed(host="other:8081"), "signature-mismatch"),
        (lambda s: s.signed(content_type="text/plain"), "signature-mismatch"),
        (lambda s: s.signed(content_type="-"), "signature-mismatch"),
        (lambda s: s.signed(body=BODY, hashed=b"another"), "signature-mismatch"),
        (lambda s: s.signed(who="nobody"), "signature-mismatch"),
    ],
)
def test_each_way_to_be_wrong_has_a_problem_of_its_own(
    setting: Setting, request_of: Callable[[Setting], Signed], kind: str
) -> None:
    assert setting.why_not(request_of(setting)) == kind


def test_a_signature_without_the_body_can_be_forbidden(setting: Setting) -> None:
    strict = Gate(lambda: setting.directory, setting.keyring, lambda: NOW, whole_bodies=True)
    strict.admit(setting.signed(body=BODY, hashed=BODY))
    strict.admit(setting.signed())
    with pytest.raises(Problem) as refused:
        strict.admit(setting.signed(body=BODY))
    assert refused.value.kind == "signature-mismatch"


def test_an_unknown_key_and_a_wrong_signature_look_the_same(setting: Setting) -> None:
    told = []
    for request in (setting.signed(who="nobody"), setting.signed(host="other:8081")):
        with pytest.raises(Problem) as refused:
            setting.gate.admit(request)
        told.append(bytes(refused.value.response("/x").body))
    assert told[0] == told[1]


def test_a_revoked_key_stops_working_with_the_event_that_says_so(setting: Setting) -> None:
    request = setting.signed()
    setting.gate.admit(request)
    before = setting.directory
    setting.give(ModifyKeypair(at=NOW, access_key=AccessKey("AKADA"), changes=KeypairChanges(active=False)))
    assert setting.why_not(request) == "keypair-inactive"
    setting.directory = before
    off = UserChanges(status=UserStatus.INACTIVE)
    setting.give(ModifyUser(at=NOW, user_id=UserId("user-ada"), changes=off))
    assert setting.why_not(request) == "keypair-inactive"


def test_only_an_admin_acts_for_another_key(setting: Setting) -> None:
    assert setting.why_not(setting.signed(), owner="AKEVE") == "generic-forbidden"
    caller: Caller = setting.gate.admit(setting.signed("admin"), "AKEVE")
    assert (caller.access_key, caller.owner, caller.actor) == ("AKADMIN", "AKEVE", "keypair:AKADMIN")


async def test_the_key_of_a_secret_is_brought_when_it_is_needed(setting: Setting) -> None:
    keyring = Keyring(setting.settings, setting.keys)
    gate = Gate(lambda: setting.directory, keyring, lambda: NOW)
    with pytest.raises(KeyMissing):
        gate.admit(setting.signed())
    assert (await gate.let_in(setting.signed())).owner == "AKADA"
    assert gate.admit(setting.signed()).owner == "AKADA"


async def test_who_was_forgotten_is_let_in_no_more(setting: Setting) -> None:
    keyring = Keyring(setting.settings, setting.keys)
    gate = Gate(lambda: setting.directory, keyring, lambda: NOW)
    assert (await gate.let_in(setting.signed())).owner == "AKADA"
    await keyring.forget("user-ada")
    with pytest.raises(Problem) as refused:
        await gate.let_in(setting.signed())
    assert refused.value.kind == "signature-mismatch"
    assert (await gate.let_in(setting.signed("eve"))).owner == "AKEVE"


async def test_nothing_but_the_public_paths_is_open(world: World) -> None:
    async with world.anonymous() as nobody:
        for path in ("/", "/v7", "/health", "/ready", "/metrics", "/openapi.json", "/asyncapi.json", "/docs"):
            assert (await nobody.get(path)).status_code == 200, path
        for path in ("/session/x", "/v7/session/x", "/v7/v7/session", "/refold/commands/x", "/nothing"):
            answer = await nobody.get(path)
            assert answer.status_code == 401, path
            assert answer.json()["type"].endswith("/authorization-missing")
        for path in ("/session", "/refold/commands", "/session/x/rename"):
            assert (await nobody.post(path, json={})).status_code == 401
        assert (await nobody.get("/refold/status")).status_code == 200, "from the same machine"
        from_afar = await nobody.get("/refold/status", headers={"X-Forwarded-For": "127.0.0.1"})
        assert from_afar.status_code == 401, "through a proxy on this machine"


async def test_our_own_client_signs_its_body(world: World) -> None:
    auth = KeypairAuth("AKADA", "not her secret")
    async with world.client() as ada, httpx.AsyncClient(base_url=world.url, auth=auth) as mallory:
        assert (await ada.get("/manager/announcement")).json() == {"enabled": False, "message": ""}
        assert (await mallory.get("/manager/announcement")).status_code == 401


async def test_the_version_is_told_to_anybody(world: World) -> None:
    async with world.anonymous() as nobody:
        assert (await nobody.get("/")).json() == {"version": "v7.20230615", "manager": "23.09.10"}
        assert (await nobody.get("/v6")).json()["version"].startswith("v6.")
        for none in ("/v99", "/v840259693", "/v" + "9" * 5000):
            assert (await nobody.get(none)).status_code == 404
