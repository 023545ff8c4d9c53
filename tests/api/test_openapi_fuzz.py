"""The OpenAPI document against the api, by schemathesis: what it allows is no 5xx, what it forbids is refused."""

from typing import Any
from urllib.parse import quote

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.core.parameters import ParameterLocation
from schemathesis.core.result import Ok
from schemathesis.schemas import APIOperation

from api.app import make_app
from infra.secrets import new_key
from infra.settings import Settings
from tests.api.admin import AdminWorld

pytestmark = [pytest.mark.cluster, pytest.mark.asyncio(loop_scope="module")]

Operation = APIOperation[Any, Any, Any, Any]
Case = schemathesis.Case[Operation]

_ENDLESS = {"GET /events/session"}
_EXAMPLES = settings(
    max_examples=6,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],  # a failure says its request as it is; to shrink it takes minutes
    suppress_health_check=list(HealthCheck),
)


def operations() -> list[Operation]:
    document = make_app(Settings.model_validate({"master_key": new_key(), "internal_key": "k" * 40})).openapi()
    found = schemathesis.openapi.from_dict(document).get_all_operations()
    return [each.ok() for each in found if isinstance(each, Ok) and each.ok().label not in _ENDLESS]


OPERATIONS = operations()


def label(operation: Operation) -> str:
    return operation.label


async def send(admin: AdminWorld, who: str, case: Case) -> httpx.Response:
    parts = case.as_transport_kwargs(base_url=admin.url)
    # Nobody waits for a session to start, or for a decision.
    headers = {"Prefer": "respond-async"} | {name: str(value) for name, value in (parts["headers"] or {}).items()}
    async with admin.client(who) as client:
        return await client.request(
            case.method,
            admin.url + quote(case.formatted_path, safe="/%"),
            params=parts.get("params"),
            json=parts.get("json"),
            content=parts.get("data"),
            headers=headers,
        )


@pytest.mark.parametrize("operation", OPERATIONS, ids=label)
@_EXAMPLES
@given(data=st.data())
async def test_what_the_document_allows_is_answered(
    admin: AdminWorld, operation: Operation, data: st.DataObject
) -> None:
    case = data.draw(operation.as_strategy(generation_mode=GenerationMode.POSITIVE))
    answer = await send(admin, data.draw(st.sampled_from(["root", "boss", "ada"])), case)
    assert answer.status_code < 500, (answer.status_code, answer.text, case.as_curl_command())


@pytest.mark.parametrize("operation", [each for each in OPERATIONS if each.body], ids=label)
@_EXAMPLES
@given(data=st.data())
async def test_a_body_that_the_document_forbids_is_refused(
    admin: AdminWorld, operation: Operation, data: st.DataObject
) -> None:
    case = data.draw(operation.as_strategy(generation_mode=GenerationMode.NEGATIVE))
    assume(_forbidden_body(case))
    answer = await send(admin, "root", case)
    assert 400 <= answer.status_code < 500, (answer.status_code, answer.text, case.as_curl_command())


def _forbidden_body(case: Case) -> bool:
    """What is wrong with a parameter may be nothing any more once it stands in a URL or a header."""
    body = case.meta.components.get(ParameterLocation.BODY) if case.meta else None
    return body is not None and body.mode is GenerationMode.NEGATIVE
