"""Secrets on their way into commands and out of the directory: nothing secret is readable in the log."""

from api.http.deps import Services


async def sealed(all_: Services, subject: str, secret: str, about: str, command_id: str) -> str:
    """The secret as a command carries it. `subject`: whom it belongs to; `about`: what it is, needed to read it."""
    return await all_.keyring.seal(subject, secret, about, command_id)


async def revealed(all_: Services, text: str, about: str) -> str:
    """What was sealed. Raises `SecretError`."""
    return await all_.keyring.reveal(text, about)


async def sealed_for_registry(all_: Services, registry: str, password: str, command_id: str) -> str:
    """Its password, as the worker that looks through the registry opens it."""
    return await sealed(all_, f"registry:{registry}", password, about_registry(registry), command_id)


def about_registry(registry: str) -> str:
    """As what its password is sealed."""
    return f"registry/{registry}"
