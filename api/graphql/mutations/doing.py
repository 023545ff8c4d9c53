"""How a mutation that answers nothing but whether it was done is carried out."""

from collections.abc import Callable

from api.graphql.asking import Info
from api.graphql.payloads import Done, done
from domain.messages import Command


async def do(info: Info, command: Callable[[], Command]) -> Done:
    """Gives the command; what is wrong with making it is answered as its refusal would be."""

    async def doing() -> str:
        await info.context.give([command()])
        return ""

    return await done(Done, doing)
