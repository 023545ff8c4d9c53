"""Query mode, the interpreter's side. Runs in a process of its own, in the Python of the session.

Everything here happens in the user's interpreter, so it takes care to be unseen: no name of ours is left in
`sys.modules` or `__main__`, no frame of ours in a traceback.
"""

from __future__ import annotations
import __future__

import ast
import builtins
import getpass
import io
import linecache
import os
import rlcompleter
import signal
import subprocess
import sys
import traceback
import types
from typing import Any

from . import display
from .channel import Asked, Channel, Typed, text_stream

OURS = os.path.dirname(os.path.abspath(__file__)) + os.sep
FEATURES = sum(getattr(__future__, name).compiler_flag for name in __future__.all_feature_names)
TOKEN = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.")


class Session:
    """The user's `__main__`, and what is run in it."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._pid = os.getpid()
        self._flags = 0
        self._module = types.ModuleType("__main__")
        self._module.__dict__["__builtins__"] = builtins
        sys.modules["__main__"] = self._module
        self._shown = display.Display(lambda kind, content: channel.send({"show": [kind, content]}))
        sys.displayhook = self._shown.echo

    def run(self, code: str, name: str) -> None:
        """To its end, whatever that is; what went wrong is printed."""
        linecache.cache[name] = (len(code), None, code.splitlines(keepends=True), name)
        signal.signal(signal.SIGINT, self._channel.interrupt)
        try:
            try:
                self._channel.interruptible = True
                self._channel.send({"began": True})
                self._execute(code, name)
                self._shown.flush_figures()
            finally:
                self._channel.interruptible = False
        except SystemExit as exit_wanted:
            if exit_wanted.code is not None and not isinstance(exit_wanted.code, int):
                print(exit_wanted.code, file=sys.stderr)
        except BaseException as error:
            self._complain(error)
        signal.signal(signal.SIGINT, self._channel.interrupt)
        self._shown.forget_figures()
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOBase):
                _quietly(stream.flush)
        if os.getpid() != self._pid:
            os._exit(0)  # a fork that ran out of its code: it is not the one that answers

    def complete(self, code: str) -> list[str]:
        """Ways on from the last name in the code."""
        start = len(code)
        while start and (code[start - 1] in TOKEN or code[start - 1] > "\x7f"):
            start -= 1
        if start == len(code):
            return []
        completer = rlcompleter.Completer(self._module.__dict__)
        found: list[str] = []
        try:
            try:
                self._channel.interruptible = True
                while True:
                    match = completer.complete(code[start:], len(found))
                    if match is None:
                        return found
                    found.append(match.rstrip(" :()"))  # what rlcompleter adds for a terminal
            finally:
                self._channel.interruptible = False
        except BaseException:  # also a property's sys.exit(): completing never does harm
            return found

    def _execute(self, code: str, name: str) -> None:
        tree = compile(code, name, "exec", self._flags | ast.PyCF_ONLY_AST, dont_inherit=True)
        last: list[ast.stmt] = tree.body[-1:] if tree.body and isinstance(tree.body[-1], ast.Expr) else []
        tree.body = tree.body[: len(tree.body) - len(last)]
        for part, mode in ((tree, "exec"), (ast.Interactive(last), "single")):
            if part.body:
                compiled = compile(part, name, mode, self._flags, dont_inherit=True)
                self._flags |= compiled.co_flags & FEATURES  # `from __future__ import …` holds from now on
                exec(compiled, self._module.__dict__)

    def _complain(self, error: BaseException) -> None:
        if sys.excepthook is not sys.__excepthook__:
            try:
                sys.excepthook(type(error), error, _theirs(error.__traceback__))
                return
            except BaseException as broken:
                error = broken
        try:
            # Limits keep a deep recursion readable: Python itself folds what repeats.
            about = traceback.TracebackException(type(error), error, error.__traceback__)
            _without_ours(about, set())
            text = "".join(about.format())
        except BaseException as broken:
            text = f"{type(error).__name__} (and its traceback cannot be shown: {type(broken).__name__})\n"
        _quietly(lambda: sys.stderr.write(text))


def main() -> None:
    """Until the runner is gone. The last arguments: where requests come from, where replies go."""
    requests, replies = map(int, sys.argv[-2:])
    for file in (requests, replies):
        os.set_inheritable(file, False)
    sys.argv[:] = [""]
    channel = Channel(replies)
    asked = Asked(requests, channel)
    sys.stdout, sys.stderr = text_stream(1, channel), text_stream(2, channel)
    for name in ("stdout", "stderr"):
        setattr(sys, f"__{name}__", getattr(sys, name))
    sys.stdin = Typed(asked)
    builtins.input = asked.input
    getpass.getpass = asked.getpass
    os.system = channel.settle_before(os.system)
    popen: Any = subprocess.Popen
    if hasattr(popen, "_execute_child"):  # the one place where it starts a program, in all versions so far
        popen._execute_child = channel.settle_before(popen._execute_child)
    os.register_at_fork(before=channel.settle)
    session = Session(channel)
    package = __name__.rpartition(".")[0]
    for name in [name for name in sys.modules if name == package or name.startswith(package + ".")]:
        del sys.modules[name]
    channel.send({"ready": True})
    while True:
        message = asked.request()
        if "run" in message:
            session.run(message["run"], message["name"])
            channel.send({"ended": True})
        elif "complete" in message:
            channel.send({"completions": session.complete(message["complete"])})


def _theirs(trace: types.TracebackType | None) -> types.TracebackType | None:
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(OURS):
        trace = trace.tb_next
    return trace


def _without_ours(about: traceback.TracebackException, seen: set[int]) -> None:
    if id(about) in seen:
        return
    seen.add(id(about))
    about.stack[:] = [frame for frame in about.stack if not frame.filename.startswith(OURS)]
    for other in (about.__cause__, about.__context__, *(getattr(about, "exceptions", None) or ())):
        if other is not None:
            _without_ours(other, seen)


def _quietly(action: Any) -> None:
    try:
        action()
    except BaseException:  # the program closed its own stdout, say
        return
