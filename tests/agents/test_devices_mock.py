"""Devices a file declares: what is offered, what a kernel finds, and what a wrong file is told."""

from itertools import pairwise
from pathlib import Path

import pytest

from agents.devices.host import HostDevices
from agents.devices.mock import Mock, read_mock_file
from agents.devices.plugin import DeviceUsage, Misconfigured, NoSuchDevice
from agents.devices.sharing import Sharing

SAMPLE = """
slot_name = "cuda"
device_plugin_name = "CUDADevice"
devices = [
  { mother_uuid = "gpu-1", model_name = "CUDA GPU", numa_node = 0, subproc_count = 108, memory_size = "40G", is_mig_device = false },
  { mother_uuid = "gpu-2", model_name = "CUDA GPU", numa_node = 1, subproc_count = 108, memory_size = "40G", is_mig_devices = false },
  { mother_uuid = "gpu-3", model_name = "MIG-10g", numa_node = 0, subproc_count = 28, memory_size = "10G", is_mig_device = true },
  { mother_uuid = "gpu-3", model_name = "MIG-10g", numa_node = 0, subproc_count = 28, memory_size = "10G", is_mig_device = true },
]

[attributes]
nvidia_driver = "450.0.0"
cuda_runtime = "11.0"

[formats.device]
display_unit = "GPU"
display_icon = "gpu1"
human_readable_name = "GPU"
description = "CUDA-capable GPU"
number_format = { binary = false, round_length = 0 }
"""  # noqa: E501
"""As the reference's own samples are written, with both spellings of the last field."""

FORMAT_MIG = """
[formats.10g-mig]
display_unit = "GPU"
display_icon = "gpu1"
human_readable_name = "10g"
description = "a tenth"
number_format = { binary = false, round_length = 0 }
"""


def mock(folder: Path, text: str = SAMPLE, sharing: Sharing | None = None, now: float = 0.0) -> Mock:
    path = folder / "mock.toml"
    path.write_text(text)
    return Mock(read_mock_file(path), sharing, clock=lambda: now)


async def opened(plugin: Mock, chosen: dict[str, int] | None = None) -> HostDevices:
    host = HostDevices()
    await host.open([plugin], chosen)
    return host


async def test_whole_devices_and_mig_instances_are_offered_as_declared(tmp_path: Path) -> None:
    host = await opened(mock(tmp_path))
    assert host.slots == {"cuda.device": 2000, "cuda.mig-10g": 2000}
    assert host.devices == {
        "cuda.device": {"gpu-1": 1000, "gpu-2": 1000},
        "cuda.mig-10g": {"MIG-gpu-3/2/0": 1000, "MIG-gpu-3/3/0": 1000},
    }


async def test_mig_slots_are_spelt_as_the_files_formats_spell_them(tmp_path: Path) -> None:
    host = await opened(mock(tmp_path, SAMPLE + FORMAT_MIG))
    assert "cuda.10g-mig" in host.slots
    assert {slot: each.description for slot, each in host.formats.items()} == {
        "cuda.device": "CUDA-capable GPU",
        "cuda.10g-mig": "a tenth",
    }


async def test_a_host_with_64_gpus_can_be_pretended_anywhere(tmp_path: Path) -> None:
    device = '{{ mother_uuid = "npu-{}", model_name = "NPU", numa_node = {}, subproc_count = 8, memory_size = "80g" }}'
    devices = ",".join(device.format(number, number // 32) for number in range(64))
    text = f'slot_name = "npu"\ndevice_plugin_name = "MockDevice"\ndevices = [{devices}]'
    host = await opened(mock(tmp_path, text))
    assert host.slots == {"npu.device": 64_000}
    granted = host.grant({"npu.device": {"npu-7": 1000, "npu-8": 1000}})
    assert granted.environ == {"BACKENDAI_MOCK_NPU_DEVICES": "npu-7,npu-8", "BACKENDAI_MOCK_NPU_DEVICE_COUNT": "2"}
    assert not granted.host_config, "nothing of the real host is given away"


async def test_shares_are_the_lesser_of_memory_and_processors_in_hundredths(tmp_path: Path) -> None:
    sharing = Sharing(allocation_mode="fractional", unit_mem=3 << 30, unit_proc=8)
    host = await opened(mock(tmp_path, sharing=sharing))
    assert host.devices["cuda.shares"] == {"gpu-1": 13330, "gpu-2": 13330}, "40 / 3 < 108 / 8"
    assert host.slots["cuda.shares"] == 26660
    assert host.slots["cuda.mig-10g"] == 2000, "an instance is not shared"
    processors = Sharing(allocation_mode="fractional", unit_mem=1 << 30, unit_proc=10)
    assert (await opened(mock(tmp_path, sharing=processors))).devices["cuda.shares"]["gpu-1"] == 10800


async def test_what_shares_may_use_stands_in_the_environment(tmp_path: Path) -> None:
    host = await opened(mock(tmp_path, sharing=Sharing(allocation_mode="fractional", unit_mem=2 << 30, unit_proc=10)))
    environ = host.grant({"cuda.shares": {"gpu-2": 2500, "gpu-1": 50}}).environ
    assert environ["CUDA_MEMORY_LIMITS"] == f"gpu-2:{5 << 30},gpu-1:{(2 << 30) // 20}"
    assert environ["CUDA_PROCESSOR_LIMITS"] == "gpu-2:25,gpu-1:1"
    assert environ["CUDA_MPS_PINNED_DEVICE_MEM_LIMIT"] == "0=5120M,1=102M"
    assert environ["CUDA_VISIBLE_DEVICES"] == "gpu-2,gpu-1", "what 0 and 1 are"
    assert environ["CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"] == "1"


async def test_a_device_with_a_fault_is_not_offered_nor_given(tmp_path: Path) -> None:
    text = SAMPLE.replace('mother_uuid = "gpu-1"', 'mother_uuid = "gpu-1", fault = "fell off the bus"')
    host = await opened(mock(tmp_path, text))
    assert host.devices["cuda.device"] == {"gpu-2": 1000}
    assert {device: health.reason for device, health in (await host.health()).items()} == {"gpu-1": "fell off the bus"}
    with pytest.raises(NoSuchDevice, match=r"cuda\.device gpu-1"):
        host.grant({"cuda.device": {"gpu-1": 1000}})


async def test_devices_are_idle_unless_the_file_says_that_they_are_used(tmp_path: Path) -> None:
    usage = (await mock(tmp_path, now=12.0).read_stats())["gpu-1"]
    assert usage == DeviceUsage(0.0, 0, 40 << 30, 60.0, 400.0, 34.0)


async def test_devices_look_alive_when_the_file_says_so(tmp_path: Path) -> None:
    text = SAMPLE.replace("[attributes]", "[statistics]\nload = 0.7\n\n[attributes]", 1)
    series = [(await mock(tmp_path, text, now=3.0 * step).read_stats())["gpu-1"] for step in range(40)]
    utilisation = [usage.utilisation_percent or 0.0 for usage in series]
    assert len(set(utilisation)) > 30, "they move"
    assert max(abs(a - b) for a, b in pairwise(utilisation)) < 30, "but do not jump about"
    assert 60 < sum(utilisation) / len(utilisation) < 80
    assert all(0 <= (usage.utilisation_percent or 0) <= 100 for usage in series)
    assert all(0 < (usage.memory_bytes or 0) < 40 << 30 for usage in series)
    other = (await mock(tmp_path, text, now=0.0).read_stats())["gpu-2"]
    assert other != series[0], "each in its own way"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("= 108", "= 0"), r"devices\[0\]\.subproc_count: .* greater than or equal to 1 \(and 1 more\)"),
        (('"40G"', '"forty"'), r"devices\[0\]\.memory_size: .*'forty' is no size such as 512m or 2g"),
        (("numa_node = 1", "numa_node = -1"), r"devices\[1\]\.numa_node: "),
        (("gpu-2", "gpu-1"), r"devices\[1\]\.mother_uuid: already that of devices\[0\]"),
        (('"CUDADevice"', '"CUDADevise"'), r"device_plugin_name: .*'CUDADevice' or 'MockDevice'"),
        (('"CUDADevice"', '"MockDevice"'), r"devices\[2\]\.is_mig_devices: only a CUDADevice has MIG instances"),
        (('"MIG-10g"', '"MIG 10g.b"'), r"devices\[2\]\.model_name: 'MIG 10g\.b' is no size such as MIG-10g"),
        (('slot_name = "cuda"', 'slot_name = "mem"'), r"slot_name: mem is no accelerator"),
        (('slot_name = "cuda"', ""), r"slot_name: Field required"),
        (("devices = [", "devises = ["), r"devices: Field required \(and 1 more\)"),
        (("round_length = 0", 'round_length = "two"'), r"formats\.device\.number_format\.round_length: "),
        (("[attributes]", "[attributes"), r"line \d+"),
    ],
)
def test_a_wrong_file_is_told_where_and_what(tmp_path: Path, change: tuple[str, str], said: str) -> None:
    assert change[0] in SAMPLE
    with pytest.raises(Misconfigured, match=rf"mock\.toml: .*{said}"):
        mock(tmp_path, SAMPLE.replace(*change))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"nothing\.toml: No such file"):
        read_mock_file(tmp_path / "nothing.toml")
