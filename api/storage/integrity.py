"""`python -m api.storage.integrity`: whether the disks hold what the log says, both ways.

It deletes nothing. A folder that the log knows nothing of can be given to an owner (`adopt`), by the command that makes
folders; he looks into it, and purges it if he likes, as any other. So whatever is deleted, the log says by whose word.
"""

import asyncio
import getpass
import sys
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Final, TypeVar
from uuid import UUID, uuid4

import orjson
import typer
from pydantic import TypeAdapter, ValidationError

from api.storage.disks.backend import BadVolume
from api.storage.effects.following import VFOLDER, Following
from api.storage.effects.wanted import Wanted, has_to_be_there
from api.storage.volumes import NoVolume, Volume, Volumes
from domain.outcomes import CommandRefused
from domain.vfolder.consequences import VFOLDER as CONTEXT
from domain.vfolder.messages.common import FolderSpec
from domain.vfolder.messages.requests import CreateFolder
from domain.vfolder.mounts import FolderId, FolderName, Host, Scope
from domain.vfolder.phases import Phase
from infra.decoding import read_event
from infra.kafka import KafkaLog
from infra.log import Log, LogError
from infra.sending import Sender
from infra.settings import Settings, settings
from infra.topics import events, partition_of

_ANSWER_SECONDS: Final = 30.0
_NAMED: Final = TypeAdapter(tuple[Scope, FolderName])

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, help=__doc__)


class Kind(StrEnum):
    ABSENT = "absent"
    """The volume itself is not there; of its folders nothing can be said."""
    MISSING = "missing"
    """The log has the folder, the disk has not."""
    ORPHAN = "orphan"
    """The disk has the folder, the log has not."""
    LEFT = "left"
    """Something that was begun for a folder which the log does not have."""
    PENDING = "pending"
    """The log asks for work that is not done yet: well, if the storage service runs and this is gone soon."""


@dataclass(frozen=True)
class Finding:
    kind: Kind
    host: Host
    folder_id: str
    detail: str


async def look(config: Settings, log: Log, volumes: Volumes) -> list[Finding]:
    """All there is to find. Raises `LogError`.

    The disk is read first: what is made meanwhile was in the log before. What is purged meanwhile is looked for again.
    """
    found = {volume.host: await asyncio.to_thread(_found, volume) for volume in volumes}
    wanted = await _wanted(config, log, volumes)
    return [
        finding
        for volume in volumes
        for finding in await asyncio.to_thread(_compared, volume, wanted, found[volume.host])
    ]


async def adopt(config: Settings, log: Log, volume: Volume, folder_id: FolderId, owner: Scope, name: str) -> str | None:
    """Ask for an orphan to become a folder of this owner. Why it will not, or None. Raises `LogError`."""
    if not volume.folder(folder_id).is_dir():
        return f"there is no folder {folder_id} on {volume.host}"
    wanted = await _wanted(config, log, Volumes(config.storage_name, {volume.host: volume}))
    if found := wanted.folder(folder_id):
        return f"the log has it already: it is called {found[1].name}, of {found[0]}"
    command_id, place = str(uuid4()), partition_of(config, events(VFOLDER), owner)
    start = (await log.ends([place]))[place]
    spec = FolderSpec(host=volume.host)
    command = CreateFolder(at=datetime.now(UTC), scope=owner, folder_id=folder_id, name=name, spec=spec)
    await Sender(config, log, "refold/integrity").send(VFOLDER, command, command_id, f"operator:{getpass.getuser()}")
    try:
        async with asyncio.timeout(_ANSWER_SECONDS), log.reader({place: start}) as reader:
            while True:
                for record in await reader.batch(at_most=100, within=0.5):
                    told = read_event(CONTEXT, record)
                    if told.command_id == command_id:
                        return told.event.reason if isinstance(told.event, CommandRefused) else None
    except TimeoutError:
        return "no answer in time; look again whether it is adopted"


async def _wanted(config: Settings, log: Log, volumes: Volumes) -> Wanted:
    """As the log has it now. Raises `LogError`."""
    wanted = Wanted([volume.host for volume in volumes])
    following = Following(config, log, wanted)
    reading, whole = asyncio.create_task(following.follow()), asyncio.create_task(following.whole.wait())
    try:
        done, _ = await asyncio.wait([reading, whole], return_when=asyncio.FIRST_COMPLETED)
        if reading in done:
            await reading
    finally:
        reading.cancel()
        whole.cancel()
    return wanted


def _found(volume: Volume) -> set[FolderId]:
    return set(volume.found()) if volume.is_there else set()


def _compared(volume: Volume, wanted: Wanted, found: set[FolderId]) -> list[Finding]:
    def finding(kind: Kind, folder_id: str, detail: str) -> Finding:
        return Finding(kind, volume.host, folder_id, detail)

    if not volume.is_there:
        return [finding(Kind.ABSENT, "", f"not at {volume.backend.root}, or not marked as this volume")]
    findings = []
    for scope, folder in wanted.folders(volume.host):
        if has_to_be_there(folder) and not volume.folder(folder.folder_id).is_dir():
            findings.append(finding(Kind.MISSING, folder.folder_id, f"{folder.name} of {scope}"))
    findings += [
        finding(Kind.PENDING, job.folder.folder_id, f"{job.work} of {job.folder.name} of {job.scope}")
        for job in wanted.jobs(volume.host)
    ]
    findings += [
        finding(Kind.ORPHAN, folder_id, str(volume.folder(folder_id)))
        for folder_id in sorted(found)
        if not _is_known(wanted, folder_id, volume) and volume.folder(folder_id).is_dir()
    ]
    findings += [
        finding(Kind.LEFT, folder_id, what)
        for what, folder_ids in volume.unfinished().items()
        for folder_id in folder_ids
        if not _is_known(wanted, folder_id, volume)
    ]
    return findings


def _is_known(wanted: Wanted, folder_id: FolderId, volume: Volume) -> bool:
    known = wanted.folder(folder_id)
    return known is not None and known[1].host == volume.host and known[1].phase is not Phase.GONE


# -- the commands ------------------------------------------------------------------------------------------------------


@app.callback(invoke_without_command=True)
def check(
    context: typer.Context, as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False
) -> None:
    """Print what is not as it should be; the exit status is 1 if there is anything."""
    if context.invoked_subcommand is not None:
        return
    findings = _with_log(look)
    for each in findings:
        typer.echo(
            orjson.dumps(asdict(each)) if as_json else f"{each.kind}\t{each.host}\t{each.folder_id}\t{each.detail}"
        )
    if any(each.kind is not Kind.PENDING for each in findings):
        raise typer.Exit(1)


@app.command("adopt")
def adopt_command(
    volume: Annotated[str, typer.Argument(metavar="VOLUME", help="Its name in REFOLD_STORAGE_VOLUMES.")],
    folder_id: Annotated[UUID, typer.Argument(metavar="ID", help="Of an orphan.")],
    owner: Annotated[str, typer.Argument(metavar="OWNER", help="user:<id> or project:<id>.")],
    name: Annotated[str, typer.Argument(metavar="NAME", help="What it will be called.")],
) -> None:
    """Make an orphan a folder of this owner, as far as his limits let him have another."""
    try:
        _NAMED.validate_python((owner, name))
    except ValidationError as error:
        raise typer.BadParameter("; ".join(each["msg"] for each in error.errors())) from error

    async def adopted(config: Settings, log: Log, volumes: Volumes) -> str | None:
        return await adopt(config, log, _volume(volumes, volume), FolderId(str(folder_id)), owner, name)

    if refusal := _with_log(adopted):
        sys.exit(f"refold: {refusal}")


@app.command()
def mark(volume: Annotated[str, typer.Argument(metavar="VOLUME")]) -> None:
    """Say that what is at the root of a volume is that volume, although it is not marked so: after it was restored."""
    _volume(_volumes(), volume).mark()


def _volumes() -> Volumes:
    try:
        return Volumes.from_settings(settings())
    except BadVolume as error:
        sys.exit(f"refold: {error}")


def _volume(volumes: Volumes, name: str) -> Volume:
    try:
        return volumes.at(f"{volumes.service}:{name}")
    except NoVolume as error:
        sys.exit(f"refold: {error}")


T = TypeVar("T")


def _with_log(work: Callable[[Settings, Log, Volumes], Awaitable[T]]) -> T:
    async def run() -> T:
        async with KafkaLog(settings()) as log:
            return await work(settings(), log, volumes)

    volumes = _volumes()
    try:
        return asyncio.run(run())
    except (LogError, OSError) as error:
        sys.exit(f"refold: {error}")


if __name__ == "__main__":
    app()
