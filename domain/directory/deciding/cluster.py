"""Announcement, manager status, and what sessions have to do."""

from domain.directory.deciding.references import Events
from domain.directory.messages.cluster import (
    AnnouncementSet,
    ClusterCommands,
    ManagerStatusSet,
    SetAnnouncement,
    SetManagerStatus,
    SetUtilisationRule,
    UtilisationRuleSet,
)
from domain.directory.state import Announcement, Directory


def decide(command: ClusterCommands, state: Directory) -> Events:
    match command:
        case SetAnnouncement():
            if state.announcement == Announcement(command.enabled, command.message):
                return []
            return [AnnouncementSet(at=command.at, enabled=command.enabled, message=command.message)]
        case SetManagerStatus():
            if state.manager_status is command.status:
                return []
            return [ManagerStatusSet(at=command.at, status=command.status)]
        case SetUtilisationRule():
            if state.utilisation_rule == command.rule:
                return []
            return [UtilisationRuleSet(at=command.at, rule=command.rule)]
