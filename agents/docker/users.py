"""Who there is in a container: the users of its image, and `work`, under whose id the kernel runs. Pure.

Programs look their user up: a login needs a name and a shell for its id, and so do `whoami` and `ssh`.
"""

from typing import Final

NAME: Final = "work"
_ROOT: Final = "root:x:0:0:root:/root:/bin/sh"
_ROOT_GROUP: Final = "root:x:0:"


def passwd(of_image: str, user: int, group: int, home: str, shell: str) -> str:
    """`/etc/passwd`. Who has the name, or the id, in the image gives it up."""
    others = [line for line in _lines(of_image, _ROOT) if line[0] != NAME and line[2] != str(user)]
    return _text([*others, [NAME, "x", str(user), str(group), NAME, home, shell]])


def group(of_image: str, group_id: int) -> str:
    """`/etc/group`. A group that has the id already keeps its name."""
    lines = _lines(of_image, _ROOT_GROUP)
    if any(line[2] == str(group_id) for line in lines):
        return _text(lines)
    return _text([*(line for line in lines if line[0] != NAME), [NAME, "x", str(group_id), ""]])


def _lines(text: str, least: str) -> list[list[str]]:
    """The fields of each line that is one."""
    lines = [fields for line in text.splitlines() if len(fields := line.split(":")) > 3]
    return lines or [least.split(":")]


def _text(lines: list[list[str]]) -> str:
    return "".join(":".join(line) + "\n" for line in lines)
