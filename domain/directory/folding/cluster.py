"""Announcement, manager status, and what sessions have to do."""

from dataclasses import replace

from domain.directory.messages.cluster import AnnouncementSet, ClusterEvents, ManagerStatusSet, UtilisationRuleSet
from domain.directory.state import Announcement, Directory


def evolve(state: Directory, event: ClusterEvents) -> Directory:
    match event:
        case AnnouncementSet():
            return replace(state, announcement=Announcement(event.enabled, event.message))
        case ManagerStatusSet():
            return replace(state, manager_status=event.status)
        case UtilisationRuleSet():
            return replace(state, utilisation_rule=event.rule)
