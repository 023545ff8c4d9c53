"""Starts a program that cannot outlive the process which started it, not even if that one is killed with -9.

    python -I -S leash.py <parent pid> <signal> <user or -> <program> [argument...]

Linux sends a signal to a child whose parent died (PR_SET_PDEATHSIG). It has to be asked for inside the child, after
the user was changed (that clears it) and before the program starts. A `preexec_fn` would be the usual place, but it
runs Python between fork and exec in a process that has threads, which can deadlock. So this small program is started
instead, asks, and then becomes the program. It must be started from a thread that stays: the kernel's "parent" is the
thread. Elsewhere than on Linux this only becomes the program.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Becomes the program in argv; returns never."""
    parent, orphan_signal, user, *argv = sys.argv[1:]
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        _become(user)
        libc.prctl(PR_SET_PDEATHSIG, int(orphan_signal), 0, 0, 0)
        if os.getppid() != int(parent):  # it died before the request: nobody will send the signal
            os.kill(os.getpid(), signal.SIGKILL)
    else:
        _become(user)
    os.execvp(argv[0], argv)


def _become(user: str) -> None:
    if user == "-":
        return
    import pwd

    entry = pwd.getpwnam(user)
    os.setgroups([])
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)
    os.environ["HOME"] = entry.pw_dir


if __name__ == "__main__":
    main()
