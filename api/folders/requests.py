"""What requests about folders say, in all the spellings of clients."""

from typing import Annotated, Any, Final

from pydantic import AfterValidator, AliasChoices, BeforeValidator, Field, WithJsonSchema

from api.http.parameters import Parameters
from domain.messages import Refused
from domain.slots import parse
from domain.vfolder.mounts import FolderName, Host, Permission, UsageMode

FILES_MAX: Final = 1000
"""Files that one request names, folders that it makes, users that it is about."""


def _no_nul(text: str) -> str:
    if "\x00" in text:
        raise ValueError("NUL characters are not allowed")
    return text


def _bytes(told: Any) -> Any:
    """Bytes, or text with a unit (`10g`)."""
    if not isinstance(told, str):
        return told
    try:
        return parse({"mem": told or "0"})["mem"]
    except Refused as refused:
        raise ValueError("bytes, or text like 10g") from refused


FilePath = Annotated[str, Field(max_length=4096), AfterValidator(_no_nul)]
"""In a folder, with `/`. What leads out of it is refused where the files are."""

FilePaths = Annotated[list[FilePath], Field(min_length=1, max_length=FILES_MAX)]
Reference = Annotated[str, Field(min_length=1, max_length=64)]
Emails = Annotated[list[Annotated[str, Field(min_length=1, max_length=320)]], Field(min_length=1, max_length=FILES_MAX)]
Size = Annotated[
    int,
    Field(ge=0, le=2**63 - 1),
    BeforeValidator(_bytes),
    WithJsonSchema(
        {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string"}], "description": "Bytes, or text like 10g."}
    ),
]


class NewFolder(Parameters):
    """`quota`: bytes it may have; 0: what its owner may have altogether. `group`: the project whose folder it is."""

    name: FolderName
    host: Host | None = Field(None, validation_alias=AliasChoices("host", "folder_host"))
    usage_mode: UsageMode = UsageMode.GENERAL
    permission: Permission = Permission.RW
    group: str | None = Field(
        None, max_length=128, validation_alias=AliasChoices("group", "group_id", "groupId"), description="Name or id."
    )
    quota: Size = 0
    cloneable: bool = False
    unmanaged_path: str | None = Field(None, max_length=4096, pattern=r"^/")


class NewClone(Parameters):
    target_name: FolderName
    target_host: Host | None = Field(None, validation_alias=AliasChoices("target_host", "folder_host"))
    usage_mode: UsageMode = UsageMode.GENERAL
    permission: Permission = Permission.RW
    cloneable: bool = False


class Listed(Parameters):
    all: bool = Field(False, description="Also those of others, whom an admin sees.")
    group_id: str | None = Field(
        None, max_length=128, validation_alias=AliasChoices("group_id", "groupId", "group"), description="Of a project."
    )


class Named(Parameters):
    name: Reference


class OfId(Parameters):
    id: Reference = Field(validation_alias=AliasChoices("id", "vfolder_id", "vfolderId"))


class NewName(Parameters):
    new_name: FolderName


class Options(Parameters):
    """What is left out stays."""

    permission: Permission | None = None
    cloneable: bool | None = None


class Restored(OfId):
    new_name: FolderName | None = Field(None, description="To be called so from now on.")


# -- files -------------------------------------------------------------------------------------------------------------


class Place(Parameters):
    """A page of at most `limit` files: those after the one called `after`. All at once where no limit is given."""

    path: FilePath = "."
    limit: int | None = Field(None, ge=1, le=10_000)
    after: str | None = Field(None, max_length=4096)


class NewUpload(Parameters):
    path: FilePath = Field(min_length=1)
    size: int = Field(ge=0, le=2**63 - 1)


class NewDownload(Parameters):
    path: FilePath = Field(validation_alias=AliasChoices("path", "file"))
    archive: bool = Field(False, description="A directory, as one file.")


class NewDirectories(Parameters):
    """One, or several."""

    path: FilePath | FilePaths
    parents: bool = True
    exist_ok: bool = False

    @property
    def paths(self) -> list[str]:
        return [self.path] if isinstance(self.path, str) else self.path


class Doomed(Parameters):
    files: FilePaths
    recursive: bool = False


class NewFileName(Parameters):
    target_path: FilePath
    new_name: FilePath = Field(min_length=1)
    is_dir: bool | None = Field(None, description="Whether it is a directory; left out: whatever it is.")


class Move(Parameters):
    src: FilePath
    dst: FilePath


# -- others ------------------------------------------------------------------------------------------------------------


class NewInvitations(Parameters):
    perm: Permission = Field(Permission.RO, validation_alias=AliasChoices("perm", "permission"))
    emails: Emails = Field(validation_alias=AliasChoices("emails", "user_ids"))


class OfInvitation(Parameters):
    inv_id: Reference


class NewPermission(Parameters):
    perm: Permission = Field(validation_alias=AliasChoices("perm", "permission"))


class Sharing(Parameters):
    permission: Permission = Field(Permission.RW, validation_alias=AliasChoices("permission", "perm"))
    emails: Emails


class Unsharing(Parameters):
    emails: Emails


class Leaving(Parameters):
    shared_user_uuid: str | None = Field(None, max_length=64, description="Of whom its owner takes it away.")


class SharedSought(Parameters):
    vfolder_id: Reference | None = Field(None, validation_alias=AliasChoices("vfolder_id", "vfolderId"))


class SharedChange(Parameters):
    """`perm` left out: he has it no more."""

    vfolder: Reference = Field(validation_alias=AliasChoices("vfolder", "vfolder_id"))
    user: Reference
    perm: Permission | None = Field(None, validation_alias=AliasChoices("perm", "permission"))


class NewOwner(Parameters):
    vfolder: Reference = Field(validation_alias=AliasChoices("vfolder", "vfolder_id"))
    user_email: str = Field(min_length=1, max_length=320)


# -- hosts -------------------------------------------------------------------------------------------------------------


class OfProject(Parameters):
    group_id: str | None = Field(
        None, max_length=128, validation_alias=AliasChoices("group_id", "groupId", "group"), description="Name or id."
    )


class OfHost(Parameters):
    folder_host: Host


class OfFolderOnHost(OfId):
    folder_host: Host | None = None


class QuotaInput(Parameters):
    size_bytes: Size


class NewQuota(OfFolderOnHost):
    input: QuotaInput


class Fstab(Parameters):
    agent_id: str | None = Field(None, max_length=128)
