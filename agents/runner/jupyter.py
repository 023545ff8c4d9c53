"""Query mode by a kernel of Jupyter: this side speaks with the runner as `child.py` does, and with the kernel as a
notebook would. Needs `jupyter_client` in the session's Python, and runs there.
"""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
from typing import Any

from .channel import Asked, Channel, text_stream
from .display import best_of
from .framing import Object

START_SECONDS_MAX = 50
POLL_MS = 50  # how late an interrupt or the kernel's death may be seen
ANSWER_SECONDS_MAX = 10  # of the kernel, when it has nothing else to do


class Kernel:
    """One kernel and the runs it is given."""

    def __init__(self, name: str, channel: Channel, asked: Asked) -> None:
        self._channel = channel
        self._asked = asked
        self._interrupt_wanted = False
        self._breakable = False  # waiting for what may never come, with nothing to lose
        signal.signal(signal.SIGINT, self._interrupted)
        client = importlib.import_module("jupyter_client")
        self._zmq: Any = importlib.import_module("zmq")
        self._manager: Any = client.KernelManager(kernel_name=name, transport="ipc")
        self._manager.start_kernel(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # it sends what is printed
        self._client: Any = self._manager.blocking_client()
        self._client.start_channels()
        self._client.wait_for_ready(timeout=START_SECONDS_MAX)

    def run(self, code: str) -> None:
        """Until the kernel is idle again."""
        self._interrupt_wanted = False
        run_id = self._client.execute(code, allow_stdin=True)
        self._channel.send({"began": True})
        poller = self._zmq.Poller()
        channels = {
            self._client.iopub_channel.socket: self._client.get_iopub_msg,
            self._client.shell_channel.socket: self._client.get_shell_msg,
            self._client.stdin_channel.socket: self._client.get_stdin_msg,
        }
        for socket in channels:
            poller.register(socket, self._zmq.POLLIN)
        is_idle = is_answered = False
        while not (is_idle and is_answered):
            if self._interrupt_wanted:
                self._interrupt_wanted = False
                self._manager.interrupt_kernel()
            ready = poller.poll(POLL_MS)
            if not ready and not self._manager.is_alive():
                os._exit(1)  # the runner tells the user
            for socket, _ in ready:
                message = channels[socket](timeout=ANSWER_SECONDS_MAX)
                if message["parent_header"].get("msg_id") != run_id:
                    continue  # of a run before
                kind, content = message["msg_type"], message["content"]
                is_answered = is_answered or kind == "execute_reply"
                is_idle = is_idle or (kind == "status" and content["execution_state"] == "idle")
                self._show(kind, content)

    def complete(self, code: str) -> list[str]:
        """What the kernel proposes."""
        try:
            self._breakable = True
            reply = self._client.complete(code, len(code), reply=True)  # the runner interrupts it
            return list(reply["content"].get("matches", ()))
        except KeyboardInterrupt:
            return []
        finally:
            self._breakable = False

    def _show(self, kind: str, content: Object) -> None:
        if kind == "stream":
            (sys.stderr if content["name"] == "stderr" else sys.stdout).write(content["text"])
        elif kind == "error":
            sys.stderr.write("\n".join(content["traceback"]) + "\n")
        elif kind in ("display_data", "execute_result"):
            item = best_of(content["data"])
            if item is not None:
                self._channel.send({"show": list(item)})
            elif "text/plain" in content["data"]:
                sys.stdout.write(content["data"]["text/plain"] + "\n")
        elif kind == "input_request":
            try:
                self._breakable = True
                line = self._asked.line(content["prompt"], is_password=content["password"])
            except KeyboardInterrupt:
                self._interrupt_wanted = True
            else:
                self._client.input(line)
            finally:
                self._breakable = False

    def _interrupted(self, *_: object) -> None:
        if self._breakable:
            raise KeyboardInterrupt
        self._interrupt_wanted = True


def main() -> None:
    """Until the runner is gone. The last arguments: which kernel, where requests come from, where replies go."""
    name, requests, replies = sys.argv[-3], int(sys.argv[-2]), int(sys.argv[-1])
    for file in (requests, replies):
        os.set_inheritable(file, False)
    channel = Channel(replies)
    asked = Asked(requests, channel)
    sys.stdout, sys.stderr = text_stream(1, channel), text_stream(2, channel)
    kernel = Kernel(name, channel, asked)
    channel.send({"ready": True})
    while True:
        message = asked.request()
        if "run" in message:
            kernel.run(message["run"])
            channel.send({"ended": True})
        elif "complete" in message:
            channel.send({"completions": kernel.complete(message["complete"])})
