"""YAML that people send: what a few lines of it could cost is found out before it is read."""

from typing import Final

import yaml

Loader: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast, where it was built

_DEPTH_MAX: Final = 64


class Unwelcome(ValueError):
    """It is YAML, and too much of it. `rule`: which one it breaks; `line`: where, from 1."""

    def __init__(self, rule: str, line: int, reason: str) -> None:
        super().__init__(reason)
        self.rule = rule
        self.line = line


def check(text: str) -> None:
    """Return if it can be loaded at little cost. Raises `Unwelcome`, and `YAMLError` and `ValueError` for no YAML."""
    depth = 0
    for event in yaml.parse(text, Loader):
        line = event.start_mark.line + 1 if event.start_mark else 1
        if isinstance(event, yaml.AliasEvent):  # a few lines of them unfold to gigabytes
            raise Unwelcome("no_aliases", line, "YAML aliases are not allowed")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEPTH_MAX:  # reading takes time with the square of the depth: seconds, within a few kilobytes
            raise Unwelcome("nested", line, f"this is nested too deeply: {_DEPTH_MAX} levels are allowed")
