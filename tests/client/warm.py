"""The public client, started once: each command is a fork of a process that has imported it already.

What runs is the client's own code in a process of its own, with the environment, folder and standard input of a user;
it spares the second that Python takes to read the client, of which a user of many commands has many.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from tests.client.conftest import Client

_SERVER = """
import json, os, sys, tempfile, traceback
from ai.backend.cli.__main__ import main
import ai.backend.client.session

def commanded(order):
    os.environ.clear()
    os.environ.update(order["environment"])
    os.chdir(order["home"])
    if "script" in order:
        exec(compile(order["script"], "script", "exec"), {"__name__": "__main__"})
    else:
        main(order["arguments"], prog_name="backend.ai")

def forked(order):
    with tempfile.TemporaryFile() as typed, tempfile.TemporaryFile() as said:
        typed.write(order["typed"].encode())
        typed.seek(0)
        child = os.fork()
        if not child:
            for number, file in ((0, typed), (1, said), (2, said)):
                os.dup2(file.fileno(), number)
            os.setsid()  # without a terminal a password is read from where everything else is
            sys.stdin, code = open(0), 0
            try:
                commanded(order)
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else int(bool(end.code))
            except BaseException:
                traceback.print_exc()
                code = 1
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        _, status = os.waitpid(child, 0)
        said.seek(0)
        return {"code": os.waitstatus_to_exitcode(status), "said": said.read().decode()}

for line in sys.stdin:
    print(json.dumps(forked(json.loads(line))), flush=True)
"""
_LINE_BYTES_MAX = 16 * 2**20


@dataclass(frozen=True)
class WarmClient:
    """`backend.ai`, as a user has it, one command after the other."""

    client: Client
    _server: asyncio.subprocess.Process

    @property
    def home(self) -> Path:
        return self.client.home

    def of(self, access_key: str, secret_key: str, home: Path) -> "WarmClient":
        """The same for somebody else, who has a folder of his own."""
        keys = {"BACKEND_ACCESS_KEY": access_key, "BACKEND_SECRET_KEY": secret_key, "HOME": str(home)}
        return replace(self, client=replace(self.client, environment=self.client.environment | keys, home=home))

    async def run(self, *arguments: str, ends_with: int | None = 0, seconds: float = 60, typed: str = "") -> str:
        """What it printed. `ends_with`: the exit code it must have. `typed`: what it reads where it asks."""
        code, said = await self._ask(seconds, arguments=arguments, typed=typed)
        assert ends_with is None or code == ends_with, said
        return said

    async def called(self, script: str, seconds: float = 60) -> str:
        """What a script of his says that uses the client's functions; `s` is its session."""
        lines = "".join(f"    {line}\n" for line in script.strip().splitlines())
        head = "import json\nfrom ai.backend.client.session import Session\nwith Session() as s:\n"
        code, said = await self._ask(seconds, script=head + lines, typed="")
        assert code == 0, said
        return said

    async def _ask(self, seconds: float, **order: object) -> tuple[int, str]:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        whose = {"environment": self.client.environment, "home": str(self.home)}
        self._server.stdin.write(json.dumps(order | whose).encode() + b"\n")
        async with asyncio.timeout(seconds):
            answer = json.loads(await self._server.stdout.readline())
        return answer["code"], answer["said"]


@asynccontextmanager
async def warm(client: Client) -> AsyncIterator[WarmClient]:
    """For the block."""
    process = await asyncio.create_subprocess_exec(
        *(str(client.program.parent / "python"), "-c", _SERVER),
        env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"},
        cwd=client.home,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=_LINE_BYTES_MAX,
    )
    try:
        yield WarmClient(client, process)
    finally:
        process.kill()
        await process.wait()
