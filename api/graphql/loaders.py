"""What belongs to the items of a list, fetched for all of them at once. For one request, and gone with it."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime

from strawberry.dataloader import DataLoader

from domain.directory.images import ImageKey
from infra import live_stats
from infra.live_stats import HostMeasured, Measured, Placed, Pulled
from infra.postgres import Connection
from projections import compute_sessions
from projections.compute_sessions import ListedKernel, ListedSession
from projections.directory import images, keypairs, tenants, users
from projections.directory.keypairs import ListedKeypair
from projections.directory.tenants import Membership
from projections.directory.users import ListedUser
from projections.folders import listed as folders
from projections.folders.listed import ListedFolder

Statuses = tuple[str, ...] | None


class Loaders:
    """`db` opens a connection to the projections."""

    def __init__(self, db: Callable[[], AbstractAsyncContextManager[Connection]]) -> None:
        self._db = db
        self.users = DataLoader(self._users)
        self.projects_of_users = DataLoader(self._projects_of_users)
        self.keypairs_of_users = DataLoader(self._keypairs_of_users)
        self.folders_of_users = DataLoader(self._folders_of_users)
        self.kernels_of_sessions = DataLoader(
            self._kernels_of_sessions, cache_key_fn=lambda each: (each.owner, each.session_id)
        )
        self.sessions_of_keypairs = DataLoader(self._sessions_of_keypairs)
        self.kernels_of_agents = DataLoader(self._kernels_of_agents)
        self.stats_of_kernels = DataLoader(self._stats_of_kernels)
        self.means_of_kernels = DataLoader(self._means_of_kernels)
        self.pulls_of_kernels = DataLoader(self._pulls_of_kernels)
        self.stats_of_agents = DataLoader(self._stats_of_agents)
        self.images_of_agents = DataLoader(self._images_of_agents)
        self.agents_with_images = DataLoader(self._agents_with_images)

    async def _users(self, user_ids: list[str]) -> Sequence[ListedUser | None]:
        async with self._db() as db:
            found = await users.users_by_ids(db, user_ids)
        return [found.get(user_id) for user_id in user_ids]

    async def _projects_of_users(self, user_ids: list[str]) -> Sequence[Sequence[Membership]]:
        async with self._db() as db:
            found = await tenants.projects_of_users(db, user_ids)
        return [found[user_id] for user_id in user_ids]

    async def _keypairs_of_users(self, user_ids: list[str]) -> Sequence[Sequence[ListedKeypair]]:
        async with self._db() as db:
            found = await keypairs.keypairs_of_users(db, user_ids)
        return [found[user_id] for user_id in user_ids]

    async def _folders_of_users(self, user_ids: list[str]) -> Sequence[Sequence[ListedFolder]]:
        async with self._db() as db:
            found = await folders.of_users(db, user_ids)
        return [found[user_id] for user_id in user_ids]

    async def _kernels_of_sessions(self, sessions: list[ListedSession]) -> Sequence[Sequence[ListedKernel]]:
        async with self._db() as db:
            found = await compute_sessions.kernels_of_sessions(db, sessions)
        return [found[each.owner, each.session_id] for each in sessions]

    async def _sessions_of_keypairs(self, asked: list[tuple[str, Statuses]]) -> Sequence[Sequence[ListedSession]]:
        found: dict[Statuses, Mapping[str, Sequence[ListedSession]]] = {}
        async with self._db() as db:
            for statuses, access_keys in _by_statuses(asked).items():
                found[statuses] = await compute_sessions.sessions_of_keypairs(db, access_keys, statuses)
        return [found[statuses][access_key] for access_key, statuses in asked]

    async def _kernels_of_agents(self, asked: list[tuple[str, Statuses]]) -> Sequence[Sequence[ListedKernel]]:
        found: dict[Statuses, Mapping[str, Sequence[ListedKernel]]] = {}
        async with self._db() as db:
            for statuses, agent_ids in _by_statuses(asked).items():
                found[statuses] = await compute_sessions.containers_of_agents(db, agent_ids, statuses)
        return [found[statuses][agent_id] for agent_id, statuses in asked]

    async def _stats_of_kernels(self, placed: list[Placed]) -> Sequence[Measured | None]:
        async with self._db() as db:
            found = await live_stats.of_kernels(db, placed)
        return [found.get(each) for each in placed]

    async def _means_of_kernels(self, asked: list[tuple[Placed, datetime]]) -> Sequence[Mapping[str, float]]:
        """With the beginning of the window, which is the same for all."""
        since = min(each for _, each in asked)
        async with self._db() as db:
            found = await live_stats.means(db, [placed for placed, _ in asked], since)
        return [found.get(placed, {}) for placed, _ in asked]

    async def _pulls_of_kernels(self, placed: list[Placed]) -> Sequence[Pulled | None]:
        async with self._db() as db:
            found = await live_stats.pulls(db, placed)
        return [found.get(each) for each in placed]

    async def _stats_of_agents(self, agent_ids: list[str]) -> Sequence[HostMeasured | None]:
        async with self._db() as db:
            found = await live_stats.of_agents(db, agent_ids)
        return [found.get(agent_id) for agent_id in agent_ids]

    async def _images_of_agents(self, agent_ids: list[str]) -> Sequence[Sequence[str]]:
        async with self._db() as db:
            found = await images.references_on_agents(db, agent_ids)
        return [found[agent_id] for agent_id in agent_ids]

    async def _agents_with_images(self, wanted: list[ImageKey]) -> Sequence[Sequence[str]]:
        async with self._db() as db:
            found = await images.agents_with(db, wanted)
        return [found[key] for key in wanted]


def _by_statuses(asked: Sequence[tuple[str, Statuses]]) -> Mapping[Statuses, list[str]]:
    grouped: defaultdict[Statuses, list[str]] = defaultdict(list)
    for key, statuses in asked:
        grouped[statuses].append(key)
    return grouped
