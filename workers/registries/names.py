"""Lists of names that come page by page, and which of them are names at all."""

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Final

import httpx

from workers.registries.web import Answer, BadAnswer, Web

_PAGES_MAX: Final = 10_000
_NAMES_MAX: Final = 100_000
_NAME_MAX: Final = 255
_REPOSITORY: Final = re.compile(r"[a-z0-9]+([._-]+[a-z0-9]+)*(/[a-z0-9]+([._-]+[a-z0-9]+)*)*")


async def all_names(
    web: Web,
    url: httpx.URL,
    scope: str,
    parameters: Mapping[str, str | int],
    names_of: Callable[[Any], Iterable[str]],
) -> set[str]:
    """Those on every page, for as long as a page names a next one; `names_of` finds them in its JSON.

    Raises `RegistryError`.
    """
    names: set[str] = set()
    page: httpx.URL | None = url.copy_merge_params({name: str(value) for name, value in parameters.items()})
    for _ in range(_PAGES_MAX):
        if page is None:
            return names
        answer = await web.get(page, scope)
        names.update(name for name in names_of(answer.json()) if len(name) <= _NAME_MAX)
        if len(names) > _NAMES_MAX:
            break
        page = _next(web, page, answer)
    raise BadAnswer(f"{url.path} does not come to an end")


def is_repository(name: str) -> bool:
    return len(name) <= _NAME_MAX and _REPOSITORY.fullmatch(name) is not None


def in_projects(repository: str, projects: Collection[str]) -> bool:
    """Whether the repository is one of the projects or below one; no projects: all are."""
    return not projects or any(repository == each or repository.startswith(each.rstrip("/") + "/") for each in projects)


def _next(web: Web, page: httpx.URL, answer: Answer) -> httpx.URL | None:
    """By the `Link` header, on the registry's own host."""
    link = httpx.Response(200, headers=answer.headers).links.get("next", {}).get("url")
    if link is None:
        return None
    try:
        url = page.join(link)
    except (httpx.InvalidURL, UnicodeError) as error:
        raise BadAnswer(f"{page.path} names no address as its next page") from error
    if (url.scheme, url.host, url.port) != (web.base.scheme, web.base.host, web.base.port) or url == page:
        # Behind a proxy a registry may believe itself to be elsewhere: then only what is asked for counts.
        url = page.copy_with(query=url.query)
        if url == page:
            raise BadAnswer(f"{page.path} names itself as its next page")
    return url
