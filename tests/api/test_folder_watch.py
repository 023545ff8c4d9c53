"""Who waits for what happens to folders is told the first of it, and forgotten when he waits no more."""

from api.folders.live import Awaited, FolderWatch
from infra.log import Partition, Record

READY = Awaited("user:ada", "FolderReady", "f1")
FAILED = Awaited("user:ada", "FolderFailed", "f1")


def happens(watch: FolderWatch, what: Awaited, offset: int) -> None:
    headers = {"ce_type": what.kind.encode(), "ce_subject": what.subject.encode()}
    record = Record(Partition("vfolder.events", 0), offset, what.scope.encode(), tuple(headers.items()), b"{}")
    watch.take(record, headers)


async def test_the_first_of_what_one_waits_for_ends_the_waiting() -> None:
    watch = FolderWatch()
    with watch.expecting(READY, FAILED) as future, watch.expecting(READY) as other:
        happens(watch, READY._replace(scope="user:eve"), 1)
        happens(watch, READY._replace(subject="f2"), 2)
        assert not future.done()
        happens(watch, FAILED, 3)
        happens(watch, READY, 4)
        assert (future.result().kind, other.result().kind) == ("FolderFailed", "FolderReady")
        assert future.result().position.offsets == {Partition("vfolder.events", 0): 4}


async def test_who_waits_no_more_is_forgotten() -> None:
    watch = FolderWatch()
    with watch.expecting(READY, FAILED) as future:
        pass
    happens(watch, READY, 1)
    assert not future.done()
    assert watch.waiting == 0
