"""One thing, or a list of them, as far as the caller sees them. What he does not see is not there."""

from collections.abc import Sequence
from typing import Any

from api.access.authority import sees_project
from api.graphql.asking import Asking
from api.graphql.compute import Agent, ComputeContainer, ComputeSession
from api.graphql.lists import WHOLE, PaginatedList, listed, statuses
from api.graphql.types import (
    Domain,
    Group,
    Keypair,
    KeypairPolicy,
    ProjectPolicy,
    ResourcePreset,
    ScalingGroup,
    User,
    UserPolicy,
)
from api.http.problems import Problem
from domain.messages import ProjectId
from projections import agents, compute_sessions
from projections.compute_sessions import ListedKernel, ListedSession
from projections.directory import groups, keypairs, policies, tenants, users
from projections.directory.policies import PolicyKind
from projections.listing import Query

# -- tenants -----------------------------------------------------------------------------------------------------------


async def domain(asking: Asking, name: str) -> Domain | None:
    if not asking.sight.tenant(name):
        return None
    async with asking.db() as db:
        row = await tenants.domain(db, name)
    return None if row is None else Domain.of(row)


async def domains(asking: Asking, active: bool | None) -> list[Domain]:
    async with asking.db() as db:
        page = await tenants.domains(db, name=asking.sight.domain, active=active)
    return [Domain.of(row) for row in page.items]


async def group(asking: Asking, project_id: str, domain_name: str | None = None) -> Group | None:
    known = asking.directory.projects.get(ProjectId(project_id))
    async with asking.db() as db:
        row = await tenants.project(db, project_id)
    if row is None or known is None or not sees_project(asking.caller.identity, known):
        return None
    return Group.of(row) if domain_name in (None, row.domain) else None


async def projects(
    asking: Asking,
    domain_name: str | None,
    active: bool | None = None,
    name: str | None = None,
    types: Sequence[str] | None = None,
) -> list[Group]:
    if domain_name is not None and not asking.sight.tenant(domain_name):
        return []
    kinds = None if types is None else [each.lower().replace("_", "-") for each in types]
    async with asking.db() as db:
        page = await tenants.projects(
            db,
            domain=domain_name or asking.sight.domain,
            name=name,
            active=active,
            types=kinds,
            user_id=asking.sight.user_id,
        )
    return [Group.of(row) for row in page.items]


# -- people ------------------------------------------------------------------------------------------------------------


async def user(asking: Asking, user_id: str, domain_name: str | None = None) -> User | None:
    row = await asking.loaders.users.load(user_id)
    if row is None or domain_name not in (None, row.domain):
        return None
    return User.of(row) if asking.sees(row.domain, row.user_id) else None


async def user_by_email(asking: Asking, email: str, domain_name: str | None) -> User | None:
    async with asking.db() as db:
        row = await users.user_by_email(db, email)
    if row is None or domain_name not in (None, row.domain) or not asking.sees(row.domain, row.user_id):
        return None
    return User.of(row)


async def user_list(
    asking: Asking,
    query: Query = WHOLE,
    *,
    domain_name: str | None = None,
    project_id: str | None = None,
    active: bool | None = None,
    status: str | None = None,
) -> PaginatedList[User]:
    if domain_name is not None and not asking.sight.tenant(domain_name):
        return PaginatedList(items=[], total_count=0)
    wanted = None if status is None else [each.lower().replace("_", "-") for each in statuses(status) or ()]
    async with asking.db() as db:
        page = await users.users(
            db,
            query,
            domain=domain_name or asking.sight.domain,
            user_id=asking.sight.user_id,
            project_id=project_id,
            statuses=wanted,
            active=active,
        )
    return listed([User.of(row) for row in page.items], page)


async def keypair(asking: Asking, access_key: str, domain_name: str | None = None) -> Keypair | None:
    async with asking.db() as db:
        row = await keypairs.keypair(db, access_key)
    if row is None or domain_name not in (None, row.domain) or not asking.sees(row.domain, row.user_id):
        return None
    return Keypair.of(row)


async def keypair_list(
    asking: Asking,
    query: Query = WHOLE,
    *,
    domain_name: str | None = None,
    email: str | None = None,
    active: bool | None = None,
) -> PaginatedList[Keypair]:
    if domain_name is not None and not asking.sight.tenant(domain_name):
        return PaginatedList(items=[], total_count=0)
    async with asking.db() as db:
        page = await keypairs.keypairs(
            db,
            query,
            domain=domain_name or asking.sight.domain,
            email=email,
            user_id=asking.sight.user_id,
            active=active,
        )
    return listed([Keypair.of(row) for row in page.items], page)


# -- policies: a user sees those that count for him --------------------------------------------------------------------


async def keypair_policy(asking: Asking, name: str | None) -> KeypairPolicy | None:
    name = name or asking.caller.identity.keypair.spec.resource_policy
    row = await _policy(asking, PolicyKind.KEYPAIR, name)
    return None if row is None else KeypairPolicy.of(row)


async def keypair_policies(asking: Asking) -> list[KeypairPolicy]:
    return [KeypairPolicy.of(row) for row in await _policies(asking, PolicyKind.KEYPAIR)]


async def user_policy(asking: Asking, name: str | None) -> UserPolicy | None:
    name = name or asking.caller.identity.user.spec.resource_policy
    row = await _policy(asking, PolicyKind.USER, name)
    return None if row is None else UserPolicy.of(row)


async def user_policies(asking: Asking) -> list[UserPolicy]:
    return [UserPolicy.of(row) for row in await _policies(asking, PolicyKind.USER)]


async def project_policy(asking: Asking, name: str) -> ProjectPolicy | None:
    row = await _policy(asking, PolicyKind.PROJECT, name)
    return None if row is None else ProjectPolicy.of(row)


async def project_policies(asking: Asking) -> list[ProjectPolicy]:
    return [ProjectPolicy.of(row) for row in await _policies(asking, PolicyKind.PROJECT)]


async def _policy(asking: Asking, kind: PolicyKind, name: str) -> policies.PolicyRow | None:
    if asking.sight.own_only and name not in _own_policies(asking, kind):
        return None
    async with asking.db() as db:
        return await policies.policy(db, kind, name)


async def _policies(asking: Asking, kind: PolicyKind) -> Sequence[policies.PolicyRow]:
    async with asking.db() as db:
        rows = (await policies.policies(db, kind)).items
    own = _own_policies(asking, kind)
    return [row for row in rows if not asking.sight.own_only or row.name in own]


def _own_policies(asking: Asking, kind: PolicyKind) -> set[str]:
    directory, me = asking.directory, asking.caller.identity.user
    match kind:
        case PolicyKind.KEYPAIR:
            return {directory.keypairs[each].spec.resource_policy for each in me.keypairs}
        case PolicyKind.USER:
            return {me.spec.resource_policy}
        case PolicyKind.PROJECT:
            return {directory.projects[each].spec.resource_policy for each in me.projects}


# -- resource groups and presets ---------------------------------------------------------------------------------------


async def scaling_group(asking: Asking, name: str) -> ScalingGroup | None:
    if not asking.uses_group(name):
        return None
    async with asking.db() as db:
        row = await groups.resource_group(db, name)
    return None if row is None else ScalingGroup.of(row)


async def scaling_groups(
    asking: Asking,
    *,
    name: str | None = None,
    active: bool | None = None,
    domain_name: str | None = None,
    project_id: str | None = None,
    access_key: str | None = None,
) -> list[ScalingGroup]:
    """Those granted to the domain, project or keypair that is named."""
    async with asking.db() as db:
        page = await groups.resource_groups(
            db, name=name, active=active, domain=domain_name, project_id=project_id, access_key=access_key
        )
    return [ScalingGroup.of(row) for row in page.items if asking.uses_group(row.name)]


async def preset(asking: Asking, name: str, group_name: str | None = None) -> ResourcePreset | None:
    if group_name and not asking.uses_group(group_name):
        return None
    async with asking.db() as db:
        row = await groups.preset(db, name, group_name)
    return None if row is None else ResourcePreset.of(row)


async def presets(asking: Asking, group_name: str | None = None) -> list[ResourcePreset]:
    async with asking.db() as db:
        page = await groups.presets(db, resource_group=group_name)
    return [
        ResourcePreset.of(row)
        for row in page.items
        if row.resource_group is None or asking.uses_group(row.resource_group)
    ]


# -- sessions and agents -----------------------------------------------------------------------------------------------


async def compute_session(asking: Asking, session_id: str) -> ComputeSession | None:
    async with asking.db() as db:
        row = await _session(asking, db, session_id)
    return None if row is None else ComputeSession.of(row)


async def compute_session_list(
    asking: Asking,
    query: Query,
    *,
    status: str | None = None,
    domain_name: str | None = None,
    project_id: str | None = None,
    access_key: str | None = None,
) -> PaginatedList[ComputeSession]:
    if domain_name is not None and not asking.sight.tenant(domain_name):
        return PaginatedList(items=[], total_count=0)
    async with asking.db() as db:
        page = await compute_sessions.compute_sessions(
            db,
            query,
            statuses=statuses(status),
            access_key=access_key,
            user_id=asking.sight.user_id,
            domain=domain_name or asking.sight.domain,
            project_id=project_id,
        )
    return listed([ComputeSession.of(row) for row in page.items], page)


async def compute_container(asking: Asking, kernel_id: str) -> ComputeContainer | None:
    async with asking.db() as db:
        row = await compute_sessions.compute_container(db, kernel_id)
    return ComputeContainer.of(row) if row is not None and _sees_work(asking, row) else None


async def compute_container_list(
    asking: Asking, query: Query, session_id: str, role: str | None, status: str | None
) -> PaginatedList[ComputeContainer]:
    async with asking.db() as db:
        session = await _session(asking, db, session_id)
        if session is None:
            return PaginatedList(items=[], total_count=0)
        page = await compute_sessions.compute_containers(
            db, query, session=session, role=role, statuses=statuses(status)
        )
    return listed([ComputeContainer.of(row) for row in page.items], page)


async def _session(asking: Asking, db: Any, session_id: str) -> ListedSession | None:
    row = await compute_sessions.compute_session(db, session_id)
    return row if row is not None and _sees_work(asking, row) else None


def _sees_work(asking: Asking, row: ListedSession | ListedKernel) -> bool:
    return asking.sees(row.domain, row.user_id)


async def agent(asking: Asking, agent_id: str) -> Agent | None:
    _for_superadmins(asking)
    async with asking.db() as db:
        row = await agents.by_id(db, agent_id)
    return None if row is None else Agent.of(row)


async def agent_list(
    asking: Asking, query: Query, status: str | None, scaling_group: str | None
) -> PaginatedList[Agent]:
    _for_superadmins(asking)
    async with asking.db() as db:
        page = await agents.listed(db, query, statuses=statuses(status), resource_group=scaling_group)
    return listed([Agent.of(row) for row in page.items], page)


def _for_superadmins(asking: Asking) -> None:
    """Raises `Problem`."""
    if not asking.sight.everything:
        raise Problem(403, "generic-forbidden", "Forbidden operation", "agents are for superadmins")
