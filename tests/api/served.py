"""An image whose sessions have services."""

import asyncio
from collections.abc import Mapping

from domain.directory.messages.images import AliasImage, CreateRegistry, ImageFacts, RegisterImage, RegistrySpec
from domain.directory.messages.tenants import ModifyDomain
from tests.api.test_sessions import RECORDED
from tests.api.world import World
from tests.whole import now

HUB = "cr.example.org"
IMAGE = f"{HUB}/stable/served:1"


async def give_services(world: World, labels: Mapping[str, str]) -> None:
    """What recorded requests call their image has these labels, and everybody may use it."""
    facts = ImageFacts(registry=HUB, labels=dict(labels))
    for command in (
        CreateRegistry(at=now(), name=HUB, spec=RegistrySpec(url=f"https://{HUB}")),
        ModifyDomain.model_validate({"at": now(), "name": "default", "changes": {"allowed_docker_registries": [HUB]}}),
        RegisterImage(at=now(), reference=IMAGE, facts=facts),
        AliasImage(at=now(), alias=RECORDED["image"], reference=IMAGE),
    ):
        await world.whole.give("directory", command)
    async with asyncio.timeout(10):
        while world.services.tail.directory.resolve_image(RECORDED["image"], "x86_64", [HUB]) is None:
            await asyncio.sleep(0.01)
