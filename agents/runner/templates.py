"""The small language of service definitions: texts with `{names}` in them, and actions before the start.

    {ports[0]}  {runtime_path}  {ref}  {ref[out]}     {{ and }} are the braces themselves

An action is `{"action": …, "args": {…}, "ref": …}`; `ref` names a variable that holds what it returned.

    write_file      filename, body, mode, append   nothing
    write_tempfile  body, mode                     the path of the new file
    mkdir           path                           nothing
    run_command     command                        {out, err}
    log             body, debug                    nothing

Model definitions spell some of it differently: `message` for a log's `body`, `arg/filename`, arguments beside
the action instead of under `args`, a body that is one text. Both spellings are understood.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

from .failures import CannotRun, Failure
from .processes import Processes, Pump, close_all

COMMAND_SECONDS_MAX = 60.0  # an action must return quickly; what takes long has to go to the background
OUTPUT_BYTES_MAX = 1024 * 1024
IN_SCRIPT = re.compile(r"(?<!\$)\{([a-z_][a-z0-9_]*(?:\[[a-z0-9_]+\])?)\}", re.IGNORECASE)


def fill(text: str, variables: Mapping[str, Any]) -> str:
    """The text with its variables filled in."""
    try:
        return text.format_map(variables)
    except (KeyError, IndexError) as error:
        raise Failure("bad-definition", f"{text!r}: there is no variable {error}") from None
    except (ValueError, TypeError, AttributeError) as error:
        raise Failure("bad-definition", f"{text!r}: {error}") from None


def fill_script(script: str, variables: Mapping[str, Any]) -> str:
    """A shell script has braces of its own, so only names that are known are filled in, and never `${name}`."""

    def known(found: re.Match[str]) -> str:
        name = found.group(1)
        return fill(found.group(0), variables) if name.partition("[")[0] in variables else found.group(0)

    return IN_SCRIPT.sub(known, script)


class Actions:
    """Carries out the actions of one definition, one after the other."""

    def __init__(
        self, processes: Processes, folder: str, variables: dict[str, Any], environ: Mapping[str, str], mode: str
    ) -> None:
        self._processes = processes
        self._folder = folder
        self._variables = variables
        self._environ = environ
        self._mode = mode  # of files, where an action names none

    async def carry_out(self, action: Any) -> None:
        """Leaves what it returned under its `ref`."""
        if not isinstance(action, dict):
            raise Failure("bad-definition", f"{action!r}: an action is an object")
        args = action.get("args", action)
        if not isinstance(args, dict):
            raise Failure("bad-definition", f"{action!r}: args is an object")
        args = {name.partition("/")[2] or name: value for name, value in args.items()}
        name = action.get("action")
        try:
            returned = await self._carry_out(str(name), args)
        except OSError as error:
            raise Failure("prestart-failed", f"{name}: {error.filename or ''} {error.strerror or error}") from None
        except KeyError as error:
            raise Failure("bad-definition", f"{name}: {error} is missing") from None
        if action.get("ref"):
            self._variables[str(action["ref"])] = returned

    async def _carry_out(self, name: str, args: Mapping[str, Any]) -> Any:
        if name == "write_file":
            path = os.path.join(self._folder, fill(str(args["filename"]), self._variables))
            return self._write(path, args, "ab" if args.get("append", False) else "wb")
        if name == "write_tempfile":
            file, path = tempfile.mkstemp(suffix=".py", prefix="refold-")
            os.close(file)
            self._write(path, args, "wb")
            return path
        if name == "mkdir":
            return os.makedirs(os.path.join(self._folder, fill(str(args["path"]), self._variables)), exist_ok=True)
        if name == "run_command":
            return await self._run(self._words(args["command"]))
        if name == "log":
            text = fill(str(args["body"] if "body" in args else args["message"]), self._variables)
            return log(text, debug=bool(args.get("debug", False)))
        raise Failure("bad-definition", f"there is no action {name!r}")

    def _write(self, path: str, args: Mapping[str, Any], how: str) -> None:
        body = args["body"]
        lines = body if isinstance(body, list) else [body]
        text = "\n".join(fill(str(line), self._variables) for line in lines)
        try:
            mode = int(str(args.get("mode", self._mode)), 8) & 0o777
        except ValueError:
            raise Failure("bad-definition", f"mode {args['mode']!r}: is no octal number") from None
        with open(path, how) as file:
            file.write(text.encode())
            os.fchmod(file.fileno(), mode)

    def _words(self, command: Any) -> Sequence[str]:
        if not isinstance(command, list) or not command:
            raise Failure("bad-definition", f"{command!r}: a command is a list of words")
        return [fill(str(word), self._variables) for word in command]

    async def _run(self, command: Sequence[str]) -> Mapping[str, str]:
        out, stdout = os.pipe()
        err, stderr = os.pipe()
        try:
            process = self._processes.start(
                command, folder=self._folder, environ=self._environ, stdout=stdout, stderr=stderr
            )
        except CannotRun as failure:
            close_all((out, err))
            raise Failure("prestart-failed", failure.why) from None
        finally:
            close_all((stdout, stderr))
        printed, complained = bytearray(), bytearray()
        pumps = [Pump(out, _keep(printed)), Pump(err, _keep(complained))]
        await asyncio.wait({process.ended}, timeout=COMMAND_SECONDS_MAX)
        if process.lives:
            process.signal_group(9)
            await process.ended
        for pump in pumps:
            pump.drain()
            pump.sink = _nowhere  # of a daemon that kept its output open
        if process.ended.result() != 0:
            log(f"{command[0]} ended with exit code {process.ended.result()}: {complained.decode(errors='replace')}")
        return {"out": printed.decode(errors="replace"), "err": complained.decode(errors="replace")}


def log(text: str, *, debug: bool = False) -> None:
    """A line in the kernel's own log."""
    sys.stderr.write(f"{'DEBUG' if debug else 'INFO'} {text}\n")
    sys.stderr.flush()


def _keep(buffer: bytearray) -> Any:
    def keep(data: bytes) -> None:
        buffer.extend(data[: OUTPUT_BYTES_MAX - len(buffer)])

    return keep


def _nowhere(data: bytes) -> None:
    """Nobody wants it any more."""
