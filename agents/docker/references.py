"""How Docker writes the name of an image in full, and so how agents report it."""

_HUB = "docker.io"


def canonical(name: str) -> str:
    """With the registry and the tag that Docker adds: `python` is `docker.io/library/python:latest`."""
    tagged = name if ":" in name.rpartition("/")[2] else f"{name}:latest"
    first, slash, _ = tagged.partition("/")
    if not slash:
        return f"{_HUB}/library/{tagged}"
    if "." in first or ":" in first or first == "localhost":
        return tagged
    return f"{_HUB}/{tagged}"
