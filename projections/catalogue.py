"""Every projection there is, and the context it is of."""

from collections.abc import Mapping, Sequence

from projections import agents, command_outcomes
from projections.directory.folding import DIRECTORY
from projections.sessions import SESSIONS
from projections.table import Projection

PROJECTIONS: Mapping[str, Projection] = {
    each.name: each for each in (SESSIONS, agents.PROJECTION, DIRECTORY, command_outcomes.PROJECTION)
}


def of_context(context: str) -> Sequence[Projection]:
    """Those that are folded from this context's events."""
    return [projection for projection in PROJECTIONS.values() if context in projection.contexts]
