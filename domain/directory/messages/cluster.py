"""What is said to all users of a cluster, whether it takes new sessions, and which of them do too little."""

from enum import StrEnum
from typing import Literal

from pydantic import Field

from domain.directory.messages.common import KEY, DirectoryCommand
from domain.messages import Event
from domain.session.idling import UtilisationRule


class ManagerStatus(StrEnum):
    """`FROZEN`: no new sessions; those that are there go on."""

    RUNNING = "running"
    FROZEN = "frozen"


class SetAnnouncement(DirectoryCommand):
    type: Literal["SetAnnouncement"] = "SetAnnouncement"
    enabled: bool
    message: str = Field("", max_length=65536)

    @property
    def subject(self) -> str:
        return KEY


class SetManagerStatus(DirectoryCommand):
    type: Literal["SetManagerStatus"] = "SetManagerStatus"
    status: ManagerStatus

    @property
    def subject(self) -> str:
        return KEY


class SetUtilisationRule(DirectoryCommand):
    """Which sessions do too little. None: none does."""

    type: Literal["SetUtilisationRule"] = "SetUtilisationRule"
    rule: UtilisationRule | None

    @property
    def subject(self) -> str:
        return KEY


class AnnouncementSet(Event):
    type: Literal["AnnouncementSet"] = "AnnouncementSet"
    enabled: bool
    message: str

    @property
    def subject(self) -> str:
        return KEY


class ManagerStatusSet(Event):
    type: Literal["ManagerStatusSet"] = "ManagerStatusSet"
    status: ManagerStatus

    @property
    def subject(self) -> str:
        return KEY


class UtilisationRuleSet(Event):
    type: Literal["UtilisationRuleSet"] = "UtilisationRuleSet"
    rule: UtilisationRule | None

    @property
    def subject(self) -> str:
        return KEY


ClusterCommands = SetAnnouncement | SetManagerStatus | SetUtilisationRule
ClusterEvents = AnnouncementSet | ManagerStatusSet | UtilisationRuleSet
