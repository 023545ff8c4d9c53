"""What a storage service says is wrong, as the api says it; and what is wrong between the two."""

import orjson

from api.http.problems import Problem


def refusal(service: str, status: int, content: bytes) -> Problem:
    """What it says is wrong with the request; what is wrong between it and us is another matter."""
    try:
        told = orjson.loads(content)
        kind, title = str(told["type"]).rpartition("/")[2], str(told["title"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return broken(service)
    if status in {401, 403}:
        return broken(service)
    if status >= 500 and status != 507:
        return away(service)
    detail, field = str(told.get("detail") or title), told.get("field")
    return Problem(
        status,
        kind,
        title,
        detail,
        field=field,
        rule=told.get("rule"),
        data={field: detail} if isinstance(field, str) else {},
    )


def no_host(host: str, detail: str) -> Problem:
    return Problem(404, "folder-host-not-found", "No such storage host", detail, field="host", data={"host": host})


def away(service: str) -> Problem:
    return Problem(
        503,
        "storage-unavailable",
        "The storage service does not answer",
        f"the storage service {service} does not answer, or is in trouble",
        retryable=True,
        retry_after=1,
    )


def broken(service: str) -> Problem:
    return Problem(
        502,
        "storage-broken",
        "The storage service cannot be understood",
        f"the storage service {service} does not know this api's key, or speaks another language",
    )
