"""Sharing, told from each side: the folder's owner, and whoever is invited."""

from typing import Any

import pytest

from domain.context import Send
from domain.messages import UserId
from domain.vfolder.deciding.inviting import MEMBERS_MAX
from domain.vfolder.messages.between import (
    AmendInvitation,
    CloseInvitation,
    ConfirmMembership,
    FollowFolder,
    ForgetFolder,
    LoseMember,
    WithdrawInvitation,
)
from domain.vfolder.messages.common import Member
from domain.vfolder.messages.life import FolderCreated, FolderMountRefused, FolderPurging, ScopeClosed
from domain.vfolder.messages.reports import CloseScope
from domain.vfolder.messages.requests import (
    AcceptInvitation,
    CancelInvitation,
    ChangeInvitation,
    LeaveFolder,
    PurgeFolder,
    RejectInvitation,
    RemoveMember,
    RenameFolder,
    SetMember,
)
from domain.vfolder.messages.sharing import (
    AdmissionRefused,
    FolderFollowed,
    FolderInvited,
    FolderJoined,
    FolderLeft,
    FolderTaken,
    InvitationAccepted,
    InvitationAmended,
    InvitationClosed,
    InvitationRejected,
    InvitationWithdrawn,
    MemberAdmitted,
    MemberRemoved,
    MemberSet,
)
from tests.domain.folder_world import FolderWorld
from tests.domain.folders import (
    ADA,
    ADAS,
    BOB,
    BOBS,
    EVE,
    EVES,
    F1,
    F2,
    I1,
    I2,
    NOW,
    RO,
    RW,
    TEAMS,
    WD,
    about,
    admit,
    create,
    invitation,
    invite,
    invited,
    joined,
    limit,
    made,
    mount,
    nobody,
    receive,
    ref,
    shared,
    teams,
    transfer,
    trash,
    trashed,
    with_data,
)
from tests.domain.spec import Outcome

ACCEPT = invitation(AcceptInvitation, EVES)
CANCEL = invitation(CancelInvitation)
WITHDRAW = invitation(WithdrawInvitation, EVES)
CONFIRM = invitation(ConfirmMembership, EVES)
asked = with_data.and_when(invite())
accepted = invited.and_when(ACCEPT)


def told(outcome: Outcome) -> list[Any]:
    """What other owners are told in consequence."""
    return [send.message for send in outcome.told("vfolder")]


# -- the owner ---------------------------------------------------------------------------------------------------------


def test_an_invitation_is_received_by_whom_it_is_for() -> None:
    invited_her = with_data.when(invite())
    invited_her.then(
        FolderInvited(**about(), invitation_id=I1, inviter=ADA, invitee=EVE, permission=RO),
    )
    assert told(invited_her) == [receive()]


def test_who_is_invited_or_has_it_already_stays_what_he_is() -> None:
    again = asked.when(invite(invitation_id=I2, permission=WD))
    again.then_nothing()
    assert again.unneeded is not None
    assert again.unneeded.subject == I1
    shared.when(invite(invitation_id=I2, permission=WD)).then_nothing()
    with_data.when(invite(ADA)).then_refused("owner_invited")
    asked.when(invite(BOB)).then_refused("invitation_id_taken")


def test_only_what_is_there_and_a_users_is_offered() -> None:
    trashed.when(invite()).then_refused("folder_not_ready")
    nobody.when(invite()).then_refused("unknown_folder")
    teams.when(invite().model_copy(update={"scope": TEAMS})).then_refused("project_folder")


def test_who_accepts_gets_what_he_was_offered_last() -> None:
    change = invitation(ChangeInvitation, permission=WD)
    changed = asked.when(change)
    assert told(changed) == [invitation(AmendInvitation, EVES, permission=WD)]
    comes = asked.and_when(change).when(admit())
    comes.then(MemberAdmitted(**about(), invitation_id=I1, user_id=EVE, permission=WD))
    assert told(comes) == [CONFIRM]
    asked.when(invitation(ChangeInvitation, permission=RO)).then_nothing()
    with_data.when(change).then_refused("unknown_invitation")


@pytest.mark.parametrize(
    "ending", [CANCEL, trash(), transfer, invitation(CloseInvitation, folder_id=F1)], ids=lambda each: each.type
)
def test_an_acceptance_that_comes_too_late_is_answered(ending: Any) -> None:
    late = asked.and_when(ending).when(admit())
    late.then_types(AdmissionRefused)
    assert told(late) == [WITHDRAW]


def test_the_acceptance_of_somebody_else_counts_nothing() -> None:
    asked.when(admit(BOB)).then_types(AdmissionRefused)


@pytest.mark.parametrize("ending", [CANCEL, trash(), transfer], ids=lambda each: each.type)
def test_who_was_invited_hears_that_he_no_longer_is(ending: Any) -> None:
    closed = asked.when(ending).only(InvitationClosed)
    assert Send("vfolder", WITHDRAW) in asked.context.consequences(closed, asked.state)
    asked.and_when(ending).when(CANCEL).then_refused("unknown_invitation")


def test_who_rejected_is_not_told_of_it() -> None:
    assert told(asked.when(invitation(CloseInvitation, folder_id=F1))) == []
    with_data.when(invitation(CloseInvitation, folder_id=F1)).then_nothing()


def test_an_owner_says_what_a_member_may_do_and_takes_it_back() -> None:
    set_member = SetMember(**about(), user_id=EVE, permission=RO)
    shared.when(set_member).then(MemberSet(**about(), user_id=EVE, permission=RO))
    shared.and_when(set_member).when(mount(RW, EVE)).then_types(FolderMountRefused)
    shared.and_when(set_member).when(set_member).then_nothing()
    with_data.when(set_member).then_refused("unknown_member")
    remove = RemoveMember(**about(), user_id=EVE)
    removed = shared.when(remove)
    removed.then(MemberRemoved(**about(), user_id=EVE))
    assert told(removed) == [ForgetFolder(**about(F1, EVES), owner=ADAS)]
    shared.and_when(remove).when(mount(RO, EVE)).then_types(FolderMountRefused)
    shared.and_when(remove).when(remove).then_nothing()


def test_in_a_projects_folder_anybody_has_rights_of_his_own_and_is_no_guest() -> None:
    set_member = SetMember(**about(F1, TEAMS), user_id=EVE, permission=WD)
    teams.when(set_member).then_types(MemberSet)
    removed = teams.and_when(set_member).when(RemoveMember(**about(F1, TEAMS), user_id=EVE))
    removed.then_types(MemberRemoved)
    assert told(removed) == []


def test_members_see_a_folder_under_its_new_name() -> None:
    renamed = shared.when(RenameFolder(**about(), name="more"))
    assert told(renamed) == [FollowFolder(**about(F1, EVES), folder=ref(), name="more")]


def test_who_leaves_is_no_member_any_more() -> None:
    lose = LoseMember(**about(), user_id=EVE)
    left = shared.when(lose)
    left.then(MemberRemoved(**about(), user_id=EVE, left=True))
    assert told(left) == []
    with_data.when(lose).then_nothing()


def test_members_and_invitations_end_with_their_folder() -> None:
    both = shared.and_when(invite(BOB, I2), trash())
    gone = both.when(PurgeFolder(**about()))
    gone.then_types(MemberRemoved, FolderPurging)
    assert told(gone) == [ForgetFolder(**about(F1, EVES), owner=ADAS)]


def test_a_folder_has_a_bounded_number_of_members() -> None:
    state: Any = shared.state.folders[F1]
    many = dict.fromkeys((UserId(f"u{n}") for n in range(MEMBERS_MAX)), RO)
    full = FolderTaken(
        **about(F1, EVES),
        giver=ADAS,
        name="data",
        spec=state.spec,
        members=tuple(Member(user_id=each, permission=RO) for each in many),
        used_bytes=0,
        files=0,
        created_at=NOW,
    )
    crowd = type(nobody)(nobody.context, nobody.context.evolve(nobody.state, full))
    crowd.when(invite(BOB).model_copy(update={"scope": EVES})).then_refused("too_many_members")


# -- whoever is invited ------------------------------------------------------------------------------------------------


def test_what_is_accepted_takes_its_name_and_is_there_when_the_owner_has_said_so() -> None:
    accepts = invited.when(ACCEPT)
    accepts.then(InvitationAccepted(at=NOW, scope=EVES, invitation_id=I1, folder=ref(), name="data"))
    assert told(accepts) == [admit()]
    accepted.when(create("data", F2, EVES)).then_refused("folder_name_taken")
    accepted.when(ACCEPT).then_nothing()
    accepted.when(CONFIRM).then_types(FolderJoined)
    joined.when(create("data", F2, EVES)).then_refused("folder_name_taken")
    joined.when(CONFIRM).then_nothing()


def test_nobody_accepts_a_folder_whose_name_is_taken_by_one_of_his() -> None:
    invited.and_when(create("data", F2, EVES)).when(ACCEPT).then_refused("folder_name_taken")
    invited.and_when(create("data", F2, EVES), made(F2, EVES)).when(ACCEPT).then_refused("folder_name_taken")


def test_nobody_accepts_what_he_has_or_is_about_to_have() -> None:
    again = receive().model_copy(update={"invitation_id": I2, "name": "other"})
    accept = ACCEPT.model_copy(update={"invitation_id": I2})
    accepted.and_when(again).when(accept).then_refused("folder_joined_already")
    joined.and_when(again).when(accept).then_refused("folder_joined_already")


def test_what_is_withdrawn_gives_its_name_back() -> None:
    invited.when(WITHDRAW).then(InvitationWithdrawn(at=NOW, scope=EVES, invitation_id=I1, folder_id=F1))
    withdrawn = accepted.and_when(WITHDRAW)
    withdrawn.when(create("data", F2, EVES)).then_types(FolderCreated)
    withdrawn.when(WITHDRAW).then_nothing()
    withdrawn.when(ACCEPT).then_refused("unknown_invitation")


def test_what_is_rejected_is_told_to_the_owner() -> None:
    reject = invitation(RejectInvitation, EVES)
    rejects = invited.when(reject)
    rejects.then(InvitationRejected(at=NOW, scope=EVES, invitation_id=I1, folder=ref()))
    assert told(rejects) == [invitation(CloseInvitation, folder_id=F1)]
    accepted.when(reject).then_refused("invitation_accepted")
    nobody.when(reject).then_refused("unknown_invitation")


def test_an_invitation_is_received_once_and_amended_while_it_is_undecided() -> None:
    invited.when(receive(WD)).then_nothing()
    amend = invitation(AmendInvitation, EVES, permission=WD)
    invited.when(amend).then(InvitationAmended(at=NOW, scope=EVES, invitation_id=I1, permission=WD))
    invited.and_when(amend).when(amend).then_nothing()
    joined.when(amend).then_nothing()


def test_a_member_keeps_his_name_for_a_folder_whose_new_one_is_taken_at_his() -> None:
    follow = FollowFolder(**about(F1, EVES), folder=ref(), name="more")
    joined.when(follow).then(FolderFollowed(**about(F1, EVES), folder=ref(), name="more"))
    joined.and_when(create("more", F2, EVES)).when(follow).then_nothing()
    joined.and_when(follow).when(create("data", F2, EVES)).then_types(FolderCreated)
    joined.and_when(follow).when(follow).then_nothing()


def test_a_guest_leaves_and_an_owner_cannot() -> None:
    leave = LeaveFolder(**about(F1, EVES))
    leaves = joined.when(leave)
    leaves.then(FolderLeft(**about(F1, EVES), folder=ref(), left=True))
    assert told(leaves) == [LoseMember(**about(), user_id=EVE)]
    joined.and_when(leave).when(leave).then_refused("unknown_folder")
    with_data.when(LeaveFolder(**about())).then_refused("owner_cannot_leave")


def test_a_guest_forgets_what_its_owner_took_back_and_nothing_else() -> None:
    forget = ForgetFolder(**about(F1, EVES), owner=ADAS)
    forgets = joined.when(forget)
    forgets.then(FolderLeft(**about(F1, EVES), folder=ref(), left=False))
    assert told(forgets) == []
    joined.when(forget.model_copy(update={"owner": BOBS})).then_nothing()
    invited.when(forget).then_nothing()


def test_whoever_was_purged_takes_nothing_and_leaves_everything() -> None:
    close = CloseScope(at=NOW, scope=EVES)
    joined.when(close).then_types(ScopeClosed, FolderLeft)
    invited.when(close).then_types(ScopeClosed, InvitationRejected)
    nobody.and_when(close).when(receive()).then_types(InvitationRejected)
    accepted.and_when(close).when(CONFIRM).then_types(FolderJoined, FolderLeft)


# -- both, whatever overtakes what -------------------------------------------------------------------------------------

RIVALS: dict[str, tuple[Any, ...]] = {
    "nothing": (),
    "cancelled": (CANCEL,),
    "changed": (invitation(ChangeInvitation, permission=WD),),
    "trashed": (trash(),),
    "trashed and purged": (trash(), PurgeFolder(**about())),
    "given away": (transfer.model_copy(update={"to": BOBS}),),
    "given to whoever is invited": (transfer,),
    "renamed": (RenameFolder(**about(), name="more"),),
    "renamed and removed": (RenameFolder(**about(), name="more"), RemoveMember(**about(), user_id=EVE)),
    "owner gone": (CloseScope(at=NOW, scope=ADAS),),
    "guest gone": (CloseScope(at=NOW, scope=EVES),),
    "name taken": (create("data", F2, EVES),),
    "left": (LeaveFolder(**about(F1, EVES)),),
    "left and given away": (LeaveFolder(**about(F1, EVES)), transfer.model_copy(update={"to": BOBS})),
}


def _invited_world() -> FolderWorld:
    world = FolderWorld()
    for command in (limit(), limit(EVES), limit(BOBS), create(), made(used_bytes=7)):
        world.send("beginning", command)
        world.deliver_all()
    world.work.clear()
    world.send("user", invite())
    world.send("eve", ACCEPT)
    return world


@pytest.mark.parametrize("rivals", RIVALS.values(), ids=RIVALS)
def test_an_invitation_ends_with_both_sides_agreeing_wherever_either_crashed_and_whatever_overtook_what(
    rivals: tuple[Any, ...],
) -> None:
    """Every order in which the messages may arrive is tried, and before each one everybody is started again."""
    unexplored: list[tuple[int, ...]] = [()]
    seen: set[tuple[str, str]] = set()
    while unexplored:
        path = unexplored.pop()
        world = _invited_world()
        for rival in rivals:
            world.send("rivals", rival)
        step = 0
        while world.channels:
            open_now = sorted(world.channels)
            if step < len(path):
                choice = path[step]
            else:
                choice = 0
                unexplored += [(*path, other) for other in range(1, len(open_now))]
                path = (*path, 0)
            world.crash()
            world.deliver(open_now[choice])
            step += 1
            if step >= len(path):
                here = (repr(sorted(world.history.items())), repr(sorted(world.channels.items())))
                if here in seen:
                    break
                seen.add(here)
        else:
            world.settle()
            world.at_rest()
