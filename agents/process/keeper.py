"""Stands beside one kernel of the process runtime: starts it, keeps its output, writes down how it ended.

The agent runs this file as a program of its own, with the record folder of one incarnation as its argument.
The keeper leaves the agent's process tree at once, so that both it and the kernel outlive the agent, and a
later agent reads from the folder what happened meanwhile:

    task.json     what to run; written by the agent before. But for its environment, which may hold secrets:
                  that comes on stdin, as JSON, and is written nowhere
    lock          locked by the keeper as long as it lives: who holds the lock *is* the keeper (no stale pid)
    running.json  from here on this incarnation counts as run, and no keeper runs it again
    stopping      written by the agent before it sends the keeper SIGTERM: the grace, in seconds
    ended.json    how it ended; synced to disk, then renamed into place

The order is the promise. The kernel's process is forked first but held; then `running.json`; then it is let
go. A keeper that dies before `running.json` has run nothing; one that dies after it takes its kernel along.
Only the standard library is imported here, and of Refold only `agents.output` and `agents.process.mounting`.
"""

import ctypes
import fcntl
import json
import os
import resource
import select
import signal
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime
from math import inf
from pathlib import Path
from typing import Any, NoReturn

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from agents.output import OutputStore, OutputWriter
from agents.process.mounting import mount_folders

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 1, 36, 38
CLONE_NEWUTS, CLONE_NEWIPC = 0x04000000, 0x08000000
READ_BYTES = 65536
FILES_MAX = 1 << 20
libc = ctypes.CDLL(None, use_errno=True)


def write_whole(path: Path, content: dict[str, Any]) -> None:
    """Either the whole file is there afterwards, also after a power cut, or none of it."""
    draft = path.with_suffix(f".{os.urandom(4).hex()}")  # several agents may write at once
    with draft.open("w") as file:
        json.dump(content, file)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def main(record: Path) -> None:
    """Tells the agent one line on stdout: `running <pid>`, `failed <why>`, or `there` if another keeper was
    first."""
    os.closerange(3, FILES_MAX)  # an agent on uvloop lets the ends of its pipes through, and would wait for us for ever
    environ = json.load(sys.stdin)
    agent = os.dup(1)
    if os.fork():
        os._exit(0)
    os.setsid()
    os.chdir("/")
    nothing = os.open(os.devnull, os.O_RDWR)
    complaints = os.open(record / "keeper.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for target, source in ((0, nothing), (1, nothing), (2, complaints)):
        os.dup2(source, target)
    lock = os.open(record / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.write(agent, b"there\n")
        return
    if (record / "running.json").exists() or (record / "stopping").exists():
        os.write(agent, b"there\n")
        return
    Keeper(record, agent, environ).keep()


class Keeper:
    """One kernel from its start to its end."""

    def __init__(self, record: Path, agent: int, environ: dict[str, str]) -> None:
        self.record = record
        self.agent = agent
        self.environ = environ
        self.task: dict[str, Any] = json.loads((record / "task.json").read_text())
        self.exit_code: int | None = None
        self.ended_at = ""
        self.kill_at: float | None = None

    def keep(self) -> NoReturn:
        """The whole story; the process ends with it."""
        libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # what the kernel leaves behind becomes ours to end
        wake, woken = os.pipe()
        os.set_blocking(wake, False)
        os.set_blocking(woken, False)
        signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGCHLD):
            signal.signal(number, lambda _number, _frame: None)
        for number in (signal.SIGHUP, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)

        output = self.start()
        store = OutputStore(Path(self.task["output"]), self.task["output_bytes_max"])
        with store.writer(self.task["kernel_id"], self.task["incarnation"]) as writer:
            self.watch(output, wake, writer)
            self.end_all()
            _copy(output, writer)
        if self.task["cpu_group"]:
            with suppress(OSError):  # the agent tries again
                os.rmdir(self.task["cpu_group"])
        reason = "exited" if self.kill_at is None else "killed"
        end = {"exit_code": self.exit_code, "at": self.ended_at, "reason": reason}
        while True:
            try:
                write_whole(self.record / "ended.json", end)
                os._exit(0)
            except OSError:  # a full disk: the end is told late rather than never
                time.sleep(1)

    def start(self) -> int:
        """Fork, write it down, let go. Returns the reading end of its output."""
        output, printed = os.pipe()
        held, let_go = os.pipe()
        failure, failed = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(let_go)
            self.become(printed, held, failed)
        os.close(printed)
        os.close(held)
        os.close(failed)
        started = {"pid": self.pid, "started_at": datetime.now(UTC).isoformat()}
        write_whole(self.record / "running.json", started)
        os.write(let_go, b"go")
        os.close(let_go)
        if why := os.read(failure, 1000):  # closed without a word by a successful exec
            os.unlink(self.record / "running.json")
            os.write(self.agent, b"failed " + why + b"\n")
            os._exit(1)
        os.write(self.agent, b"running %d\n" % self.pid)
        os.close(self.agent)
        os.set_blocking(output, False)
        return output

    def become(self, printed: int, held: int, failed: int) -> NoReturn:
        """In the child: wait to be let go, take the kernel's limits and user, and turn into its command."""
        task, keeper = self.task, os.getppid()
        try:
            if os.read(held, 2) != b"go":
                os._exit(1)
            os.setsid()
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGTERM, signal.SIGCHLD, signal.SIGHUP, signal.SIGINT, signal.SIGPIPE):
                signal.signal(number, signal.SIG_DFL)
            if os.geteuid() == 0 and libc.unshare(CLONE_NEWUTS | CLONE_NEWIPC) == 0:
                with suppress(OSError):  # a name of its own is a courtesy, not a promise
                    libc.sethostname(task["hostname"].encode(), len(task["hostname"].encode()))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            if task["cpu_group"]:
                Path(task["cpu_group"], "cgroup.procs").write_text("0")
            if task["cpus"]:
                os.sched_setaffinity(0, task["cpus"])
            mount_folders(task["mounts"], task["home"], task["uid"])
            os.chdir(task["home"])
            if task["uid"] is not None:
                resource.setrlimit(resource.RLIMIT_NPROC, (task["pids_max"],) * 2)
                os.setgroups([])
                os.setgid(task["uid"])
                os.setuid(task["uid"])
            libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)  # after setuid, which would clear it
            if os.getppid() != keeper:
                os._exit(1)
            os.dup2(printed, 1)
            os.dup2(printed, 2)
            if task["mem_bytes"]:
                resource.setrlimit(resource.RLIMIT_DATA, (task["mem_bytes"],) * 2)
            os.execvpe(task["command"][0], task["command"], self.environ)
        except Exception as error:
            os.write(failed, f"{task['command'][0]}: {error}".encode().replace(b"\n", b" "))
        finally:
            os._exit(127)

    def watch(self, output: int, wake: int, writer: OutputWriter) -> None:
        """Until the kernel's first process has ended."""
        poll = select.poll()
        poll.register(wake, select.POLLIN)
        poll.register(output, select.POLLIN)
        while self.exit_code is None:
            self.see_to_stop()
            timeout = None if self.kill_at is None else max(0.1, self.kill_at - time.monotonic()) * 1000
            for file, _event in poll.poll(timeout):
                if file == wake:
                    os.read(wake, READ_BYTES)
                elif _copy(output, writer, reads_max=16):  # a chatty kernel must not keep a stop waiting
                    poll.unregister(output)  # nobody can print any more, though it may run on
            self.reap()

    def see_to_stop(self) -> None:
        """SIGTERM once, SIGKILL when the grace is over. A second stop may shorten the grace."""
        try:
            grace = float((self.record / "stopping").read_text())
        except FileNotFoundError:
            return
        if self.kill_at is None:
            self._signal(signal.SIGTERM)
        kill_at = time.monotonic() + grace
        self.kill_at = kill_at if self.kill_at is None else min(self.kill_at, kill_at)
        if time.monotonic() >= self.kill_at:
            self._signal(signal.SIGKILL)

    def reap(self) -> bool:
        """Collect who has died. False once there are no children left."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self.pid:
                code = os.waitstatus_to_exitcode(status)
                self.exit_code = code if code >= 0 else 128 - code
                self.ended_at = datetime.now(UTC).isoformat()

    def end_all(self) -> None:
        """A kernel is over when its first process is: whatever that left behind, in whatever session, goes
        too."""
        while self.reap():
            for pid in _children():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.005)

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.pid, number)


def _copy(output: int, writer: OutputWriter, reads_max: float = inf) -> bool:
    """Move what was printed into the file. True at the end of it."""
    with suppress(BlockingIOError):
        while reads_max > 0:
            data = os.read(output, READ_BYTES)
            if not data:
                return True
            writer.write(data)
            reads_max -= 1
    return False


def _children() -> list[int]:
    me = os.getpid()
    found = list[int]()
    for name in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):
            after_name = Path(f"/proc/{name}/stat").read_bytes().rpartition(b")")[2].split()
            if int(after_name[1]) == me:
                found.append(int(name))
    return found


if __name__ == "__main__":
    main(Path(sys.argv[1]))
