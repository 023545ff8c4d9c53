"""Keypairs: what requests are signed with, and whose sessions are counted together."""

from typing import Annotated, Literal

from pydantic import Field
from typing_extensions import TypedDict

from domain.directory.messages.common import PARTIAL, DirectoryCommand, Name
from domain.messages import AccessKey, Event, Sealed, UserId, Value

RateLimit = Annotated[int, Field(ge=1, le=10**9)]


class KeypairSpec(Value):
    """`rate_limit`: requests in 15 minutes. `is_admin`: may act for other keypairs."""

    active: bool = True
    is_admin: bool = False
    resource_policy: Name = "default"
    rate_limit: RateLimit = 30_000


class KeypairChanges(TypedDict, total=False):
    __pydantic_config__ = PARTIAL  # type: ignore[misc]
    active: bool
    is_admin: bool
    resource_policy: Name
    rate_limit: RateLimit


class SshKeypair(Value):
    """The public key in OpenSSH's form, and the private one, which only its owner may see."""

    public_key: str = Field(max_length=16384)
    private_key: Sealed


class NewKeypair(Value):
    """A keypair that is to be. `secret_sealed`: the secret key."""

    access_key: AccessKey
    secret_sealed: Sealed
    spec: KeypairSpec = KeypairSpec()
    ssh: SshKeypair | None = None


# -- commands ----------------------------------------------------------------------------------------------------------


class KeypairCommand(DirectoryCommand):
    access_key: AccessKey

    @property
    def subject(self) -> str:
        return self.access_key


class CreateKeypair(NewKeypair, KeypairCommand):
    """A user's first keypair becomes his main one."""

    type: Literal["CreateKeypair"] = "CreateKeypair"
    user_id: UserId


class ModifyKeypair(KeypairCommand):
    type: Literal["ModifyKeypair"] = "ModifyKeypair"
    changes: KeypairChanges = KeypairChanges()


class SetSshKeypair(KeypairCommand):
    type: Literal["SetSshKeypair"] = "SetSshKeypair"
    ssh: SshKeypair


class SetBootstrapScript(KeypairCommand):
    """Run at the start of each of his kernels. None takes it away."""

    type: Literal["SetBootstrapScript"] = "SetBootstrapScript"
    script: Sealed | None


class DeleteKeypair(KeypairCommand):
    """For good. Refused for a user's main keypair while he has others."""

    type: Literal["DeleteKeypair"] = "DeleteKeypair"


# -- events ------------------------------------------------------------------------------------------------------------


class KeypairEvent(Event):
    access_key: AccessKey

    @property
    def subject(self) -> str:
        return self.access_key


class KeypairCreated(KeypairEvent):
    type: Literal["KeypairCreated"] = "KeypairCreated"
    user_id: UserId
    secret_sealed: Sealed
    spec: KeypairSpec
    ssh: SshKeypair | None = None


class KeypairModified(KeypairEvent):
    """`spec`: as it is now."""

    type: Literal["KeypairModified"] = "KeypairModified"
    spec: KeypairSpec


class SshKeypairSet(KeypairEvent):
    type: Literal["SshKeypairSet"] = "SshKeypairSet"
    ssh: SshKeypair


class BootstrapScriptSet(KeypairEvent):
    type: Literal["BootstrapScriptSet"] = "BootstrapScriptSet"
    script: Sealed | None


class KeypairDeleted(KeypairEvent):
    type: Literal["KeypairDeleted"] = "KeypairDeleted"


KeypairCommands = CreateKeypair | ModifyKeypair | SetSshKeypair | SetBootstrapScript | DeleteKeypair
KeypairEvents = KeypairCreated | KeypairModified | SshKeypairSet | BootstrapScriptSet | KeypairDeleted
