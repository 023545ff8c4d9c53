"""Registries, images, aliases, and the images agents have."""

from dataclasses import replace

from immutables import Map

from domain.directory.images import Image, ImageKey
from domain.directory.messages.images import (
    AgentImagesReported,
    ImageAliased,
    ImageDealiased,
    ImageEvents,
    ImageForgotten,
    ImageModified,
    ImageRegistered,
    ImageRules,
    LocalImage,
    RegistryDeleted,
    RegistryPut,
)
from domain.directory.state import Directory
from domain.messages import AgentId


def evolve(state: Directory, event: ImageEvents) -> Directory:
    match event:
        case RegistryPut():
            return replace(state, registries=state.registries.set(event.name, event.spec))
        case RegistryDeleted():
            return replace(state, registries=state.registries.delete(event.name))
        case ImageRegistered():
            return _with_image(state, _found(state, event))
        case ImageModified():
            return _with_image(state, replace(state.images[(event.reference, event.architecture)], rules=event.rules))
        case ImageForgotten():
            return _without_image(state, event)
        case ImageAliased():
            means = state.alias(event.alias).set(event.architecture, event.reference)
            return replace(state, aliases=state.aliases.set(event.alias, means))
        case ImageDealiased():
            means = state.alias(event.alias).delete(event.architecture)
            aliases = state.aliases.set(event.alias, means) if means else state.aliases.delete(event.alias)
            return replace(state, aliases=aliases)
        case AgentImagesReported():
            return _reported(state, event)


def _with_image(state: Directory, image: Image) -> Directory:
    index = state.architectures_by_image
    architectures = index.get(image.reference, frozenset()) | {image.architecture}
    return replace(
        state,
        images=state.images.set(image.key, image),
        architectures_by_image=index.set(image.reference, architectures),
    )


def _without_image(state: Directory, event: ImageForgotten) -> Directory:
    index = state.architectures_by_image
    left = index[event.reference] - {event.architecture}
    return replace(
        state,
        images=state.images.delete((event.reference, event.architecture)),
        architectures_by_image=index.set(event.reference, left) if left else index.delete(event.reference),
    )


def _found(state: Directory, event: ImageRegistered) -> Image:
    known = state.images.get((event.reference, event.architecture))
    if known is None:
        return Image(event.reference, event.architecture, event.facts, ImageRules(), registered_at=event.at)
    return replace(known, facts=event.facts)


def _reported(state: Directory, event: AgentImagesReported) -> Directory:
    before = state.images_of(event.agent_id)
    now: Map[ImageKey, LocalImage] = Map() if event.afresh else before
    with now.mutate() as images:
        for key in event.gone:
            images.pop(key, None)
        for image in event.come:
            images[(image.reference, image.architecture)] = image
        now = images.finish()
    agent_images = state.agent_images.set(event.agent_id, now) if now else state.agent_images.delete(event.agent_id)
    return replace(state, agent_images=agent_images, agents_by_image=_indexed(state, event.agent_id, before, now))


def _indexed(
    state: Directory, agent_id: AgentId, before: Map[ImageKey, LocalImage], now: Map[ImageKey, LocalImage]
) -> Map[ImageKey, frozenset[AgentId]]:
    """Who has which image, after this agent's have changed."""
    index = state.agents_by_image
    for key in set(before) - set(now):
        left = index[key] - {agent_id}
        index = index.set(key, left) if left else index.delete(key)
    for key in set(now) - set(before):
        index = index.set(key, index.get(key, frozenset()) | {agent_id})
    return index
