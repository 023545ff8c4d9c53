"""What superadmins change about images and registries. Long work becomes a background task, and goes on after the
answer.
"""

from collections.abc import Sequence
from typing import Any

import strawberry

from api.access.secrets import sealed_for_registry
from api.graphql.asking import Asking, Info
from api.graphql.images.inputs import (
    CreateContainerRegistryInput,
    ModifyContainerRegistryInput,
    ModifyImageInput,
    agents_of,
    image_changes,
    image_of,
    reference_of,
    registry_changes,
)
from api.graphql.images.payloads import ContainerRegistryDone, TaskDone
from api.graphql.payloads import Done, done
from api.http.problems import Problem
from api.writing import now
from domain.directory.messages.images import (
    AliasImage,
    CreateRegistry,
    DealiasImage,
    DeleteRegistry,
    ForgetImage,
    ModifyImage,
    ModifyRegistry,
    RegistrySpec,
)
from domain.directory.messages.tasks import (
    PreloadImages,
    ScanRegistries,
    StartTask,
    TaskId,
    UnloadImages,
    Work,
)
from domain.messages import Command, Refused


@strawberry.type
class ImageMutations:
    # -- what goes on in the background ------------------------------------------------------------------------------

    @strawberry.mutation
    async def rescan_images(self, info: Info, registry: str | None = None) -> TaskDone:
        """Find out what images there are; without a registry, in all of them."""

        async def doing() -> str:
            _for_superadmins(info.context)
            registries = (registry,) if registry else tuple(sorted(info.context.directory.registries))
            return await _started(info.context, ScanRegistries(registries=registries))

        return await done(TaskDone, doing)

    @strawberry.mutation
    async def preload_image(self, info: Info, reference: str, target_agents: str) -> TaskDone:
        """Have agents pull an image. `target_agents`: ids, `scaling_group:<name>`, or `*`, with commas between."""

        async def doing() -> str:
            _for_superadmins(info.context)
            references = (reference_of(info.context, reference),)
            work = PreloadImages(references=references, agents=await agents_of(info.context, target_agents))
            return await _started(info.context, work)

        return await done(TaskDone, doing)

    @strawberry.mutation
    async def unload_image(self, info: Info, reference: str, target_agents: str) -> TaskDone:
        """Have agents remove an image. `target_agents` as for `preload_image`."""

        async def doing() -> str:
            _for_superadmins(info.context)
            references = (reference_of(info.context, reference),)
            work = UnloadImages(references=references, agents=await agents_of(info.context, target_agents))
            return await _started(info.context, work)

        return await done(TaskDone, doing)

    # -- images ------------------------------------------------------------------------------------------------------

    @strawberry.mutation
    async def forget_image(self, info: Info, reference: str, architecture: str | None = None) -> Done:
        async def doing() -> str:
            _for_superadmins(info.context)
            image = image_of(info.context, reference, architecture, "reference")
            forget = ForgetImage(at=now(), reference=image.reference, architecture=image.architecture)
            return await _given(info.context, [forget])

        return await done(Done, doing)

    @strawberry.mutation
    async def clear_images(self, info: Info, registry: str | None = None) -> Done:
        """Forget all images of a registry, or all there are."""

        async def doing() -> str:
            asking = info.context
            _for_superadmins(asking)
            if registry and registry not in asking.directory.registries:
                raise Refused("unknown_registry", f"no registry {registry[:128]}", "registry")
            forget = [
                ForgetImage(at=now(), reference=image.reference, architecture=image.architecture)
                for _, image in sorted(asking.directory.images.items())
                if registry in (None, "", image.registry)
            ]
            await asking.give_at_once(forget)
            return ""

        return await done(Done, doing)

    @strawberry.mutation
    async def alias_image(self, info: Info, alias: str, target: str, architecture: str | None = None) -> Done:
        async def doing() -> str:
            _for_superadmins(info.context)
            image = image_of(info.context, target, architecture, "target")
            name = AliasImage(at=now(), reference=image.reference, architecture=image.architecture, alias=alias)
            return await _given(info.context, [name])

        return await done(Done, doing)

    @strawberry.mutation
    async def dealias_image(self, info: Info, alias: str) -> Done:
        async def doing() -> str:
            return await _given(info.context, [DealiasImage(at=now(), alias=alias)])

        return await done(Done, doing)

    @strawberry.mutation
    async def modify_image(
        self, info: Info, target: str, props: ModifyImageInput, architecture: str | None = None
    ) -> Done:
        async def doing() -> str:
            _for_superadmins(info.context)
            image = image_of(info.context, target, architecture, "target")
            told = image_changes(props)
            modify = ModifyImage(at=now(), reference=image.reference, architecture=image.architecture, changes=told)
            return await _given(info.context, [modify])

        return await done(Done, doing)

    # -- registries --------------------------------------------------------------------------------------------------

    @strawberry.mutation
    async def create_container_registry(
        self, info: Info, hostname: str, props: CreateContainerRegistryInput
    ) -> ContainerRegistryDone:
        async def doing() -> str:
            told = await _with_sealed_password(info.context, hostname, registry_changes(props))
            return await _given(
                info.context, [CreateRegistry(at=now(), name=hostname, spec=RegistrySpec(**told))], hostname
            )

        return await done(ContainerRegistryDone, doing)

    @strawberry.mutation
    async def modify_container_registry(
        self, info: Info, hostname: str, props: ModifyContainerRegistryInput
    ) -> ContainerRegistryDone:
        async def doing() -> str:
            told: Any = await _with_sealed_password(info.context, hostname, registry_changes(props))
            return await _given(info.context, [ModifyRegistry(at=now(), name=hostname, changes=told)], hostname)

        return await done(ContainerRegistryDone, doing)

    @strawberry.mutation
    async def delete_container_registry(self, info: Info, hostname: str) -> ContainerRegistryDone:
        """Its images are forgotten, too."""

        async def doing() -> str:
            return await _given(info.context, [DeleteRegistry(at=now(), name=hostname)], hostname)

        return await done(ContainerRegistryDone, doing)


# -- how ---------------------------------------------------------------------------------------------------------------


async def _given(asking: Asking, commands: Sequence[Command], key: str = "") -> str:
    await asking.give(commands)
    return key


async def _started(asking: Asking, work: Work) -> str:
    """The id of the task: the same one when the request is repeated under its key."""
    task_id = TaskId(asking.next_id())
    return await _given(asking, [StartTask(at=now(), task_id=task_id, work=work)], task_id)


async def _with_sealed_password(asking: Asking, registry: str, told: dict[str, Any]) -> dict[str, Any]:
    _for_superadmins(asking)  # before a key is made for whatever is named here
    password = told.get("password")
    if not password:
        return told
    return told | {"password": await sealed_for_registry(asking.services, registry, password, asking.next_id())}


def _for_superadmins(asking: Asking) -> None:
    """Before anything is looked up: who may not change images is not told which there are. Raises `Problem`."""
    if not asking.sight.everything:
        raise Problem(403, "generic-forbidden", "Forbidden operation", "changing images is for superadmins")
