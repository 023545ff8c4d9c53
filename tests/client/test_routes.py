"""Whatever the public client's functions for sessions and folders ask for, there is a route for it."""

import ast
import re
from pathlib import Path

import pytest
from starlette.routing import Match

from api.app import _ROUTES
from api.http.wire import enter

pytestmark = pytest.mark.cluster

_WEBSOCKETS = ("/pty", "/execute")
_PATHS = {"prefix": "session", "path": "/events/session"}
"""What variables of the client's stand for, where they are not the name of a session."""


def _called(source: str) -> set[tuple[str, str]]:
    """Method and path of every `Request(…)`."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Request":
            method, path = node.args[0], node.args[1]
            assert isinstance(method, ast.Constant)
            found.add((str(method.value), _text(path)))
    return found


def _text(path: ast.expr) -> str:
    match path:
        case ast.Constant(value=str(text)):
            return text
        case ast.Name(id=name):
            return _PATHS.get(name, "mysess")
        case ast.Call(func=ast.Attribute(value=ast.Constant(value=str(text)), attr="format")):
            return re.sub(r"\{\d?\}", "mine", text)
        case ast.JoinedStr(values=parts):
            return "".join(_text(part.value if isinstance(part, ast.FormattedValue) else part) for part in parts)
        case _:
            return "mysess"


def _is_there(method: str, path: str) -> bool:
    kind = "websocket" if path.endswith(_WEBSOCKETS) else "http"
    path = "/" + path.removeprefix("/")  # the client puts a missing one there, too
    scope = {"type": kind, "method": method, "path": path, "headers": [], "root_path": ""}
    enter(scope, {})
    routes = (route for module in _ROUTES for route in module.router.routes)
    return any(route.matches(scope)[0] is Match.FULL for route in routes)


@pytest.mark.parametrize(
    ("functions", "one_of_them"),
    [
        ("session", ("POST", "/session/mysess/commit")),
        ("vfolder", ("POST", "/folders/mine/request-upload")),
        ("model", ("GET", "/folders/mine/files")),
    ],
)
def test_every_call_of_the_clients_functions_has_a_route(
    program: Path, functions: str, one_of_them: tuple[str, str]
) -> None:
    [source] = program.parents[1].glob(f"lib/*/site-packages/ai/backend/client/func/{functions}.py")
    called = _called(source.read_text())
    assert one_of_them in called
    assert sorted(each for each in called if not _is_there(*each)) == []
