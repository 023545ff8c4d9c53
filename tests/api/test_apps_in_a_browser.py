"""Apps of a session in a real browser, through the app proxy: their pages and WebSockets, and what runs behind them."""

import asyncio
import json
import re
import shutil
import sys
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio

from domain.directory.images import ServicePort
from tests.api.apps import WebSession, web_session
from tests.api.kernels import Kernels
from tests.api.world import World

CHROMIUM = shutil.which("chromium")
playwright = pytest.importorskip("playwright.async_api", reason="needs playwright (a dev dependency)")
pytest.importorskip("jupyterlab", reason="needs JupyterLab (a dev dependency)")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's chromium (infra/test --docker installs it)"),
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(300),
]

_SLOW = 120_000  # milliseconds, on a busy machine

FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
"""Root may not sandbox it; and nothing of it asks for hosts elsewhere."""

LAB = {
    "command": [
        *(sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", "--port={ports[0]}"),
        *("--ServerApp.port_retries=0", "--IdentityProvider.token=", "--ServerApp.password="),
        *("--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate", "--LabApp.extension_manager=readonly"),
    ],
}
NOTEBOOK = {
    "cells": [
        {
            "id": "a",
            "cell_type": "code",
            "source": "print(6 * 7)",
            "metadata": {},
            "outputs": [],
            "execution_count": None,
        }
    ],
    "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
    "nbformat": 4,
    "nbformat_minor": 5,
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def session(tmp_path_factory: pytest.TempPathFactory, unused_tcp_port_factory: Any) -> AsyncIterator[WebSession]:
    """With a notebook in its home, and a web terminal on a port that is free here."""
    folder = tmp_path_factory.mktemp("apps")
    terminal = ServicePort("ttyd", "http", unused_tcp_port_factory())
    async with (
        World(folder / "world").started() as world,
        Kernels(world, folder / "kernels").started() as kernels,
        web_session(kernels, folder / "app", unused_tcp_port_factory(), lab=LAB) as opened,
    ):
        home = kernels.runners.of_kernel[opened.session_id].home
        await asyncio.to_thread((home / "first.ipynb").write_text, json.dumps(NOTEBOOK))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("api.sessions.images.INTRINSIC", {"ttyd": terminal})
            yield opened


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser(session: WebSession) -> AsyncIterator[Any]:
    async with session.proxy(proxy_ports="21510-21519"), playwright.async_playwright() as started:
        launched = await started.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        try:
            yield launched
        finally:
            await launched.close()


async def opened(browser: Any, session: WebSession, app: str, path: str = "/") -> Any:
    """A page of it, come to as any client does."""
    told = await session.pass_for(app)
    where = f"/v2/proxy/{told['token']}/{session.session_id}/add"
    async with httpx.AsyncClient(base_url=told["wsproxy_addr"]) as client:
        added = await client.get(where, params={"app": app, "redirect": path})
    page = await browser.new_page()
    await page.goto(added.json()["url"])
    return page


async def test_code_runs_in_a_notebook_of_jupyter(session: WebSession, browser: Any) -> None:
    page = await opened(browser, session, "lab", "/lab/tree/first.ipynb")
    await page.get_by_text("Python 3 (ipykernel) | Idle").wait_for(timeout=_SLOW)  # before that, nothing is run
    await page.locator(".jp-CodeCell .cm-content").first.click(timeout=_SLOW)
    await page.keyboard.press("Shift+Enter")
    await playwright.expect(page.locator(".jp-OutputArea-output").first).to_have_text("42\n", timeout=_SLOW)


async def test_a_shell_runs_in_the_web_terminal(session: WebSession, browser: Any) -> None:
    page = await opened(browser, session, "ttyd")
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    rows = page.locator(".xterm-rows")
    await playwright.expect(rows).to_contain_text(re.compile("[#$]"), timeout=_SLOW)  # its prompt: somebody listens
    await page.locator(".xterm-helper-textarea").focus(timeout=_SLOW)
    await page.keyboard.type("echo $((6 * 7)) | tee seen.txt; ls first.ipynb\n")
    await playwright.expect(rows).to_contain_text("first.ipynb42first.ipynb", timeout=_SLOW)
    assert not [text for text in said if "Content Security Policy" in text]
