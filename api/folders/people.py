"""Which users are meant, by their emails or ids."""

from collections.abc import Sequence

from api.folders.finding import id_in
from api.http.problems import refused
from domain.directory.state import Directory, User
from domain.messages import UserId


def users_of(emails: Sequence[str], directory: Directory) -> list[User]:
    """Those that are there, once each."""
    found = (directory.user_by_email(email) for email in dict.fromkeys(emails))
    return [user for user in found if user is not None and user.active]


def user_of(reference: str, directory: Directory) -> User:
    """By id or email. Raises `Problem` (404)."""
    user = directory.users.get(UserId(id_in(reference) or reference)) or directory.user_by_email(reference)
    if user is None:
        raise refused("unknown_user", f"no user {reference}", "user")
    return user
