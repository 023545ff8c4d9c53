"""The keys of the reference's cluster-wide configuration, as far as they stand for something here. Pure.

Registries stand under `config/docker/registry/<name>`: the URL there, the rest below it (catalogue §1.17).
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final, cast
from urllib.parse import unquote

from api.http.problems import invalid
from domain.directory.messages.images import RegistryChanges, RegistrySpec, RegistryType
from domain.directory.state import Directory

HIDDEN: Final = "********"
"""What is told of a password."""

REGISTRIES: Final = ("config", "docker", "registry")
FIELDS: Final = ("", "type", "project", "username", "password", "ssl_verify")
"""What may stand under a registry's name; the empty one is the URL."""

_TRUE: Final = frozenset({"true", "1", "yes", "on"})
_FALSE: Final = frozenset({"false", "0", "no", "off"})

Told = str | int | float | bool | list[Any] | dict[str, Any] | None
"""A value as clients send it: most of them send text."""


def parts_of(key: str) -> tuple[str, ...]:
    """The key's segments; those of registries may be quoted, as in `cr.example.org%3A5000`."""
    return tuple(unquote(part) for part in key.strip("/").split("/"))


def everything(directory: Directory, *, introspection: bool, auto_pull: str) -> dict[tuple[str, ...], str]:
    """All keys there are, and what they hold."""
    held: dict[tuple[str, ...], str] = {
        ("volumes", "_types", "user"): "",
        ("volumes", "_types", "group"): "",
        ("config", "api", "allow-graphql-schema-introspection"): _text(introspection),
        ("config", "api", "allow-openapi-schema-introspection"): _text(True),
        ("config", "docker", "image", "auto_pull"): auto_pull,
    }
    for name, spec in directory.registries.items():
        if spec.registry_type is not RegistryType.LOCAL:
            held |= {(*REGISTRIES, name, *filter(None, [field])): value for field, value in _fields(spec)}
    return held


def under(prefix: tuple[str, ...], held: Mapping[tuple[str, ...], str]) -> dict[str, Any]:
    """What stands under a key, as a tree; what has a value and more below it has the value under an empty name."""
    tree: dict[str, Any] = {}
    for key, value in sorted(held.items()):
        if key[: len(prefix)] != prefix:
            continue
        place = tree
        for part in key[len(prefix) :]:
            inner = place.setdefault(part, {})
            place = inner
        place[""] = value
    return _tree(tree)


def registry_of(key: tuple[str, ...]) -> tuple[str, str]:
    """Which registry and which field of it the key is. Raises `Problem` for any other key."""
    is_registry = key[: len(REGISTRIES)] == REGISTRIES and len(REGISTRIES) < len(key) <= len(REGISTRIES) + 2
    name, field = (key[len(REGISTRIES)], "".join(key[len(REGISTRIES) + 1 :])) if is_registry else ("", "")
    if not name or field not in FIELDS:
        raise invalid(
            "key",
            "not_configurable",
            f"{'/'.join(key)[:200]} cannot be set here: only registries can, by config/docker/registry/<name>"
            f" and {', '.join(FIELDS[1:])} below it, and config/idle/checkers/utilization;"
            " everything else is a setting of the processes (REFOLD_…)",
        )
    return name, field


def changes_of(field: str, value: Told) -> RegistryChanges:
    """What setting the field (or, by an object, several) makes of a registry; the password in the clear as yet.

    Raises `Problem`.
    """
    told = value if isinstance(value, dict) else {field: value}
    if isinstance(value, dict) and field:
        raise invalid("value", "text", f"{field} is a text")
    changes: dict[str, Any] = {}
    for name, text in told.items():
        match name:
            case "":
                changes["url"] = text
            case "type":
                changes["registry_type"] = text
            case "project":
                changes["projects"] = _listed(text)
            case "ssl_verify":
                changes["ssl_verify"] = _truth(text)
            case "username" | "password":
                changes[name] = str(text) if text not in (None, "") else None
            case _:
                raise invalid("value", "unknown", f"a registry has no {name[:64]!r}")
    return cast(RegistryChanges, changes)  # read as such with the command


def without(field: str) -> RegistryChanges:
    """What deleting a field makes of a registry."""
    match field:
        case "type":
            return RegistryChanges(registry_type=RegistryType.DOCKER)
        case "project":
            return RegistryChanges(projects=())
        case "ssl_verify":
            return RegistryChanges(ssl_verify=True)
        case "username":
            return RegistryChanges(username=None)
        case _:
            return RegistryChanges(password=None)


def _fields(spec: RegistrySpec) -> Iterable[tuple[str, str]]:
    yield "", spec.url
    yield "type", spec.registry_type
    yield "ssl_verify", _text(spec.ssl_verify)
    if spec.projects:
        yield "project", ",".join(spec.projects)
    if spec.username is not None:
        yield "username", spec.username
    if spec.password is not None:
        yield "password", HIDDEN


def _plain(inner: dict[str, Any]) -> Any:
    """A value that has nothing below it is just that."""
    return inner[""] if set(inner) == {""} else _tree(inner)


def _tree(inner: dict[str, Any]) -> dict[str, Any]:
    return {name: each if name == "" else _plain(each) for name, each in inner.items()}


def _text(truth: bool) -> str:
    return "true" if truth else "false"


def _truth(value: Any) -> bool:
    text = str(value).lower()
    if text not in _TRUE | _FALSE:
        raise invalid("value", "bool", "ssl_verify is true or false")
    return text in _TRUE


def _listed(value: Any) -> Any:
    return tuple(each.strip() for each in value.split(",") if each.strip()) if isinstance(value, str) else value or ()
