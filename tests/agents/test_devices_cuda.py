"""What NVML says, and what is made of it."""

import threading
from collections.abc import Callable
from pathlib import Path

import pynvml
import pytest

from agents.devices.cuda import Cuda
from agents.devices.plugin import Condition, DeviceUsage, Health, Offer
from agents.devices.sharing import Sharing
from tests.agents.nvml import MANY, Board, FakeNvml, Instance

MIG = Board(
    "GPU-m",
    instances=[Instance("MIG-a", 1, 9856, (7, 0)), None, Instance("MIG-b", 2, 20096, (3, 0))],
    gpu_percent=None,
)


def cuda(nvml: FakeNvml, sharing: Sharing | None = None, sysfs: Path = Path("/nonexistent")) -> Cuda:
    return Cuda(sharing, nvml=nvml, sysfs=sysfs)


def test_the_fake_answers_to_names_that_nvml_has() -> None:
    asked = [name for name in vars(FakeNvml) if name.startswith("nvml")]
    assert len(asked) > 20
    assert [name for name in asked if not callable(getattr(pynvml, name, None))] == []


async def test_a_whole_gpu_is_one_device_under_its_uuid(tmp_path: Path) -> None:
    node = tmp_path / "bus/pci/devices/0000:3b:00.0/numa_node"
    node.parent.mkdir(parents=True)
    node.write_text("1\n")
    (device,) = (await cuda(FakeNvml([Board("GPU-1")]), sysfs=tmp_path).offer()).devices
    assert (device.device_id, device.slot, device.units) == ("GPU-1", "cuda.device", 1000)
    assert (device.model, device.numa_node, device.memory_bytes) == ("NVIDIA H100 80GB HBM3", 1, 80 << 30)
    assert device.processors == 132


@pytest.mark.parametrize(
    "error",
    [
        pynvml.NVML_ERROR_LIBRARY_NOT_FOUND,
        pynvml.NVML_ERROR_DRIVER_NOT_LOADED,
        pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH,
    ],
)
async def test_without_a_driver_there_are_no_devices(error: int) -> None:
    plugin = cuda(FakeNvml([Board("GPU-1")], error))
    assert await plugin.offer() == Offer()
    assert (await plugin.health(), await plugin.read_stats()) == ({}, {})
    await plugin.close()


async def test_without_a_gpu_there_are_no_devices_and_the_driver_is_let_go() -> None:
    nvml = FakeNvml([])
    assert await cuda(nvml).offer() == Offer()
    assert nvml.open == 0


async def test_a_gpu_that_is_lost_does_not_hide_the_others() -> None:
    offer = await cuda(FakeNvml([Board("GPU-1", lost=True), Board("GPU-2")])).offer()
    assert [device.device_id for device in offer.devices] == ["GPU-2"]


async def test_in_mig_mode_the_instances_are_offered_and_the_gpu_is_not() -> None:
    offer = await cuda(FakeNvml([MIG, Board("GPU-2")])).offer()
    assert [(device.device_id, device.slot, device.units) for device in offer.devices] == [
        ("MIG-a", "cuda.mig-1c10g", 1000),
        ("MIG-b", "cuda.mig-2c20g", 1000),
        ("GPU-2", "cuda.device", 1000),
    ]


async def test_in_fractional_mode_a_gpu_is_so_many_shares() -> None:
    sharing = Sharing(allocation_mode="fractional", unit_mem=10 << 30, unit_proc=16)
    plugin = cuda(FakeNvml([Board("GPU-1"), Board("GPU-2", cores=None), MIG]), sharing)
    offer = await plugin.offer()
    assert [(device.slot, device.units) for device in offer.devices] == [
        ("cuda.shares", 8000),  # 80 / 10 < 132 / 16
        ("cuda.shares", 8000),  # its processors are not known
        ("cuda.mig-1c10g", 1000),
        ("cuda.mig-2c20g", 1000),
    ]
    granted = plugin.grant({"cuda.shares": {"GPU-1": 500}})
    assert granted.environ == {
        "CUDA_MEMORY_LIMITS": f"GPU-1:{5 << 30}",
        "CUDA_PROCESSOR_LIMITS": "GPU-1:8",
        "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT": "0=5120M",
        "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": "6",
    }
    assert granted.host_config["DeviceRequests"][0]["DeviceIDs"] == ["GPU-1"]


async def test_a_kernel_is_given_exactly_its_gpus() -> None:
    plugin = cuda(FakeNvml([Board("GPU-1"), Board("GPU-2"), MIG]))
    await plugin.offer()
    granted = plugin.grant({"cuda.device": {"GPU-2": 1000}, "cuda.mig-1c10g": {"MIG-a": 1000}})
    assert granted.host_config == {
        "DeviceRequests": [{"Driver": "nvidia", "DeviceIDs": ["GPU-2", "MIG-a"], "Capabilities": [["gpu"]]}]
    }
    assert granted.container_environ == {"NVIDIA_VISIBLE_DEVICES": "GPU-2,MIG-a"}
    assert granted.native_environ == {"CUDA_VISIBLE_DEVICES": "GPU-2,MIG-a"}
    assert granted.environ == {}, "whole devices have no limits"


async def test_statistics_have_their_units_and_what_is_not_told_is_none() -> None:
    mute = Board("GPU-2", gpu_percent=None, milliwatts=None, celsius=None)
    plugin = cuda(FakeNvml([Board("GPU-1"), mute, MIG]))
    await plugin.offer()
    told = await plugin.read_stats()
    assert told["GPU-1"] == DeviceUsage(42.0, 8 << 30, 80 << 30, 312.5, 700.0, 61.0)
    assert told["GPU-2"] == DeviceUsage(None, 8 << 30, 80 << 30, None, 700.0, None)
    assert told["MIG-a"] == DeviceUsage(None, 1 << 30, 9856 << 20, None, None, 61.0), "the power is the board's"


def _lose(board: Board) -> None:
    board.lost = True


def _fail_to_remap(board: Board) -> None:
    board.remapped = (0, 1, 0, 1)


def _await_remapping(board: Board) -> None:
    board.remapped = (0, 1, 1, 0)


def _retire_many(board: Board) -> None:
    board.remapped, board.retired = None, 60


def _await_retirement(board: Board) -> None:
    board.remapped, board.retired, board.retirement_pending = None, 3, 1


def _err(board: Board) -> None:
    board.uncorrected = 2


@pytest.mark.parametrize(
    ("suffer", "health"),
    [
        (_lose, Health(Condition.FAILED, "NVML: GPU is lost")),
        (_fail_to_remap, Health(Condition.FAILED, "a row of its memory could not be remapped")),
        (_await_remapping, Health(Condition.WORN, "its memory is to be mended by a reset")),
        (_retire_many, Health(Condition.FAILED, "60 pages of its memory are retired")),
        (_await_retirement, Health(Condition.WORN, "its memory is to be mended by a reset")),
        (_err, Health(Condition.WORN, "2 uncorrectable memory errors since its driver was loaded")),
    ],
)
async def test_health_is_what_the_counters_say(suffer: Callable[[Board], None], health: Health) -> None:
    board = Board("GPU-1")
    plugin = cuda(FakeNvml([board, Board("GPU-2")]))
    await plugin.offer()
    assert await plugin.health() == {}
    suffer(board)
    assert await plugin.health() == {"GPU-1": health}


async def test_a_fatal_error_fails_its_device_until_the_agent_starts_again() -> None:
    nvml = FakeNvml([Board("GPU-1"), Board("GPU-2"), MIG])
    plugin = cuda(nvml)
    await plugin.offer()
    nvml.events = [(nvml.boards[1], 79, (MANY, MANY)), (nvml.boards[0], 31, (MANY, MANY)), (MIG, 94, (7, 0))]
    failed = {"GPU-2": Health(Condition.FAILED, "Xid 79"), "MIG-a": Health(Condition.FAILED, "Xid 94")}
    assert await plugin.health() == failed, "31 is the doing of a program, and MIG-b is another instance"
    assert await plugin.health() == failed
    nvml.events = [(MIG, 95, (MANY, MANY))]
    assert (await plugin.health())["MIG-b"] == Health(Condition.FAILED, "Xid 95"), "the whole board"


async def test_a_driver_that_does_not_answer_blocks_nobody() -> None:
    nvml = FakeNvml([Board("GPU-1")])
    plugin = Cuda(nvml=nvml, seconds_max=1.0)
    await plugin.offer()
    nvml.blocks = threading.Event()
    assert await plugin.health() == {"GPU-1": Health(Condition.FAILED, "NVML did not answer within 1 s")}
    assert await plugin.read_stats() == {}, "at once: the earlier question is still open"
    nvml.blocks.set()
    nvml.blocks = None
    while not await plugin.read_stats():
        pass
    assert await plugin.health() == {}
    await plugin.close()
    assert nvml.open == 0
