"""Harbor shows its projects and their repositories by an API of its own; images are read as in any other registry."""

import re
from collections.abc import Collection, Sequence
from typing import Any, Final

from workers.registries.names import all_names, is_repository
from workers.registries.web import BadAnswer, Web

_PAGE: Final = 100
_SCOPE: Final = "harbor"
_PROJECT: Final = re.compile(r"[a-z0-9]+([._-]+[a-z0-9]+)*")


async def repositories(web: Web, projects: Collection[str]) -> Sequence[str]:
    """Those of the projects; no projects: of all that we may see. Raises `RegistryError`."""
    web.introduce(_SCOPE)
    found: set[str] = set()
    for project in projects or await _listed(web, "/api/v2.0/projects"):
        if not _PROJECT.fullmatch(project):
            raise BadAnswer(f"{project[:100]!r} is no name of a Harbor project")
        found.update(filter(is_repository, await _listed(web, f"/api/v2.0/projects/{project}/repositories")))
    return sorted(found)


async def _listed(web: Web, path: str) -> Sequence[str]:
    """The names of what stands there."""
    return sorted(await all_names(web, web.url(path), _SCOPE, {"page": 1, "page_size": _PAGE}, _names))


def _names(page: Any) -> list[str]:
    if not isinstance(page, list):
        raise BadAnswer("Harbor answers with no list")
    return [each["name"] for each in page if isinstance(each, dict) and isinstance(each.get("name"), str)]
