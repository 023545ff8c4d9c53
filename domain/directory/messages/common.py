"""What the directory's messages are made of. No secret is readable in them: passwords are hashed, keys sealed."""

from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field, StringConstraints

from domain.messages import Command, Value

KEY = "directory"
"""The one boundary key: emails, access keys and names are unique in the whole cluster."""

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,62}[A-Za-z0-9])?$")]
"""Of a domain, project, policy, preset or resource group."""

Text = Annotated[str, StringConstraints(max_length=4096)]
"""A description, for people."""

Reference = Annotated[str, StringConstraints(max_length=512)]
"""What something is called elsewhere: not ours to read."""

HostPermissions = dict[str, tuple[str, ...]]
"""Storage host → what may be done there (`create-vfolder`, `mount-in-session`, …)."""

PasswordHash = Annotated[str, Field(pattern=r"^\$argon2id\$", max_length=512)]

PARTIAL = ConfigDict(extra="forbid")
"""Of the `…Changes`: each names the fields of its `…Spec` that become different; what it does not name stays."""


class DirectoryCommand(Command):
    by_users: ClassVar[bool] = True
    """People may send it; which ones is the api's to say (`api.access.authority`)."""

    @property
    def key(self) -> str:
        return KEY


class Named(Value):
    """Has a name that says which one is meant."""

    name: Name

    @property
    def subject(self) -> str:
        return self.name
