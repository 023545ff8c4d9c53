"""The service `sshd`: logins, sftp, scp and forwarded ports, by keys alone, for the kernel's user.

Whoever listens here is the runner. For each connection it starts an sshd of its own (`-i`, on the connection), so that
nobody pays for one that is not used. They need no privileges: there is but one user to log in as.

Whoever logs in finds the kernel's own environment: what its devices are, and where the other kernels.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
from contextlib import suppress

from .failures import CannotRun, Failure
from .processes import Process, Processes
from .templates import log

CONNECTIONS_MAX = 64
BACKLOG = 64
HELPERS = (("SshdSessionPath", "sshd-session"), ("SshdAuthPath", "sshd-auth"))  # where OpenSSH has them apart
SHELLS_OWN = ("PWD", "OLDPWD", "SHLVL", "_", "TERM", "HOME", "USER", "LOGNAME", "SHELL", "MAIL")


class Sshd:
    """`kit`: folder of OpenSSH's programs; `config`: of the keys; `scratch`: which only the kernel's user may enter."""

    def __init__(self, processes: Processes, kit: str, config: str, scratch: str) -> None:
        self._processes = processes
        self._kit = kit
        self._keys = os.path.join(config, "ssh")
        self._settings = os.path.join(scratch, "sshd_config")
        self._listening: socket.socket | None = None
        self._connections: dict[int, Process] = {}

    async def start(self, port: int) -> None:
        """Listens when it returns, as long as the kernel lives."""
        if self._listening is not None:
            return
        self._write_settings()
        try:
            listening = socket.create_server(("", port), backlog=BACKLOG, reuse_port=False)
        except OSError as error:
            raise Failure("service-died", f"sshd cannot listen on port {port}: {error.strerror}") from None
        listening.setblocking(False)
        self._listening = listening
        asyncio.get_event_loop().add_reader(listening.fileno(), self._accept)

    async def stop(self) -> None:
        """Ends every connection; the next one is as good as ever."""
        for process in list(self._connections.values()):
            process.signal_group(signal.SIGTERM)

    def _accept(self) -> None:
        assert self._listening is not None
        try:
            connection, _ = self._listening.accept()
        except OSError:
            return  # it has gone already, or there are too many files open
        with connection:
            if len(self._connections) >= CONNECTIONS_MAX:
                return
            command = [os.path.join(self._kit, "bin", "sshd"), "-i", "-f", self._settings]
            try:
                process = self._processes.start(
                    command,
                    folder="/",
                    stdin=connection.fileno(),
                    stdout=connection.fileno(),
                    stderr=subprocess.DEVNULL,
                )
            except CannotRun as failure:
                log(failure.why)
                return
        self._connections[process.pid] = process
        process.ended.add_done_callback(lambda _: self._connections.pop(process.pid, None))

    def _write_settings(self) -> None:
        if not os.path.exists(os.path.join(self._keys, "host_key")):
            raise Failure("unknown-service", "this kernel was given no keys, so it has no sshd")
        lines = [
            f"HostKey {self._keys}/host_key",
            f"AuthorizedKeysFile {self._keys}/authorized_keys .ssh/authorized_keys",
            "AuthenticationMethods publickey",
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            "Subsystem sftp internal-sftp",
            "PidFile none",
            "PrintMotd no",
            "PrintLastLog no",
            "UseDNS no",
            "AcceptEnv LANG LC_*",
        ]
        for name, program in HELPERS:
            path = os.path.join(self._kit, "bin", program)
            if os.path.exists(path):
                lines.append(f"{name} {path}")
        variables = [_quoted(f"{name}={value}") for name, value in os.environ.items() if _can_be_told(name, value)]
        if variables:
            lines.append(f"SetEnv {' '.join(variables)}")  # only the first such line counts
        with suppress(FileNotFoundError):
            os.unlink(self._settings)
        file = os.open(self._settings, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(file, "w", encoding="utf-8", errors="surrogateescape") as written:
            written.write("\n".join(lines) + "\n")


def _can_be_told(name: str, value: str) -> bool:
    """Not what each login has of its own, and no line breaks: a setting is one line."""
    return name not in SHELLS_OWN and "\n" not in value and "\r" not in value


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
