"""Services: programs of the image that listen on a port, such as a notebook server. Started when first wanted.

A definition is `<name>.json` in one of the folders given, the first that has it:

    prestart   actions, see `templates.py`
    command    a list of words, or a shell script (its last command best with `exec`)
    env        variables for it, filled in as the words are
    allowed_envs, allowed_arguments, default_arguments    what whoever starts it may say
    url_template                                          where a browser begins; it is for clients

Starting a service that runs is starting it once; one that died is started again the next time it is wanted.
A port that somebody listens on already needs no definition: the user started it, and it is there.

What the runner brings itself is intrinsic (`sshd.py`), and nobody can define it otherwise.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol

from .batch import shell
from .failures import CannotRun, Failure
from .framing import Object
from .processes import Process, Processes
from .templates import Actions, fill, fill_script, log

TOLD = ("url_template", "allowed_arguments", "allowed_envs")
POLL_SECONDS = 0.05
CONNECT_SECONDS_MAX = 1.0
STOP_SECONDS_MAX = 3.0
NAME_LETTERS = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")


class Intrinsic(Protocol):
    """A service that every kernel has, whatever its image brings."""

    async def start(self, port: int) -> None:
        """Listens there when it returns. Starting it twice is starting it once."""

    async def stop(self) -> None:
        """Ends what goes on; it can be started again."""


class Service:
    """One that was started."""

    def __init__(self, name: str, ports: Sequence[int]) -> None:
        self.name = name
        self.ports = ports
        self.starts = 0
        self.process: Process | None = None
        self.turn = asyncio.Lock()  # who wants it while it starts waits for the same start

    @property
    def lives(self) -> bool:
        """Its process does; whether it listens is another question."""
        return self.process is not None and self.process.lives

    def described(self) -> Object:
        """For the answer."""
        exit_code = None if self.process is None or self.process.lives else self.process.ended.result()
        return {
            "service": self.name,
            "ports": list(self.ports),
            "running": self.lives,
            "starts": self.starts,
            "exitCode": exit_code,
        }


class Services:
    """By name."""

    def __init__(
        self,
        processes: Processes,
        folder: str,
        definitions: Sequence[str],
        runtime_path: str,
        intrinsic: Mapping[str, Intrinsic],
    ) -> None:
        self._processes = processes
        self._intrinsic = intrinsic
        self._folder = folder
        self._definitions = definitions
        self._runtime_path = runtime_path
        self._services: dict[str, Service] = {}

    async def start(
        self,
        name: str,
        ports: Sequence[int],
        arguments: Mapping[str, Any],
        environ: Mapping[str, str],
        wait_seconds: float,
    ) -> Object:
        """Returns once its first port is open."""
        _check(name)
        own = self._intrinsic.get(name)
        if own is not None:
            await own.start(ports[0])
            return {"service": name, "ports": list(ports), "running": True, "starts": 1, "exitCode": None}
        service = self._services.get(name)
        if service is None:
            service = self._services[name] = Service(name, ports)
        async with service.turn:
            if not service.lives and not await _is_open(ports[0]):
                await self._start(service, ports, arguments, environ)
            await self._listening(service, wait_seconds)
        return service.described()

    async def stop(self, name: str) -> None:
        """Stopping what does not run is done already."""
        own = self._intrinsic.get(name)
        if own is not None:
            await own.stop()
            return
        service = self._services.get(name)
        if service is None or service.process is None:
            return
        process = service.process
        process.signal_group(signal.SIGTERM)
        await asyncio.wait({process.ended}, timeout=STOP_SECONDS_MAX)
        process.signal_group(signal.SIGKILL)  # also whom it started, if that outlived it
        await process.ended

    def all(self) -> Sequence[Object]:
        """Those that were started, by name."""
        return [self._services[name].described() for name in sorted(self._services) if self._services[name].starts]

    def definitions(self, names: Sequence[str]) -> Object:
        """What those of these that have a definition say to whoever would start them."""
        found: dict[str, Any] = {}
        for name in names:
            with suppress(Failure):
                _check(name)
                definition = self._definition(name)
                found[name] = {key: definition[key] for key in TOLD if definition.get(key) is not None}
        return found

    async def _start(
        self, service: Service, ports: Sequence[int], arguments: Mapping[str, Any], environ: Mapping[str, str]
    ) -> None:
        definition = self._definition(service.name)
        variables: dict[str, Any] = {"ports": list(ports), "runtime_path": self._runtime_path}
        own = definition.get("env") or {}
        if not isinstance(own, dict):
            raise Failure("bad-definition", "env: must be an object")
        full_environ = {**os.environ, **_allowed(environ, definition)}
        actions = Actions(self._processes, self._folder, variables, full_environ, mode="755")
        for action in _list(definition, "prestart"):
            await actions.carry_out(action)
        full_environ.update({str(key): fill(str(value), variables) for key, value in own.items()})
        full_environ.update(_allowed(environ, definition))  # what the user asks for goes before
        command = [*_command(definition, variables), *_arguments(arguments, definition)]
        service.ports = ports
        try:
            service.process = self._processes.start(command, folder=self._folder, environ=full_environ)
        except CannotRun as failure:
            raise Failure("cannot-run", f"service {service.name}: {failure.why}") from None
        service.starts += 1
        process = service.process
        process.ended.add_done_callback(lambda end: log(f"service {service.name} ended with exit code {end.result()}"))

    def _definition(self, name: str) -> Mapping[str, Any]:
        for folder in self._definitions:
            path = os.path.join(folder, f"{name}.json")
            try:
                with open(path, encoding="utf-8") as file:
                    definition = json.load(file)
            except FileNotFoundError:
                continue
            except (OSError, ValueError, RecursionError) as error:
                raise Failure("bad-definition", f"{path}: {error}") from None
            if not isinstance(definition, dict):
                raise Failure("bad-definition", f"{path}: must be an object")
            return definition
        raise Failure("unknown-service", f"this kernel has no service {name}, and nobody listens on its port")

    async def _listening(self, service: Service, wait_seconds: float) -> None:
        loop = asyncio.get_event_loop()
        deadline = loop.time() + wait_seconds
        while not await _is_open(service.ports[0]):
            if service.process is not None and not service.process.lives:
                # A program may go to the background by itself, which ends its first process with 0.
                exit_code = service.process.ended.result()
                if exit_code != 0:
                    raise Failure("service-died", f"service {service.name} ended with exit code {exit_code}")
            if loop.time() >= deadline:
                raise Failure("service-silent", f"service {service.name} does not listen on {service.ports[0]} yet")
            await asyncio.sleep(POLL_SECONDS)


def _check(name: str) -> None:
    if not name or not set(name) <= NAME_LETTERS:
        raise Failure("unknown-service", f"{name!r} is no name of a service")


async def _is_open(port: int) -> bool:
    for host in ("127.0.0.1", "::1"):
        connecting = asyncio.ensure_future(asyncio.open_connection(host, port))
        await asyncio.wait({connecting}, timeout=CONNECT_SECONDS_MAX)
        if not connecting.done():
            connecting.cancel()
            continue
        if connecting.exception() is None:
            connecting.result()[1].close()
            return True
    return False


def _command(definition: Mapping[str, Any], variables: Mapping[str, Any]) -> Sequence[str]:
    command = definition.get("command")
    if isinstance(command, str) and command:
        return [shell(), "-c", fill_script(command, variables), shell()]
    if isinstance(command, list) and command:
        return [fill(str(word), variables) for word in command]
    raise Failure("bad-definition", "command: must be a list of words or a shell script")


def _arguments(arguments: Mapping[str, Any], definition: Mapping[str, Any]) -> Sequence[str]:
    """`{"--lines": "10", "--verbose": null}` as words."""
    allowed = _list(definition, "allowed_arguments")
    for name in arguments:
        if name not in allowed:
            raise Failure("forbidden-argument", f"the service takes no argument {name}")
    defaults = definition.get("default_arguments") or {}
    if not isinstance(defaults, dict):
        raise Failure("bad-definition", "default_arguments: must be an object")
    words: list[str] = []
    for name, value in {**defaults, **arguments}.items():
        words.append(name)
        if isinstance(value, list):
            words += map(str, value)
        elif value is not None:
            words.append(str(value))
    return words


def _allowed(environ: Mapping[str, str], definition: Mapping[str, Any]) -> Mapping[str, str]:
    allowed = _list(definition, "allowed_envs")
    for name in environ:
        if name not in allowed:
            raise Failure("forbidden-variable", f"the service takes no variable {name}")
    return environ


def _list(definition: Mapping[str, Any], name: str) -> Sequence[Any]:
    value = definition.get(name)
    if value is None:
        return []
    if not isinstance(value, list):
        raise Failure("bad-definition", f"{name}: must be a list")
    return value
