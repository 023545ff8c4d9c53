"""Every projection there is, and the context it is of."""

from collections.abc import Mapping, Sequence

from projections import agents, command_outcomes
from projections.directory.folding import DIRECTORY
from projections.folders import folding as folders
from projections.sessions import SESSIONS
from projections.table import Projection

_ALL = (SESSIONS, agents.PROJECTION, DIRECTORY, folders.PROJECTION, command_outcomes.PROJECTION)

PROJECTIONS: Mapping[str, Projection] = {each.name: each for each in _ALL}


def of_context(context: str) -> Sequence[Projection]:
    """Those that are folded from this context's events."""
    return [projection for projection in PROJECTIONS.values() if context in projection.contexts]
