"""What a storage service says about each change of files that it made. Telemetry: not kept for ever, nothing is decided
by it."""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from domain.messages import Message
from domain.vfolder.mounts import FolderRef

Text = Annotated[str, Field(pattern=r"^[^\x00]*$")]
"""Of which no database takes NUL."""


class Operation(StrEnum):
    UPLOAD = "upload"
    MKDIR = "mkdir"
    RENAME = "rename"
    MOVE = "move"
    DELETE = "delete"


class FileOperation(Message):
    """`actor`: who asked for it, as the log names him. `path`: what was changed; `target`: what it is called now.
    `size_bytes`: of what was uploaded."""

    type: Literal["FileOperation"] = "FileOperation"
    folder: FolderRef
    actor: Text
    operation: Operation
    path: Text
    target: Text | None = None
    size_bytes: int | None = Field(default=None, ge=0, lt=2**63)

    @property
    def key(self) -> str:
        return self.folder.folder_id

    @property
    def subject(self) -> str:
        return self.folder.folder_id
