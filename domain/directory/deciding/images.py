"""Registries, images and their aliases; and what agents say they have."""

from domain.directory.deciding import tasks
from domain.directory.deciding.references import Events, changed, known_registry
from domain.directory.images import Image, ImageKey
from domain.directory.messages.images import (
    LOCAL,
    AgentImagesReported,
    AliasImage,
    CreateRegistry,
    DealiasImage,
    DeleteRegistry,
    ForgetAgent,
    ForgetImage,
    ImageAliased,
    ImageCommands,
    ImageDealiased,
    ImageForgotten,
    ImageModified,
    ImageRegistered,
    ImageReports,
    ImageRules,
    LocalImage,
    ModifyImage,
    ModifyRegistry,
    OfImage,
    RegisterImage,
    RegistryDeleted,
    RegistryPut,
    RegistrySpec,
    RegistryType,
    ReportAgentImages,
)
from domain.directory.state import Directory
from domain.messages import Refused


def decide(command: ImageCommands | ImageReports, state: Directory) -> Events:
    match command:
        case CreateRegistry():
            return _create_registry(command, state)
        case ModifyRegistry():
            return _modify_registry(command, state)
        case DeleteRegistry():
            return _delete_registry(command, state)
        case RegisterImage():
            return _register(command, state)
        case ModifyImage():
            return _modify(command, state)
        case ForgetImage():
            return _without([_known_image(command, state)], command, state)
        case AliasImage():
            return _alias(command, state)
        case DealiasImage():
            return _dealias(command, state)
        case ReportAgentImages():
            return _report(command, state)
        case ForgetAgent():
            return _forget_agent(command, state)


# -- registries --------------------------------------------------------------------------------------------------------


def _create_registry(command: CreateRegistry, state: Directory) -> Events:
    existing = state.registries.get(command.name)
    if existing == command.spec:
        return []
    if existing is not None:
        raise Refused("registry_exists", f"{command.name} exists with other properties", "name")
    _proper_registry(command.spec)
    return [RegistryPut(at=command.at, name=command.name, spec=command.spec)]


def _modify_registry(command: ModifyRegistry, state: Directory) -> Events:
    registry = _changeable_registry(command.name, state)
    spec = changed(registry, command.changes)
    if spec == registry:
        return []
    _proper_registry(spec)
    return [RegistryPut(at=command.at, name=command.name, spec=spec)]


def _delete_registry(command: DeleteRegistry, state: Directory) -> Events:
    _changeable_registry(command.name, state)
    images = [image for image in state.images.values() if image.registry == command.name]
    return [
        *_without(images, command, state),
        RegistryDeleted(at=command.at, name=command.name),
    ]


def _changeable_registry(name: str, state: Directory) -> RegistrySpec:
    if name == LOCAL:
        raise Refused("local_registry", "the registry of the images that agents have is always there", "name")
    return known_registry(name, state)


def _proper_registry(spec: RegistrySpec) -> None:
    if spec.registry_type is RegistryType.LOCAL:
        raise Refused("bad_registry_type", f"only the registry {LOCAL} is of this type", "registry_type")


# -- images ------------------------------------------------------------------------------------------------------------


def _register(command: RegisterImage, state: Directory) -> Events:
    known_registry(command.facts.registry, state, "facts.registry")
    owner = state.registry_of(command.reference)
    if command.facts.registry != owner:
        raise Refused("wrong_registry", f"{command.reference} belongs to the registry {owner}", "facts.registry")
    known = state.images.get(_key(command))
    if known is not None and known.facts == command.facts:
        return []
    return [
        ImageRegistered(
            at=command.at, reference=command.reference, architecture=command.architecture, facts=command.facts
        )
    ]


def _modify(command: ModifyImage, state: Directory) -> Events:
    image = _known_image(command, state)
    rules: ImageRules = changed(image.rules, command.changes)
    if rules == image.rules:
        return []
    for slot, allowed in (rules.resources or {}).items():
        if allowed.max is not None and allowed.max < allowed.min:
            raise Refused("bad_range", f"the maximum of {slot} is less than its minimum", f"resources.{slot}")
    return [ImageModified(at=command.at, reference=image.reference, architecture=image.architecture, rules=rules)]


def _without(images: list[Image], command: DeleteRegistry | ForgetImage, state: Directory) -> Events:
    """Each image goes with its aliases, which come first."""
    aliases: dict[ImageKey, list[str]] = {}
    for alias, means in state.aliases.items():
        for architecture, reference in means.items():
            aliases.setdefault((reference, architecture), []).append(alias)
    events: list[ImageDealiased | ImageForgotten] = []
    for image in sorted(images, key=lambda each: each.key):
        about = {"at": command.at, "reference": image.reference, "architecture": image.architecture}
        events += [ImageDealiased(**about, alias=alias) for alias in sorted(aliases.get(image.key, ()))]
        events.append(ImageForgotten(**about))
    return events


def _alias(command: AliasImage, state: Directory) -> Events:
    image = _known_image(command, state)
    if state.alias(command.alias).get(image.architecture) == image.reference:
        return []
    return [
        ImageAliased(at=command.at, reference=image.reference, architecture=image.architecture, alias=command.alias)
    ]


def _dealias(command: DealiasImage, state: Directory) -> Events:
    means = state.alias(command.alias)
    if not means:
        raise Refused("unknown_alias", f"no alias {command.alias}", "alias")
    return [
        ImageDealiased(at=command.at, reference=reference, architecture=architecture, alias=command.alias)
        for architecture, reference in sorted(means.items())
    ]


def _known_image(command: OfImage, state: Directory) -> Image:
    image = state.images.get(_key(command))
    if image is None:
        raise Refused("unknown_image", f"no image {command.reference} for {command.architecture}", "reference")
    return image


def _key(command: OfImage) -> ImageKey:
    return command.reference, command.architecture


# -- what agents have --------------------------------------------------------------------------------------------------


def _report(command: ReportAgentImages, state: Directory) -> Events:
    """Only what is different from what is known already."""
    known = state.images_of(command.agent_id)
    come = {(image.reference, image.architecture): image for image in command.come}
    if command.afresh:
        if come == dict(known):
            return []
        return [_reported(command, come=tuple(come.values()), gone=())]
    news = tuple(image for key, image in come.items() if known.get(key) != image)
    gone = tuple(key for key in dict.fromkeys(command.gone) if key in known and key not in come)
    return [_reported(command, come=news, gone=gone)] if news or gone else []


def _reported(
    command: ReportAgentImages, come: tuple[LocalImage, ...], gone: tuple[ImageKey, ...]
) -> AgentImagesReported:
    return AgentImagesReported(at=command.at, agent_id=command.agent_id, afresh=command.afresh, come=come, gone=gone)


def _forget_agent(command: ForgetAgent, state: Directory) -> Events:
    failed = tasks.without_agent(command.agent_id, command.at, state)
    if not state.images_of(command.agent_id):
        return failed
    return [AgentImagesReported(at=command.at, agent_id=command.agent_id, afresh=True), *failed]
