"""What goes with a thing that is taken away.

Each part of it has an event of its own, before that of the thing: no reader has to know what hangs on what.
"""

from datetime import datetime

from domain.directory.deciding.references import Events
from domain.directory.messages.groups import Grantee, GranteeKind, ResourceGroupRevoked
from domain.directory.messages.keypairs import KeypairDeleted
from domain.directory.messages.personal import DotfileDeleted, DotfileOwner, DotfileScope, Template, TemplateDeleted
from domain.directory.state import Directory
from domain.messages import AccessKey


def grants_to(kind: GranteeKind, grantee_id: str, at: datetime, state: Directory) -> Events:
    to = Grantee(kind=kind, id=grantee_id)
    names = sorted(group.name for group in state.groups.values() if (kind, grantee_id) in group.grantees)
    return [ResourceGroupRevoked(at=at, name=name, to=to) for name in names]


def dotfiles_of(scope: DotfileScope, owner_id: str, at: datetime, state: Directory) -> Events:
    owner = DotfileOwner(scope=scope, id=owner_id)
    return [DotfileDeleted(at=at, owner=owner, path=path) for path in sorted(state.dotfiles_of(scope, owner_id))]


def templates_of(owner_or_project: str, at: datetime, state: Directory) -> Events:
    def belongs(template: Template) -> bool:
        return owner_or_project in (template.owner, template.project_id)

    gone = sorted(template_id for template_id, template in state.templates.items() if belongs(template))
    return [TemplateDeleted(at=at, template_id=template_id) for template_id in gone]


def keypair(access_key: AccessKey, at: datetime, state: Directory) -> Events:
    return [
        *grants_to(GranteeKind.KEYPAIR, access_key, at, state),
        *dotfiles_of(DotfileScope.KEYPAIR, access_key, at, state),
        KeypairDeleted(at=at, access_key=access_key),
    ]
