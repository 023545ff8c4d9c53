"""Passes for storage services: short-lived signed tokens that say what their bearer may do there, and to what.

The api makes them, one for each thing it lets somebody do. The key is derived from the internal key for one service, so
that no service can make passes for another.
"""

import base64
import time
from typing import Annotated, Final, Literal
from uuid import uuid4

import jwt
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pydantic import Field, TypeAdapter, ValidationError

from domain.messages import Value
from domain.vfolder.mounts import FolderRef
from infra.secrets import BadKey, BadToken
from infra.settings import Settings

UPLOAD_SECONDS: Final = 86_400.0
DOWNLOAD_SECONDS: Final = 3_600.0
MANAGE_SECONDS: Final = 60.0

_KEY_BYTES: Final = 32
_AUDIENCE: Final = "refold-storage/"


class _Pass(Value):
    """`actor`: who asked for it, as the log names him. `pass_id`: each has another."""

    folder: FolderRef
    actor: str
    pass_id: str = Field(default_factory=lambda: str(uuid4()))


class UploadPass(_Pass):
    """Write this one file, of exactly so many bytes, once."""

    may: Literal["upload"] = "upload"
    path: str
    size: int = Field(ge=0)


class DownloadPass(_Pass):
    """Read this one file; with `archive`, a whole folder as one file."""

    may: Literal["download"] = "download"
    path: str
    archive: bool = False


class ManagePass(_Pass):
    """For the api itself: look into the folder or, with `writes`, change it."""

    may: Literal["manage"] = "manage"
    writes: bool = False


class VolumesPass(Value):
    """For the api itself: what volumes there are."""

    may: Literal["volumes"] = "volumes"


StoragePass = Annotated[UploadPass | DownloadPass | ManagePass | VolumesPass, Field(discriminator="may")]
_PASSES: TypeAdapter[StoragePass] = TypeAdapter(StoragePass)


def storage_key(settings: Settings, name: str) -> str:
    """What the api and this one storage service sign with, in base64. Raises `BadKey`."""
    internal = settings.internal_key.get_secret_value()
    if own := settings.storage_key.get_secret_value() if not internal else "":
        return own
    if len(internal.encode()) < _KEY_BYTES:
        raise BadKey(f"REFOLD_INTERNAL_KEY must have at least {_KEY_BYTES} characters")
    derive = HKDF(algorithm=SHA256(), length=_KEY_BYTES, salt=None, info=f"refold storage key/{name}".encode())
    return base64.b64encode(derive.derive(internal.encode())).decode()


def make_pass(settings: Settings, name: str, what: StoragePass, seconds: float) -> str:
    """The token, for the storage service of that name. Raises `BadKey`."""
    claims = {"aud": _AUDIENCE + name, "exp": time.time() + seconds, "pass": what.model_dump(mode="json")}
    return jwt.encode(claims, storage_key(settings, name), algorithm="HS256")


def read_pass(settings: Settings, name: str, token: str) -> StoragePass:
    """What the bearer may do. Raises `BadToken` unless it is ours, fresh and for this service; `BadKey`."""
    try:
        claims = jwt.decode(
            token,
            storage_key(settings, name),
            algorithms=["HS256"],
            audience=_AUDIENCE + name,
            options={"require": ["exp", "aud", "pass"]},
        )
        return _PASSES.validate_python(claims["pass"])
    except jwt.PyJWTError as error:
        raise BadToken(f"not a token of ours: {error}") from error
    except ValidationError as error:
        raise BadToken("the token does not say what it is for") from error
