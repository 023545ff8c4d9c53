"""What a registry's answers are taken for, whatever they are."""

from contextlib import suppress
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.workers.registry import CONFIG, LIST, MANIFEST, digest_of
from tests.workers.test_registry_web import Wire
from workers.registries import names
from workers.registries.docker import DockerRegistry
from workers.registries.names import in_projects, is_repository
from workers.registries.web import BadAnswer, RegistryError, Web

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=10,
)
DESCRIPTOR = st.fixed_dictionaries(
    {"digest": st.sampled_from([digest_of(b"{}"), "sha256:x", "md5:" + "0" * 32]) | JSON, "size": st.integers() | JSON},
    optional={"mediaType": st.sampled_from([CONFIG, MANIFEST, LIST]) | JSON, "platform": JSON},
)
ANSWER = JSON | st.fixed_dictionaries(
    {"mediaType": st.sampled_from([MANIFEST, LIST])},
    optional={
        "config": DESCRIPTOR | JSON,
        "layers": st.lists(DESCRIPTOR, max_size=3) | JSON,
        "manifests": st.lists(DESCRIPTOR, max_size=3) | JSON,
        "architecture": st.text(max_size=40) | JSON,
        "repositories": JSON,
        "tags": JSON,
    },
)


def registry(answer: Any, headers: dict[str, str] | None = None) -> DockerRegistry:
    wire = Wire(lambda _: httpx.Response(200, json=answer, headers=headers))
    return DockerRegistry(Web(httpx.AsyncClient(transport=wire), "https://cr.example.org", None), {})


@given(ANSWER)
async def test_whatever_it_answers_is_understood_or_refused(answer: Any) -> None:
    asked = registry(answer)
    with suppress(RegistryError):
        await asked.images("stable/python", "1")
    with suppress(RegistryError):
        assert all(map(is_repository, await asked.repositories(())))
    with suppress(RegistryError):
        assert all(isinstance(tag, str) for tag in await asked.tags("stable/python"))


async def test_names_without_end_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "_NAMES_MAX", 1000)
    pages = 0

    def answer(_: httpx.Request) -> httpx.Response:
        nonlocal pages
        pages += 1
        some = [f"python{pages}x{number}" for number in range(100)]
        return httpx.Response(200, json={"repositories": some}, headers={"Link": f'<?n=100&last={pages}>; rel="next"'})

    asked = DockerRegistry(Web(httpx.AsyncClient(transport=Wire(answer)), "https://cr.example.org", None), {})
    with pytest.raises(BadAnswer, match="does not come to an end"):
        await asked.repositories(())
    assert pages == 11


async def test_a_next_page_is_asked_of_the_registry_itself_whatever_host_it_names() -> None:
    asked: list[httpx.URL] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url)
        link = {"Link": '<http://10.0.0.1/elsewhere?n=100&last=a>; rel="next"'} if len(asked) == 1 else {}
        return httpx.Response(200, json={"tags": ["a"]}, headers=link)

    reading = DockerRegistry(Web(httpx.AsyncClient(transport=Wire(answer)), "https://cr.example.org", None), {})
    await reading.tags("python")
    assert str(asked[1]) == "https://cr.example.org/v2/python/tags/list?n=100&last=a"


@pytest.mark.parametrize(
    ("repository", "projects", "expected"),
    [
        ("stable/python", (), True),
        ("stable/python", ("stable",), True),
        ("stable/python", ("stable/",), True),
        ("stable", ("stable",), True),
        ("stabler/python", ("stable",), False),
        ("python", ("stable",), False),
    ],
)
def test_a_project_has_what_is_below_it(repository: str, projects: tuple[str, ...], expected: bool) -> None:
    assert in_projects(repository, projects) is expected
