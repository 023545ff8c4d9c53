"""Templates and dotfiles."""

from dataclasses import replace

from immutables import Map

from domain.directory.messages.personal import (
    DotfileDeleted,
    DotfileOwner,
    DotfilePut,
    PersonalEvents,
    TemplateDeleted,
    TemplatePut,
)
from domain.directory.state import Directory, Dotfile


def evolve(state: Directory, event: PersonalEvents) -> Directory:
    match event:
        case TemplatePut():
            since = state.templates_since.get(event.template_id, event.at)
            return replace(
                state,
                templates=state.templates.set(event.template_id, event.template),
                templates_since=state.templates_since.set(event.template_id, since),
            )
        case TemplateDeleted():
            return replace(
                state,
                templates=state.templates.delete(event.template_id),
                templates_since=state.templates_since.delete(event.template_id),
            )
        case DotfilePut():
            dotfile = Dotfile(event.path, event.mode, event.content, event.size)
            files = state.dotfiles_of(event.owner.scope, event.owner.id).set(event.path, dotfile)
            return _with_dotfiles(state, event.owner, files)
        case DotfileDeleted():
            files = state.dotfiles_of(event.owner.scope, event.owner.id).delete(event.path)
            return _with_dotfiles(state, event.owner, files)


def _with_dotfiles(state: Directory, owner: DotfileOwner, files: Map[str, Dotfile]) -> Directory:
    place = (owner.scope, owner.id)
    return replace(state, dotfiles=state.dotfiles.set(place, files) if files else state.dotfiles.delete(place))
