"""Announcement and manager status."""

from dataclasses import replace

from domain.directory.messages.cluster import AnnouncementSet, ClusterEvents, ManagerStatusSet
from domain.directory.state import Announcement, Directory


def evolve(state: Directory, event: ClusterEvents) -> Directory:
    match event:
        case AnnouncementSet():
            return replace(state, announcement=Announcement(event.enabled, event.message))
        case ManagerStatusSet():
            return replace(state, manager_status=event.status)
