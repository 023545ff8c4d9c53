"""What becomes of the word that a session is idle. It may be over: the session may be in use again, or run anew."""

from datetime import datetime

from domain.messages import Unneeded
from domain.session.following import Events, end
from domain.session.idling import MEASURED_TYPES, USED_TYPES, Underused, Unused, idle_for
from domain.session.messages import EndIdleSession
from domain.session.state import Session, Sessions
from domain.session.status import RUNNING, Reason


def end_idle(command: EndIdleSession, state: Sessions) -> Events:
    session = state.living.get(command.session_id)
    if session is None or session.status not in RUNNING or session.running_since is None:
        raise Unneeded("not_running", "the session does not run (any more)")
    if command.incarnation != session.main.incarnation:
        raise Unneeded("overtaken", "the session was started anew since")
    match command.evidence:
        case Unused():
            _check_unused(command.evidence, session, session.running_since, state, command.at)
            reason = Reason.IDLE_TIMEOUT
        case Underused():
            _check_underused(command.evidence, session, session.running_since, command.at)
            reason = Reason.LOW_UTILISATION
    return end(session, state, command.at, reason, forced=False)


def _check_unused(evidence: Unused, session: Session, since: datetime, state: Sessions, at: datetime) -> None:
    timeout = 0.0 if state.limits is None else state.limits.idle_timeout_seconds
    if not timeout or session.spec.session_type not in USED_TYPES:
        raise Unneeded("exempt", f"{session.spec.session_type.value} sessions of this owner need not be used")
    if (idle := idle_for(evidence.last_used_at, since, at)) < timeout:
        raise Unneeded("in_use", f"it was used {idle:.0f} s ago, and may be idle for {timeout:.0f} s")


def _check_underused(evidence: Underused, session: Session, since: datetime, at: datetime) -> None:
    if session.spec.session_type not in MEASURED_TYPES:
        raise Unneeded("exempt", f"{session.spec.session_type.value} sessions may do little")
    if at - since < evidence.rule.asked_from:
        raise Unneeded("too_early", "its window of time is not over yet")
    if not evidence.rule.is_met(evidence.means):
        raise Unneeded("in_use", "it does enough with what it was given")
