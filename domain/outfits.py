"""What a kernel is given by the api when it starts, because it is secret or may have changed since it was asked for.

An agent asks with a `Question`, in which everything secret is still sealed; the `Outfit` is the answer, in clear.
"""

from typing import Annotated, Final

from pydantic import Field, PlainSerializer, SecretStr

from domain.messages import AccessKey, ProjectId, Sealed, Value
from domain.vfolder.mounts import Mount

VARIABLES_MAX = 1000
"""Of one kernel's environment."""

MOUNT_REFUSED: Final = "mount-refused"
"""The problem that is the answer where a folder may not be mounted (any more)."""

Secret = Annotated[SecretStr, PlainSerializer(SecretStr.get_secret_value, when_used="json")]
"""In clear on its way to an agent (as JSON), and nowhere else: neither a traceback nor a log shows it."""


class Question(Value):
    """As the order to start the kernel has it."""

    owner: AccessKey
    image: str = Field(max_length=512)
    project_id: ProjectId | None = None
    environ: dict[str, Sealed] = Field({}, max_length=VARIABLES_MAX)
    bootstrap_script: Sealed | None = None
    mounts: tuple[Mount, ...] = ()


class GivenFile(Value):
    """A dotfile. `path` begins at the kernel's home; `mode` is octal."""

    path: str
    mode: str
    content: Secret


class SshIdentity(Value):
    """By which the kernels of one session know each other, and its owner gets in. All in OpenSSH's forms.

    `private`, `public`: of whoever may log in. `host_private`, `host_public`: of the kernels themselves.
    `authorized`: further public keys of those who may log in.
    """

    private: Secret
    public: str
    host_private: Secret
    host_public: str
    authorized: tuple[str, ...] = ()


class RegistryAccount(Value):
    """Who Refold is at an image's registry."""

    username: str
    password: Secret


class Outfit(Value):
    """Answer to a `Question`."""

    environ: dict[str, Secret] = Field({})
    bootstrap_script: Secret | None = None
    dotfiles: tuple[GivenFile, ...] = ()
    ssh: SshIdentity | None = None
    account: RegistryAccount | None = None
    mounts: tuple[Mount, ...] = Field((), description="With the permission that is granted now, which may be less.")
