"""Folders that a session asks for: which, where they go, and what is to be done in them.

One is meant by its name or its id. Both may be followed by a path in it, and that by where it goes: `data`,
`data/train:inputs`, `6f0c…:/models`. Where and how can also be said in `mount_map` and `mount_options`.

Whether they may be had is seen to in `api.sessions.mounting`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from api.http.problems import Problem, invalid
from domain.vfolder.mounts import HOME, Permission

ASKED_MAX: Final = 5
"""Folders that one session may ask for (catalogue VF-2); those that come by themselves are not counted."""

_PATH_MAX: Final = 4096
_TAKEN: Final = frozenset(
    {"bin", "boot", "dev", "etc", "home", "lib", "lib32", "lib64", "libx32"}
    | {"opt", "proc", "root", "run", "sbin", "sys", "usr", "var"}
)
"""What is below these is the image's, or ours; but for the home."""
_TOPS: Final = frozenset(["media", "mnt", "srv", "tmp"])
"""Folders may go below these, and not in their place."""

Path = Annotated[str, Field(max_length=_PATH_MAX)]
Source = Annotated[str, Field(min_length=1, max_length=2 * _PATH_MAX)]


class MountOptions(BaseModel):
    """Of one folder. `permission`: less than what is granted, where that is enough."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["bind"] = "bind"
    permission: Permission | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """`reference`: name or id. `path`: None is into the home, under its name. `field`: where it was asked for."""

    reference: str
    subpath: str
    path: str | None
    permission: Permission | None
    field: str


class AskedMounts(BaseModel):
    """The part of a request that is about folders."""

    mounts: Annotated[list[Source], Field(max_length=64)] | None = Field(
        None, description="Folders, by name or id: `data`, `data/train`, `data:inputs`, `data/train:/inputs`."
    )
    mount_map: Annotated[dict[str, Path | None], Field(max_length=64)] | None = Field(
        None, description="Where they go: relative to /home/work, or absolute."
    )
    mount_ids: Annotated[list[Source], Field(max_length=64)] | None = Field(None, description="The same by ids alone.")
    mount_id_map: Annotated[dict[str, Path | None], Field(max_length=64)] | None = None
    mount_options: Annotated[dict[str, MountOptions | None], Field(max_length=64)] | None = None

    def wanted(self) -> list[Wanted]:
        """Raises `Problem` (400)."""
        options = dict(self.mount_options or {})
        found = [
            *_wanted("config.mounts", self.mounts or [], "config.mount_map", self.mount_map or {}, options),
            *_wanted("config.mount_ids", self.mount_ids or [], "config.mount_id_map", self.mount_id_map or {}, options),
        ]
        if options:
            raise _not_asked("config.mount_options", next(iter(options)))
        if len(found) > ASKED_MAX:
            raise invalid(found[-1].field, "count", f"a session may ask for at most {ASKED_MAX} folders")
        return found


def _wanted(
    field: str,
    sources: Sequence[str],
    map_field: str,
    paths: Mapping[str, str | None],
    options: dict[str, MountOptions | None],
) -> Iterator[Wanted]:
    """Takes from the options what is about these."""
    left = dict(paths)
    for number, source in enumerate(sources):
        here = f"{field}.{number}"
        what, colon, path = source.partition(":")
        reference, _, subpath = what.partition("/")
        if colon and left.get(what):
            raise invalid(here, "placed_twice", f"{map_field} says already where {what} goes")
        path = left.pop(what, None) or path
        option = options.pop(what, None) or MountOptions()
        yield Wanted(
            reference,
            below(subpath, here),
            placed(path, here) if path else None,
            option.permission,
            here,
        )
    if left:
        raise _not_asked(map_field, next(iter(left)))


def below(path: str, field: str) -> str:
    """A path in a folder, in its shortest form. Raises `Problem` (400)."""
    _readable(path, field)
    found = PurePosixPath(path)
    if found.is_absolute() or ".." in found.parts:
        raise invalid(field, "subpath", f"{path[:80]!r} leads out of its folder")
    return "" if found == PurePosixPath() else str(found)


def placed(path: str, field: str) -> str:
    """Where a folder goes in the kernels, in its shortest form. Raises `Problem` (400)."""
    _readable(path, field)
    home, found = PurePosixPath(HOME), PurePosixPath(HOME, path)
    if ".." in found.parts:
        raise invalid(field, "path", f"{path[:80]!r} leads up")
    if found.parts[0] != "/":  # two slashes in front are something else in POSIX
        found = PurePosixPath("/", *found.parts[1:])
    if home in found.parents:
        return str(found)
    top = found.parts[1] if len(found.parts) > 1 else ""
    if found == home or top in _TAKEN or (top in {"", *_TOPS} and len(found.parts) <= 2):
        raise invalid(field, "reserved", f"no folder can go to {found}")
    return str(found)


def refuse_overlaps(paths: Sequence[tuple[str, str]]) -> None:
    """`paths`: each with its field. Raises `Problem` (400) where one goes to where another is, or into it."""
    for number, (path, field) in enumerate(paths):
        for other, _ in paths[:number]:
            if overlap(path, other):
                raise invalid(field, "path_taken", f"one folder goes to {path}, and another one to {other}")


def overlap(path: str, other: str) -> bool:
    """Whether one of them is, or is in, the other."""
    one, two = PurePosixPath(path), PurePosixPath(other)
    return one.is_relative_to(two) or two.is_relative_to(one)


def _readable(path: str, field: str) -> None:
    if not path.isprintable() or len(path) > _PATH_MAX:
        raise invalid(field, "path", f"a path has at most {_PATH_MAX} characters, all of which can be seen")


def _not_asked(field: str, source: str) -> Problem:
    return invalid(f"{field}.{source[:80]}", "not_asked_for", f"no mount is called {source[:80]!r}")
