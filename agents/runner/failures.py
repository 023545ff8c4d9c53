"""Why a request was not carried out. The code is for programs, the sentence for people; both are part of the
protocol.

    Failure
    ├── BadRequest       the request breaks a rule of the protocol; says which field and which rule
    └── CannotRun        a program could not be started; `.exit_code` is the shell's word for it (126 or 127)
"""

from __future__ import annotations

import errno

CODES = {
    errno.ENOENT: ("no-such-path", "there is no such path"),
    errno.ENOTDIR: ("not-a-folder", "a part of the path is not a folder"),
    errno.EISDIR: ("is-a-folder", "it is a folder"),
    errno.ELOOP: ("changed", "it became a link while it was looked at"),
    errno.EACCES: ("forbidden", "the session's user may not do that"),
    errno.EPERM: ("forbidden", "the session's user may not do that"),
    errno.EROFS: ("forbidden", "the file system is read-only"),
    errno.ENOSPC: ("no-space", "no space is left"),
    errno.EDQUOT: ("no-space", "the quota is used up"),
    errno.ENAMETOOLONG: ("name-too-long", "a name in the path is too long"),
}


class Failure(Exception):
    """The answer to a request that was not carried out."""

    def __init__(self, code: str, why: str) -> None:
        super().__init__(why)
        self.code = code
        self.why = why


class BadRequest(Failure):
    """The request is at fault, whatever the state of the runner."""

    def __init__(self, field: str, rule: str) -> None:
        super().__init__("bad-request", f"{field}: {rule}")


class CannotRun(Failure):
    """As a shell would put it: 127 where there is no such program, 126 where it cannot be run."""

    def __init__(self, program: str, error: OSError) -> None:
        self.exit_code = 127 if isinstance(error, FileNotFoundError) else 126
        super().__init__("cannot-run", f"{program}: {error.strerror or error}")


def of_system(error: OSError, path: str) -> Failure:
    """What the operating system said about a path, in the words of the protocol."""
    code, why = CODES.get(error.errno or 0, ("failed", str(error.strerror or error)))
    return Failure(code, f"{path}: {why}")
