"""An api that starts before the servers it needs."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from pydantic import SecretStr

from api.app import make_app
from infra import postgres
from infra.embedded.folder import ports
from infra.secrets import new_key
from infra.settings import Settings
from tests.api.world import serving

pytestmark = pytest.mark.cluster


async def test_an_api_without_a_database_listens_and_says_503_until_it_answers(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "_CONNECT_SECONDS", 0.5)
    there, port = conninfo_to_dict(database), ports(tmp_path, "late", "kafka")
    late = make_conninfo(database, host="127.0.0.1", port=port["late"])
    settings = Settings.model_validate(
        {
            "database": SecretStr(late),
            "kafka": f"127.0.0.1:{port['kafka']}",
            "master_key": new_key(),
            "internal_key": new_key(),
        }
    )
    async with serving(make_app(settings)) as url, httpx.AsyncClient(base_url=url, timeout=10) as nobody:
        assert (await nobody.get("/health")).status_code == 200
        assert await _missing(nobody) == "the database has not answered yet"
        async with _forwarding(port["late"], str(there["host"]), int(there["port"] or 5432)), asyncio.timeout(20):
            while (missing := await _missing(nobody)) == "the database has not answered yet":
                await asyncio.sleep(0.05)
        assert missing == "the directory has not been read yet", "then it is the log that is missing"
        assert await _missing(nobody) == missing, "a database that has gone again is no reason not to be asked"


async def _missing(nobody: httpx.AsyncClient) -> str:
    answer = await nobody.get("/ready")
    assert answer.status_code == 503
    return str(answer.json()["detail"])


@asynccontextmanager
async def _forwarding(port: int, host: str, to: int) -> AsyncIterator[None]:
    """Whoever comes to the port is led to the other one, until the block ends."""
    writers: list[asyncio.StreamWriter] = []

    async def lead(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection(host, to)
        writers.extend((writer, there_writer))
        await asyncio.gather(_copy(reader, there_writer), _copy(there_reader, writer), return_exceptions=True)

    async with await asyncio.start_server(lead, "127.0.0.1", port):
        yield
        for writer in writers:
            writer.close()
        await asyncio.gather(*(writer.wait_closed() for writer in writers), return_exceptions=True)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
    writer.close()
