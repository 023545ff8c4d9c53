"""Every bounded context by its name."""

from collections.abc import Mapping

from domain.context import AnyContext
from domain.directory.consequences import DIRECTORY
from domain.scheduling.consequences import SCHEDULING
from domain.session.consequences import SESSION
from domain.vfolder.consequences import VFOLDER

CONTEXTS: Mapping[str, AnyContext] = {context.name: context for context in (SESSION, VFOLDER, SCHEDULING, DIRECTORY)}
