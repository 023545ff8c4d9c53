"""The image that sessions start from where there is no registry: a small Debian with Python and a user `work` (1000).

Made once with debootstrap, kept as a tar file, and made anew when the recipe is another one.
"""

import contextlib
import os
import shutil
import zlib
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from infra.embedded import debian
from infra.embedded.folder import CannotStart

NAME = "refold/base:1"
_PACKAGES = ("python3",)  # the full one: runners (`agents/runner`) need the whole standard library
_USER = {"etc/passwd": "work:x:1000:1000::/home/work:/bin/bash\n", "etc/group": "work:x:1000:\n"}
_CONFIG = (
    "USER 1000:1000",
    "WORKDIR /home/work",
    f"ENV PATH=/usr/local/sbin:/usr/local/bin:{debian.PATH}",
    'CMD ["sleep", "infinity"]',
)
_NEVER_IN_IMAGE = ("var/cache/apt/archives/*.deb", "var/lib/apt/lists/*", "var/log/*.log")


async def have(docker: Callable[..., Awaitable[str]], kept: Path, work: Path, log: Path) -> str:
    """Its name, once the engine has it. `docker`: runs that program with these arguments; `kept`: folder of the tar;
    `work`: folder of the image's files while it is made. Raises CannotStart."""
    recipe = f"{zlib.crc32(repr((_PACKAGES, _USER, _CONFIG)).encode()):08x}"
    label = f"refold.recipe={recipe}"
    if (await docker("images", "-q", "--filter", f"label={label}", NAME)).strip():
        return NAME
    tar = kept / f"base-{recipe}.tar"
    if not tar.exists():
        await _make(tar, work / "base", log)
    with debian.step("Importing the base image"):
        changes = [word for line in (*_CONFIG, f"LABEL {label}") for word in ("--change", line)]
        await docker("import", *changes, str(tar), NAME)
    return NAME


async def _make(tar: Path, root: Path, log: Path) -> None:
    tar.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(root, ignore_errors=True)
    with debian.step("Making the base image (once, about a minute)"):
        await debian.run(
            log,
            *("debootstrap", "--variant=minbase", f"--include={','.join(_PACKAGES)}"),
            *(_codename(), str(root), *(await _mirror(log))),
        )
        _furnish(root)
        draft = tar.with_suffix(".draft")
        await debian.run(log, "tar", "-C", str(root), "--numeric-owner", "-cf", str(draft), ".")
        for outdated in tar.parent.glob("base-*.tar"):
            outdated.unlink()
        draft.replace(tar)
        shutil.rmtree(root)


def _furnish(root: Path) -> None:
    """Takes out what is only there for installing, and lets the user in."""
    for pattern in _NEVER_IN_IMAGE:
        for path in root.glob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for name, line in _USER.items():
        with (root / name).open("a") as file:
            file.write(line)
    home = root / "home/work"
    home.mkdir(mode=0o755)
    os.chown(home, 1000, 1000)


async def _mirror(log: Path) -> Sequence[str]:
    """The archive this host installs from; none, for debootstrap's own choice, if apt does not say."""
    wanted = ("Created-By: Packages", f"Codename: {_codename()}", "Origin: Debian", "Component: main")
    with contextlib.suppress(CannotStart):
        return (await debian.run(log, "apt-get", "indextargets", "--format", "$(REPO_URI)", *wanted)).split()[:1]
    return ()


def _codename() -> str:
    lines = Path("/etc/os-release").read_text().splitlines()
    return next(line.partition("=")[2].strip('"') for line in lines if line.startswith("VERSION_CODENAME="))
