"""Templates and dotfiles."""

from typing import Final

from domain.directory.deciding.references import (
    Events,
    known_domain,
    known_keypair,
    known_project,
    known_user,
    proper_id,
)
from domain.directory.messages.personal import (
    CreateDotfile,
    CreateTemplate,
    DeleteDotfile,
    DeleteTemplate,
    DotfileDeleted,
    DotfileOwner,
    DotfilePut,
    DotfileScope,
    ModifyDotfile,
    ModifyTemplate,
    PersonalCommands,
    Template,
    TemplateDeleted,
    TemplateId,
    TemplatePut,
)
from domain.directory.state import Directory
from domain.messages import ProjectId, Refused

TEMPLATES_MAX: Final = 200
"""Of one owner: every api process holds them in memory."""

DOTFILES_MAX: Final = 100
DOTFILE_BYTES_MAX: Final = 64 * 1024
"""Of one owner, together: they travel with each of his kernels. Both numbers are the reference's."""

_RESERVED: Final = (".terminfo", ".jupyter", ".bootstrap", ".bootstrap.sh", ".ssh/authorized_keys", ".ssh/id_container")
"""Put into each kernel by Refold itself; neither they nor what is below them is anybody's dotfile."""


def decide(command: PersonalCommands, state: Directory) -> Events:
    match command:
        case CreateTemplate():
            return _create_template(command, state)
        case ModifyTemplate():
            return _modify_template(command, state)
        case DeleteTemplate():
            _known_template(command.template_id, state)
            return [TemplateDeleted(at=command.at, template_id=command.template_id)]
        case CreateDotfile():
            return _create_dotfile(command, state)
        case ModifyDotfile():
            return _modify_dotfile(command, state)
        case DeleteDotfile():
            _known_dotfile(command, state)
            return [DotfileDeleted(at=command.at, owner=command.owner, path=command.path)]


# -- templates ---------------------------------------------------------------------------------------------------------


def _create_template(command: CreateTemplate, state: Directory) -> Events:
    proper_id(command.template_id, "template_id")
    template = command.template
    existing = state.templates.get(command.template_id)
    if existing is not None:
        if existing == template:
            return []
        raise Refused("template_id_taken", f"{command.template_id} is another template", "template_id")
    known_user(template.owner, state, "owner")
    known_domain(template.domain, state)
    if known_project(template.project_id, state).domain != template.domain:
        raise Refused("other_domain", f"the project is not of the domain {template.domain}", "project_id")
    if sum(each.owner == template.owner for each in state.templates.values()) >= TEMPLATES_MAX:
        raise Refused("too_many_templates", f"a user has at most {TEMPLATES_MAX} templates", "owner")
    return [TemplatePut(at=command.at, template_id=command.template_id, template=template)]


def _modify_template(command: ModifyTemplate, state: Directory) -> Events:
    template = _known_template(command.template_id, state)
    given = {"name": command.name, "body": command.body}
    modified = template.model_copy(update={field: value for field, value in given.items() if value is not None})
    if modified == template:
        return []
    return [TemplatePut(at=command.at, template_id=command.template_id, template=modified)]


def _known_template(template_id: TemplateId, state: Directory) -> Template:
    template = state.templates.get(template_id)
    if template is None:
        raise Refused("unknown_template", f"no template {template_id}", "template_id")
    return template


# -- dotfiles ----------------------------------------------------------------------------------------------------------


def _create_dotfile(command: CreateDotfile, state: Directory) -> Events:
    _known_owner(command.owner, state)
    _proper_path(command.path, command.owner.scope)
    files = state.dotfiles_of(command.owner.scope, command.owner.id)
    existing = files.get(command.path)
    if existing is not None:
        if (existing.mode, existing.content, existing.size) == (command.mode, command.content, command.size):
            return []
        raise Refused("dotfile_exists", f"there is a dotfile {command.path} already", "path")
    if any(_above(path, command.path) or _above(command.path, path) for path in files):
        raise Refused("dotfile_exists", f"{command.path} would be a file and a folder", "path")
    if len(files) >= DOTFILES_MAX:
        raise Refused("too_many_dotfiles", f"there are at most {DOTFILES_MAX} dotfiles", "path")
    return [_put(command, state)]


def _modify_dotfile(command: ModifyDotfile, state: Directory) -> Events:
    _known_dotfile(command, state)
    known = state.dotfiles_of(command.owner.scope, command.owner.id)[command.path]
    if (known.mode, known.content, known.size) == (command.mode, command.content, command.size):
        return []
    return [_put(command, state)]


def _put(command: CreateDotfile | ModifyDotfile, state: Directory) -> DotfilePut:
    files = state.dotfiles_of(command.owner.scope, command.owner.id)
    others = sum(file.size for path, file in files.items() if path != command.path)
    if others + command.size > DOTFILE_BYTES_MAX:
        raise Refused("dotfiles_too_large", f"all dotfiles together have at most {DOTFILE_BYTES_MAX} bytes", "data")
    return DotfilePut(
        at=command.at,
        owner=command.owner,
        path=command.path,
        mode=command.mode,
        content=command.content,
        size=command.size,
    )


def _known_owner(owner: DotfileOwner, state: Directory) -> None:
    match owner.scope:
        case DotfileScope.KEYPAIR:
            known_keypair(owner.id, state, "owner")
        case DotfileScope.PROJECT:
            known_project(ProjectId(owner.id), state, "owner")
        case DotfileScope.DOMAIN:
            known_domain(owner.id, state, "owner")


def _known_dotfile(command: ModifyDotfile | DeleteDotfile, state: Directory) -> None:
    _known_owner(command.owner, state)
    if command.path not in state.dotfiles_of(command.owner.scope, command.owner.id):
        raise Refused("unknown_dotfile", f"no dotfile {command.path}", "path")


def _proper_path(path: str, scope: DotfileScope) -> None:
    """Below the home folder and hidden there; a project's may also be anywhere else in the container."""
    parts = path.split("/")
    if path.startswith("/") and scope is DotfileScope.PROJECT:
        parts = parts[1:]
    elif not path.startswith("."):
        raise Refused("bad_path", "the path of a dotfile begins with a dot", "path")
    if any(part in ("", ".", "..") for part in parts) or not path.isprintable():
        raise Refused("bad_path", "the path may not lead elsewhere, or have odd characters", "path")
    if any(path == reserved or _above(reserved, path) for reserved in _RESERVED):
        raise Refused("reserved_path", f"{path} is not for dotfiles", "path")


def _above(folder: str, path: str) -> bool:
    return path.startswith(folder + "/")
