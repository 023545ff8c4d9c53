"""What was used: by projects within a month or a period, and by oneself or everybody in the last 30 days."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from itertools import groupby
from typing import Annotated, Any, Final

from fastapi import APIRouter, Request
from pydantic import AliasChoices, BeforeValidator, Field
from starlette.responses import Response

from api.access.authority import only_superadmins
from api.access.tenancy import project_seen
from api.cluster.allocation import INTRINSIC
from api.http.answers import json
from api.http.deps import Caller, Directory, Known
from api.http.parameters import Parameters, answers, in_query
from api.http.problems import invalid
from api.writing import now
from domain.slots import WHOLE
from projections import usage
from projections.usage import Moment, UsedKernel

router = APIRouter(prefix="/resource", tags=["resources"])

KERNELS_MAX: Final = 10_000
"""In one answer, some 8 MB."""

_PROJECTS_MAX: Final = 1000
_PERIOD_DAYS_MAX: Final = 100
_STEP: Final = timedelta(minutes=15)
_STEPS: Final = 30 * 24 * 4

_MOMENT: Final = {
    "date": 1795280400,
    "num_sessions": {"value": 3, "unit_hint": "count"},
    "cpu_allocated": {"value": 12.5, "unit_hint": "count"},
    "mem_allocated": {"value": 51539607552, "unit_hint": "bytes"},
}
_USED: Final = {"g_id": "4f7f…", "g_name": "default", "domain_name": "default", "g_smp": 2.0, "c_infos": []}

_SUMS: Final[Mapping[str, str]] = {
    "g_smp": "smp",
    "g_cpu_allocated": "cpu_allocated",
    "g_cpu_used": "cpu_used",
    "g_mem_allocated": "mem_allocated",
    "g_mem_used": "mem_used",
    "g_shared_memory": "shared_memory",
    "g_gpu_allocated": "gpu_allocated",
    "g_disk_allocated": "disk_allocated",
    "g_disk_used": "disk_used",
    "g_io_read": "io_read",
    "g_io_write": "io_write",
}
"""What is said of a project, and of which member of its kernels it is the sum."""

Reference = Annotated[str, Field(min_length=1, max_length=128, description="A project's id, or its name.")]
Day = Annotated[str, Field(pattern=r"^\d{8}$", description="As in 20261121, in UTC.")]


def _listed(told: Any) -> Any:
    return [each for each in told.split(",") if each] if isinstance(told, str) else told or []


class OfMonth(Parameters):
    """No projects: all of them. In a query they are a list with commas."""

    month: str = Field(pattern=r"^\d{6}$", description="As in 202611, in UTC.")
    group_ids: Annotated[list[Reference], BeforeValidator(_listed)] = Field([], max_length=_PROJECTS_MAX)


class OfPeriod(Parameters):
    group_id: Reference = Field(validation_alias=AliasChoices("group_id", "project_id"))
    start_date: Day
    end_date: Day


@router.get("/usage/month", openapi_extra=in_query(OfMonth), responses=answers([_USED]))
async def of_month(request: Request, caller: Caller, directory: Directory, known: Known) -> Response:
    """Each project that had kernels running in that month, with these. For superadmins.

    What they really used (`cpu_used` in seconds) is known for some days, and 0 after that.
    """
    only_superadmins(caller.identity)
    asked = OfMonth.of(request)
    first = _day(asked.month + "01", "month")
    following = (first + timedelta(days=31)).replace(day=1)
    projects = None
    if asked.group_ids:
        projects = [project_seen(each, None, caller, directory, "group_ids").project_id for each in asked.group_ids]
    return json(await _used(known, first, following, projects))


@router.get(
    "/usage/period",
    openapi_extra=in_query(OfPeriod),
    responses=answers(_USED),
)
async def of_period(request: Request, caller: Caller, directory: Directory, known: Known) -> Response:
    """One project from the first to the last of these days; empty if nothing ran. For superadmins."""
    only_superadmins(caller.identity)
    asked = OfPeriod.of(request)
    first, last = _day(asked.start_date, "start_date"), _day(asked.end_date, "end_date")
    if not timedelta() <= last - first < timedelta(days=_PERIOD_DAYS_MAX):
        raise invalid("end_date", "period", f"a period has 1 to {_PERIOD_DAYS_MAX} days")
    project = project_seen(asked.group_id, None, caller, directory, "group_id")
    found = await _used(known, first, last + timedelta(days=1), [project.project_id])
    return json(found[0] if found else {})


@router.get("/stats/user/month", responses=answers([_MOMENT]))
async def of_user(caller: Caller, known: Known, directory: Directory) -> Response:
    """What all keypairs of the caller held in the last 30 days, each 15 minutes."""
    owner = directory.identity(caller.owner) or caller.identity
    return json(await _over_time(known, owner.user.keypairs))


@router.get("/stats/admin/month", responses=answers([_MOMENT]))
async def of_everybody(caller: Caller, known: Known) -> Response:
    """What everybody held in the last 30 days, each 15 minutes. For superadmins."""
    only_superadmins(caller.identity)
    return json(await _over_time(known, None))


def _day(text: str, field: str) -> datetime:
    """Its beginning in UTC. Years before 1970 and after 9000 are nobody's."""
    try:
        day = date(int(text[:4]), int(text[4:6]), int(text[6:]))
    except ValueError:
        raise invalid(field, "date", f"{text} is not in the calendar") from None
    if not 1970 <= day.year <= 9000:
        raise invalid(field, "date", "the year must be within 1970 and 9000")
    return datetime.combine(day, time(), UTC)


# -- by project --------------------------------------------------------------------------------------------------------


async def _used(known: Known, start: datetime, end: datetime, projects: Sequence[str] | None) -> list[dict[str, Any]]:
    async with known.connection() as db:
        found = await usage.kernels(db, start=start, end=end, projects=projects, limit=KERNELS_MAX + 1)
    if len(found) > KERNELS_MAX:
        raise invalid(
            "group_id" if projects else "group_ids",
            "too_many",
            f"more than {KERNELS_MAX} kernels ran: ask for fewer projects, or a shorter period",
        )
    return [_project(list(kernels), start, end) for _, kernels in groupby(found, _place)]


def _place(kernel: UsedKernel) -> tuple[str, str, str | None]:
    return kernel.domain, kernel.project, kernel.project_id


def _project(kernels: Sequence[UsedKernel], start: datetime, end: datetime) -> dict[str, Any]:
    told = [_kernel(each, start, end) for each in kernels]
    return {
        "g_id": kernels[0].project_id,
        "g_name": kernels[0].project,
        "domain_name": kernels[0].domain,
        **{name: sum(each[of] for each in told) for name, of in _SUMS.items()},
        "g_device_type": sorted({device for each in told for device in each["device_type"]}),
        "c_infos": told,
    }


def _kernel(kernel: UsedKernel, start: datetime, end: datetime) -> dict[str, Any]:
    """`used_time` and `used_days` (of the calendar) are of what lies within the period."""
    ended = min(kernel.ended_at or now(), end)
    began = max(kernel.started_at, start)
    cpu = kernel.slots.get("cpu", 0) / WHOLE
    devices = {slot: units for slot, units in kernel.slots.items() if slot not in INTRINSIC and units}
    return {
        "id": kernel.kernel_id,
        "session_id": kernel.session_id,
        "container_id": kernel.runtime_id,
        "name": kernel.session_name,
        "access_key": kernel.access_key,
        "email": kernel.email,
        "full_name": kernel.full_name,
        "domain_name": kernel.domain,
        "group_id": kernel.project_id,
        "group_name": kernel.project,
        "agent": kernel.agent_id,
        "image_id": kernel.image,
        "image_name": kernel.image,
        "cluster_mode": kernel.cluster_mode,
        "smp": cpu,
        "cpu_allocated": cpu,
        "mem_allocated": kernel.slots.get("mem", 0),
        "gpu_allocated": sum(devices.values()) / WHOLE,
        "device_type": sorted({slot.partition(".")[0] for slot in devices}),
        "cpu_used": kernel.cpu_usec / 1_000_000,
        "mem_used": kernel.memory_bytes,
        "io_read": kernel.io_read_bytes,
        "io_write": kernel.io_written_bytes,
        **dict.fromkeys(("shared_memory", "disk_allocated", "disk_used"), 0),
        "nfs": [],
        "used_time": str(max(ended - began, timedelta())),
        "used_days": max((ended - timedelta(microseconds=1)).date() - began.date(), timedelta()).days + 1,
        "created_at": kernel.started_at.astimezone(UTC).isoformat(),
        "terminated_at": "" if kernel.ended_at is None else kernel.ended_at.astimezone(UTC).isoformat(),
        "status": kernel.status,
        "status_info": kernel.reason,
        "status_changed": kernel.status_changed_at.astimezone(UTC).isoformat(),
    }


# -- over time ---------------------------------------------------------------------------------------------------------


async def _over_time(known: Known, owners: Sequence[str] | None) -> list[dict[str, Any]]:
    """Up to and with the quarter of an hour that goes on."""
    step = _STEP.total_seconds()
    last = datetime.fromtimestamp(now().timestamp() // step * step, UTC)
    async with known.connection() as db:
        moments = await usage.over_time(db, start=last - (_STEPS - 1) * _STEP, step=_STEP, count=_STEPS, owners=owners)
    return [_moment(each) for each in moments]


def _moment(moment: Moment) -> dict[str, Any]:
    counts = {
        "num_sessions": moment.sessions,
        "cpu_allocated": moment.cpu / WHOLE,
        "gpu_allocated": moment.devices / WHOLE,
    }
    sizes = {"mem_allocated": moment.mem, "io_read_bytes": 0, "io_write_bytes": 0, "disk_used": 0}
    return {
        "date": int(moment.at.timestamp()),
        **{name: {"value": value, "unit_hint": "count"} for name, value in counts.items()},
        **{name: {"value": value, "unit_hint": "bytes"} for name, value in sizes.items()},
    }
