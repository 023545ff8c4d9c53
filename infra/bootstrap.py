"""Makes the virtual environment from a lock file, then becomes a program in it.

The first thing a newcomer runs, so it needs nothing but Python itself, and says in one sentence what is
missing. The environment is made anew only when the lock file has changed; two programs may ask at once.
There are two lock files: what runs is in the first, and the second has that and what checks and tests need.
Some annotations are in quotes: a Python that is too old must get as far as the sentence that says so.
"""

import contextlib
import fcntl
import hashlib
import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements.lock"
LOCK_OF_TESTS = ROOT / "tests" / "requirements.lock"
PYTHON_MIN = (3, 11)
MARKER = "refold-requirements.sha256"


class CannotPrepare(Exception):
    """Something the user can put right. Its text is the one sentence they are shown."""


def run(module: str, *, tests: bool = False) -> None:
    """Becomes `python -m module` with our own arguments, in the virtual environment; returns never.

    `tests`: that is to have what tests need as well.
    """
    try:
        venv = Path(os.environ.get("REFOLD_VENV") or ROOT / ".venv").absolute()
        python = _ready(venv, (LOCK_OF_TESTS,) if tests else (LOCK, LOCK_OF_TESTS))
    except CannotPrepare as error:
        sys.exit(f"refold: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
    # Not the current folder but ours is searched for modules, wherever the program was called from.
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    os.execv(python, [str(python), "-P", "-m", module, *sys.argv[1:]])


def _ready(venv: Path, locks: "tuple[Path, ...]") -> Path:
    """The Python of an environment that has exactly what one of the lock files says, made of the first if need be."""
    if sys.version_info < PYTHON_MIN:
        needed, found = (".".join(map(str, version[:2])) for version in (PYTHON_MIN, sys.version_info))
        raise CannotPrepare(f"needs Python {needed} or newer, and this is Python {found}")
    python, marker = venv / "bin" / "python", venv / MARKER
    good = [hashlib.sha256(lock.read_bytes()).hexdigest() for lock in locks]
    if _text(marker) in good and _works(python):
        return python
    try:
        venv.parent.mkdir(parents=True, exist_ok=True)
        with _locked(venv.parent, f"waiting for another program that is making {venv}"):
            if _text(marker) not in good or not _works(python):
                marker.unlink(missing_ok=True)
                _make(venv, python, locks[0])
                marker.write_text(good[0])
    except OSError as error:
        raise CannotPrepare(f"cannot make {venv}: {error.strerror}; REFOLD_VENV can name another place") from error
    return python


@contextlib.contextmanager
def _locked(folder: Path, waiting: str) -> "Iterator[None]":
    """Holds a folder against other programs that do the same. The lock is on the folder: it leaves no file behind."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say(waiting)
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _make(venv: Path, python: Path, lock: Path) -> None:
    if not _works(python):
        if importlib.util.find_spec("venv") is None or importlib.util.find_spec("ensurepip") is None:
            raise CannotPrepare(f"{sys.executable} has no venv module (on Debian and Ubuntu: apt install python3-venv)")
        _say(f"making {venv} (once)")
        _command([sys.executable, "-m", "venv", "--clear", str(venv)])
    packages = re.findall(r"^[\w.-]+==", lock.read_text(), re.MULTILINE)
    pip = [
        str(python),
        "-m",
        "pip",
        "--disable-pip-version-check",
        "install",
        "--require-hashes",
        "--no-deps",
    ]
    pip += [
        "--only-binary",
        ":all:",
        "--no-input",
        "--progress-bar",
        "off",
        "--retries",
        "2",
        "-r",
        str(lock),
    ]
    _command(pip, steps=len(packages))


def _command(argv: "list[str]", steps: int = 0) -> None:
    """Runs a program and shows, in one line, how many packages it has got to."""
    output = []
    seen = 0
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, stdout=pipe, stderr=subprocess.STDOUT, text=True, errors="replace") as process:
        for line in process.stdout or ():
            output.append(line)
            if line.startswith("Collecting "):
                seen += 1
                _progress(f"fetching packages: {seen} of {steps}  {line.split()[1]}")
            elif line.startswith("Installing "):
                _progress("installing packages")
    _progress("")
    if process.returncode != 0:
        raise CannotPrepare(_why("".join(output)))


def _why(output: str) -> str:
    """The one sentence for what pip or venv said."""
    if "No space left on device" in output or "Errno 28" in output:
        return "no space left on the disk for the Python packages (1 GB)"
    if re.search(
        r"NewConnectionError|NameResolutionError|ConnectTimeout|Connection (refused|reset)|ProxyError", output
    ):
        return "cannot fetch the Python packages: the package index cannot be reached (no network?)"
    if "THESE PACKAGES DO NOT MATCH THE HASHES" in output:
        return "a package that was fetched is not the one in the lock file (its hash differs)"
    errors = [line for line in output.splitlines() if line.startswith(("ERROR:", "Error:"))]
    last = (errors or output.strip().splitlines() or ["no reason given"])[0]
    return f"cannot install the Python packages: {last.partition(':')[2].strip() or last}"


def _works(python: Path) -> bool:
    """Whether it runs at all: it does not after the Python it was made from was upgraded or removed."""
    try:
        return subprocess.run([str(python), "-c", "import pip"], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _say(text: str) -> None:
    print(f"refold: {text}", file=sys.stderr, flush=True)


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text[:78]}", end="", file=sys.stderr, flush=True)
