"""Orders to start kernels, as agents get them."""

from datetime import timedelta

from agents.runtime import Task
from domain.messages import AccessKey, AgentId, KernelId, SessionId
from domain.placements import StartKernel
from tests.whole import an_id, now


def a_start(name: str, image: str) -> StartKernel:
    """A kernel that waits to be stopped. The ids derive from the name."""
    return StartKernel(
        at=now(),
        agent_id=AgentId("agent-1"),
        owner=AccessKey("AKADA"),
        session_id=SessionId(an_id(name)),
        kernel_id=KernelId(an_id(name)),
        incarnation=1,
        image=image,
        hostname="main1",
        slots={"cpu": 1000, "mem": 256 << 20},
        not_after=now() + timedelta(minutes=1),
    )


def a_task(order: StartKernel) -> Task:
    """What its agent asks of its runtime."""
    return Task(
        kernel_id=order.kernel_id,
        incarnation=order.incarnation,
        session_id=order.session_id,
        image=order.image,
        command=None,
        environ={},
        hostname=order.hostname,
        cpu_millis=order.slots["cpu"],
        mem_bytes=order.slots["mem"],
    )
