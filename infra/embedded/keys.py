"""Secrets that are made once, at the first start, and kept in two files only their owner may read.

`secrets.env` holds what the processes share; `admin.env` holds what the first administrator logs in with, in
the variables that the public Backend.AI client reads.
"""

import base64
import re
import secrets
import string
from dataclasses import dataclass
from pathlib import Path

from infra.embedded.folder import CannotStart, write_private

_UPPER = string.ascii_uppercase + string.digits


@dataclass(frozen=True)
class Credentials:
    """Of the administrator. The access key names them, the secret key signs, the password is for people."""

    access_key: str
    secret_key: str
    email: str
    password: str


def shared_secrets(data_dir: Path) -> dict[str, str]:
    """REFOLD_MASTER_KEY and REFOLD_INTERNAL_KEY of this data. Without the first the log's are lost."""
    file = data_dir / "secrets.env"
    if not file.exists():
        if (data_dir / "kafka").exists():
            raise CannotStart(f"{file} is gone, and without its master key the log beside it cannot be read")
        keys = {
            "REFOLD_MASTER_KEY": base64.b64encode(secrets.token_bytes(32)).decode(),
            "REFOLD_INTERNAL_KEY": secrets.token_urlsafe(32),
        }
        write_private(file, _lines(keys))
    return _read(file)


def admin_credentials(data_dir: Path, endpoint: str) -> Credentials:
    """The administrator's credentials, with the file brought up to date about where the api is."""
    file = data_dir / "admin.env"
    kept = _read(file) if file.exists() else {}
    lines = {
        "BACKEND_ENDPOINT": endpoint,
        "BACKEND_ENDPOINT_TYPE": "api",
        "BACKEND_ACCESS_KEY": kept.get("BACKEND_ACCESS_KEY") or "AKIA" + _random(_UPPER, 16),
        "BACKEND_SECRET_KEY": kept.get("BACKEND_SECRET_KEY") or _random(string.ascii_letters + string.digits, 40),
        "ADMIN_EMAIL": kept.get("ADMIN_EMAIL") or "admin@refold.local",
        "ADMIN_PASSWORD": kept.get("ADMIN_PASSWORD") or secrets.token_urlsafe(12),
    }
    if lines != kept:
        write_private(file, _lines(lines))
    return Credentials(
        access_key=lines["BACKEND_ACCESS_KEY"],
        secret_key=lines["BACKEND_SECRET_KEY"],
        email=lines["ADMIN_EMAIL"],
        password=lines["ADMIN_PASSWORD"],
    )


def _random(alphabet: str, length: int) -> str:
    return "".join(secrets.choice(alphabet) for _ in range(length))


def _lines(values: dict[str, str]) -> str:
    return "".join(f"{name}={value}\n" for name, value in values.items())  # none needs quoting in a shell


def _read(file: Path) -> dict[str, str]:
    return dict(re.findall(r"^(\w+)=(.*)$", file.read_text(), re.MULTILINE))
