"""Operations on what is in a folder. They block, take the open folder as a descriptor, and raise `OSError` or
`BadPath`; whatever links there are, nothing outside of the folder is changed.

    Refused        the operation is not for what was found there; `kind` says why
"""

import errno
import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final
from uuid import uuid4

from api.storage.disks import walking
from api.storage.listing import shown
from api.storage.paths import FILE, BadPath, directory, is_directory, last_of, names_of, stat_of
from infra.beneath import make_folders, open_beneath

Owner = tuple[int, int] | None
"""User and group whose new files are; None where this process can give away none."""

_FOLDER_MODE: Final = 0o755
_FILE_MODE: Final = 0o644


class Refused(Exception):
    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(detail)
        self.kind = kind


def make_directory(root: int, path: str, owner: Owner, *, parents: bool, exist_ok: bool) -> bool:
    """Whether it was made now. Raises `FileExistsError` for something else, and without `exist_ok` for a directory."""
    above, name = last_of(path)
    if parents:
        make_parents(root, above, owner)
    with directory(root, above) as folder:
        try:
            _mkdir(folder, name, owner)
        except FileExistsError:
            if exist_ok and is_directory(stat_of(folder, name)):
                return False
            raise
    return True


def make_parents(root: int, names: list[str], owner: Owner) -> None:
    """All directories on that way are there."""
    os.close(make_folders(root, "/".join(names), owner))


def _mkdir(folder: int, name: str, owner: Owner) -> None:
    os.mkdir(name, 0o700 if owner else _FOLDER_MODE, dir_fd=folder)
    if owner:
        made = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        try:
            give(made, owner, _FOLDER_MODE)
        finally:
            os.close(made)


def give(handle: int, owner: Owner, mode: int = _FILE_MODE) -> None:
    """A new file or directory gets the owner and the mode that all have."""
    if owner:
        os.fchown(handle, *owner)
    os.fchmod(handle, mode)


def make_empty(root: int, path: str, uploads: Path, owner: Owner) -> None:
    """An empty file, in the place of one that may be there."""
    made = uploads / str(uuid4())
    handle = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        give(handle, owner)
    finally:
        os.close(handle)
    try:
        put(root, path, made, owner)
    except BaseException:
        made.unlink()
        raise


def put(root: int, path: str, made: Path, owner: Owner) -> None:
    """A whole file gets its place in the folder, over whatever file or link is there; directories on the way are made.

    Raises `Refused` for a directory.
    """
    above, name = last_of(path)
    make_parents(root, above, owner)
    with directory(root, above) as folder:
        try:
            os.rename(made, name, dst_dir_fd=folder)
        except IsADirectoryError:
            raise Refused("is-a-directory", f"{path!r} is a directory") from None
        os.fsync(folder)


def rename(root: int, path: str, new_name: str, *, is_dir: bool | None) -> str:
    """Its path now. Over a file of the new name, or an empty directory. `is_dir`: what it must be, if that is known."""
    above, name = last_of(path)
    target = names_of(new_name, "new_name")
    if target != [new_name]:
        raise BadPath("not_a_name", "new_name is one name, without /", "new_name")
    with directory(root, above) as folder:
        if is_directory(_must(folder, name)) and is_dir is False:
            raise Refused("is-a-directory", f"{path!r} is a directory: say so with is_dir")
        _rename(folder, name, folder, new_name)
    return shown("/".join([*above, *target]))


def move(root: int, source: str, destination: str, owner: Owner) -> str:
    """Its path now: that destination, or in it where it is a directory. Directories on the way there are made; a file
    that is there is replaced."""
    above, name = last_of(source, "src")
    target = names_of(destination, "dst")
    with directory(root, above) as here:
        _must(here, name)
        try:
            os.close(open_beneath(root, "/".join(target), os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC))
            target = [*target, name]
        except (FileNotFoundError, NotADirectoryError):
            make_parents(root, target[:-1], owner)
        with directory(root, target[:-1]) as there:
            _rename(here, name, there, target[-1])
    return shown("/".join(target))


def _rename(here: int, name: str, there: int, new_name: str) -> None:
    try:
        os.rename(name, new_name, src_dir_fd=here, dst_dir_fd=there)
    except OSError as error:
        if error.errno == errno.EINVAL:
            raise Refused("into-itself", "a directory cannot be moved into itself") from None
        raise


def _must(folder: int, name: str) -> os.stat_result:
    found = stat_of(folder, name)
    if found is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
    return found


def take_away(root: int, paths: Iterable[str], uploads: Path, *, recursive: bool) -> list[Path]:
    """Files are gone; directories are in `uploads`, each under a name of its own: `remove` them.

    First all are looked at, so that nothing is deleted where one is not there. Raises `Refused` for a directory
    without `recursive`.
    """
    wanted = [(path, *last_of(path, "files")) for path in paths]
    for path, above, name in wanted:
        with directory(root, above) as folder:
            if is_directory(_must(folder, name)) and not recursive:
                raise Refused("is-a-directory", f"{path!r} is a directory: say recursive to delete it with all in it")
    away: list[Path] = []
    for _, above, name in wanted:
        with suppress(FileNotFoundError), directory(root, above) as folder:  # it went with another of them
            if is_directory(stat_of(folder, name)):
                away.append(uploads / f"{uuid4()}.gone")
                os.rename(name, away[-1], src_dir_fd=folder)
            else:
                os.unlink(name, dir_fd=folder)
    return away


def remove(away: Iterable[Path]) -> None:
    """What was taken away is deleted."""
    for path in away:
        walking.remove(path)


def content(root: int, path: str, max_bytes: int) -> bytes:
    """Of a small file. Raises `Refused` for a larger one and for what is no file."""
    handle = open_file(root, path)
    with os.fdopen(handle, "rb") as file:
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise Refused("too-large", f"{path!r} has more than {max_bytes} bytes")
    return data


def open_file(root: int, path: str) -> int:
    """A descriptor to read it by. Raises `Refused` for what is no file."""
    handle = open_beneath(root, "/".join(names_of(path)), FILE, follow=True)
    its = os.fstat(handle)
    if stat.S_ISREG(its.st_mode):
        return handle
    os.close(handle)
    if stat.S_ISDIR(its.st_mode):
        raise Refused("is-a-directory", f"{path!r} is a directory")
    raise Refused("not-a-file", f"{path!r} is no file")
