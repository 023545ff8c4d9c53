"""The public client in its session mode: it signs in with a password, and its cookie does what a keypair does."""

import json
from dataclasses import replace
from pathlib import Path

import pyotp
import pytest

from tests.client.conftest import Client
from tests.stack import Stack

pytestmark = [pytest.mark.cluster, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(900)]

IMAGE = "fake/image"


@pytest.fixture(scope="module")
def browser(client: Client, tmp_path_factory: pytest.TempPathFactory) -> Client:
    """The client without any keypair."""
    home = tmp_path_factory.mktemp("session-mode")
    environment = {name: text for name, text in client.environment.items() if not name.endswith("_KEY")}
    return replace(client, environment=environment | {"BACKEND_ENDPOINT_TYPE": "session", "HOME": str(home)}, home=home)


def _state(browser: Client) -> Path:
    return browser.home / ".local/state/backend.ai"


async def test_signing_in_and_out(browser: Client, stack: Stack) -> None:
    refused = await browser.run("login", typed=f"{stack.admin.email}\nwrong\n", ends_with=1)
    assert "Login failed." in refused
    assert "The user name or the password is wrong" in refused
    assert "401" in await browser.run("rm", "websess", ends_with=1)

    told = await browser.run("login", typed=f"{stack.admin.email}\n{stack.admin.password}\n")
    assert "Login succeeded." in told
    assert "is created and ready" in await browser.run("session", "create", "--name", "websess", IMAGE)
    assert "websess" in await browser.run("ps")
    assert "Done." in await browser.run("rm", "websess")

    cookie = (_state(browser) / "cookie.dat").read_bytes()
    assert "Logout done." in await browser.run("logout")
    (_state(browser) / "cookie.dat").write_bytes(cookie)
    assert "401" in await browser.run("rm", "websess", ends_with=1), "what it held before is worth nothing now"


async def test_a_one_time_password_is_asked_for(browser: Client, stack: Stack) -> None:
    async with stack.client() as admin:
        totp = pyotp.TOTP((await admin.post("/totp")).json()["totp_key"])
        stack.secrets.add(totp.secret)
        assert (await admin.post("/totp/verify", json={"otp": totp.now()})).status_code == 200
    typed = f"{stack.admin.email}\n{stack.admin.password}\n{totp.now()}\n"
    told = await browser.run("login", typed=typed)
    assert "One-time Password:" in told
    assert "Login succeeded." in told
    assert json.loads((_state(browser) / "config.json").read_text()) == {"username": stack.admin.email}
