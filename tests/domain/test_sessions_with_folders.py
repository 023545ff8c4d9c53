"""What folders mean to a session: which agents it may go to, what a refusal ends, and sessions that only reach them."""

import pytest

from domain.session.consequences import SESSION
from domain.session.messages import KernelEnded, SessionEnded, SessionSpec
from domain.session.status import Reason, SessionType
from domain.vfolder.mounts import Mount
from tests.domain.sessions import (
    A1,
    A2,
    INTERACTIVE,
    K1,
    K2,
    admit,
    admitted,
    failed,
    limits,
    place,
    request,
    sent,
    statuses,
    two_running,
)
from tests.domain.spec import given

USER = "00000000-0000-0000-0000-0000000000aa"


def mount(host: str = "local:volume1", unmanaged_path: str | None = None) -> Mount:
    folder = {"scope": f"user:{USER}", "folder_id": USER, "host": host}
    told = {"folder": folder, "user_id": USER, "name": "data", "path": "/home/work/data", "permission": "rw"}
    return Mount.model_validate(told | {"unmanaged_path": unmanaged_path})


def having(*mounts: Mount) -> SessionSpec:
    return INTERACTIVE.model_copy(update={"mounts": mounts})


def system() -> SessionSpec:
    return INTERACTIVE.model_copy(update={"session_type": SessionType.SYSTEM})


def test_a_session_goes_where_its_folders_are() -> None:
    mounts = (mount(), mount(), mount("other:fast"), mount(unmanaged_path="/data"))
    outcome = admitted.when(request(having(*mounts)))
    [demand] = [send.message for send in outcome.sends if send.to == "scheduling"]
    needs = ("volume:local:volume1", "volume:other:fast", "unmanaged-folders")
    assert demand.model_dump()["claim"]["needs"] == needs


def test_every_kernel_has_the_folders_of_its_session() -> None:
    outcome = admitted.and_when(request(having(mount()), kernels=2)).when(place(A1, A2))
    orders = [send.message.model_dump() for send in outcome.sends if send.to == "placements"]
    assert [order["mounts"] for order in orders] == [(mount().model_dump(),)] * 2


@pytest.mark.parametrize("kernel", [K1, K2])
def test_a_folder_that_cannot_be_had_ends_the_session_and_is_tried_nowhere_else(kernel: object) -> None:
    two = admitted.and_when(request(having(mount()), kernels=2), place(A1, A2))
    agent = A1 if kernel == K1 else A2
    refusal = failed(kernel, Reason.MOUNT_REFUSED, agent=agent, message="no such part")  # type: ignore[arg-type]
    outcome = two.when(refusal)
    assert outcome.only(KernelEnded).message == "no such part"
    assert statuses(outcome) == [("TERMINATING", "mount-refused")]
    assert len(sent(outcome, "placements")) == 1, "the other one is stopped"
    alone = admitted.and_when(request(having(mount())), place(A1))
    over = alone.when(failed(K1, Reason.MOUNT_REFUSED))
    assert (over.only(SessionEnded).status.value, over.only(SessionEnded).reason) == ("ERROR", Reason.MOUNT_REFUSED)
    going = two_running.and_when(failed(K2, Reason.START_FAILED, agent=A2))
    assert going.state.living, "while one that failed elsewise may be missed"


def test_sessions_that_reach_folders_are_counted_for_themselves() -> None:
    one_each = given(SESSION).and_when(
        admit(limits(1)),
        request(),
        request(system(), session_id="s2", name="b", kernels=({"kernel_id": "k", "role": "main", "index": 1},)),
    )
    for spec in (system(), INTERACTIVE):
        one_each.when(request(spec, session_id="s3", name="c")).then_refused("too_many_sessions")
    none = limits(1).model_copy(update={"max_concurrent_sftp_sessions": 0})
    given(SESSION).and_when(admit(none)).when(request(system())).then_refused("too_many_sessions")
    assert one_each.state.living["s2"].spec.session_type is SessionType.SYSTEM
