"""The runner (`agents/runner`) in kernels that are processes of the host.

It is run by the agent's own Python or, where the kernels' users may not use that (it lies in somebody's home), by the
host's. Which of them is tried out once. A host where neither can run it has kernels without a runner.

They have no sshd: their users have no name and no shell on this host, and its ports are everybody's.
"""

import asyncio
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import structlog

from agents.given.injection import SOCKET_NAME, Places, Sockets, answered, install, looking, runner_command

LOOK_SECONDS_MAX: Final = 20.0

_log = structlog.get_logger("agents")


class ProcessInjection:
    """For the kernels below one folder, which their users can reach. `path`: where they look for programs."""

    def __init__(self, folder: Path, path: str) -> None:
        self.sockets = Sockets(folder / "sockets")
        self._codes = folder / "code"
        self._path = path
        self._looking = asyncio.Lock()
        self._found: tuple[str, Path] | None = None
        self._looked = False

    async def find(self, uid: int | None) -> tuple[str, Path] | None:
        """A Python that this user can run the runner with, and its code; None if there is none."""
        async with self._looking:
            if not self._looked:
                self._found = await asyncio.to_thread(self._find, uid)
                self._looked = True
        return self._found

    def _find(self, uid: int | None) -> tuple[str, Path] | None:
        code = install(self._codes)
        for candidate in (sys.executable, shutil.which("python3", path=self._path)):
            if candidate and (python := _try(candidate, code, uid)):
                return python, code
        _log.warning("no Python here can be used by kernels, so they have no runner")
        return None

    def command(
        self,
        found: tuple[str, Path],
        kernel_id: str,
        incarnation: int,
        uid: int | None,
        home: Path,
        config: Path,
        command: Sequence[str] | None,
    ) -> Sequence[str]:
        """What the kernel's first process is."""
        python, code = found
        socket = self.sockets.make(kernel_id, incarnation, None if uid is None else (uid, uid)) / SOCKET_NAME
        return runner_command(python, Places(str(code), str(socket), str(home), str(config)), {}, command)


def _try(python: str, code: Path, uid: int | None) -> str | None:
    try:
        tried = subprocess.run(
            looking(python, str(code)),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            cwd="/",
            env={},
            timeout=LOOK_SECONDS_MAX,
            check=False,
            user=uid,
            group=uid,
            extra_groups=None if uid is None else (),
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return None if tried.returncode else answered(tried.stdout.decode(errors="replace"))
