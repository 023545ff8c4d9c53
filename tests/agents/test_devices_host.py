"""All plugins of a host together: who offers what, what is chosen of it, and the settings that say so."""

import asyncio
from collections.abc import Mapping
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any

import pytest

from agents.__main__ import profile_of
from agents.devices import host as host_module
from agents.devices.host import HostDevices, merged, take_stock
from agents.devices.intrinsic import Cpu
from agents.devices.plugin import (
    Condition,
    Device,
    DeviceUsage,
    Given,
    Grant,
    Health,
    Misconfigured,
    NoSuchDevice,
    Offer,
)
from agents.devices.watch import watch_devices
from agents.fake.runtime import FakeRuntime
from agents.journal import JournalUnavailable
from domain.slots import Slots
from infra.settings import Settings

GPUS = """
slot_name = "cuda"
device_plugin_name = "CUDADevice"
devices = [
  { mother_uuid = "gpu-1", model_name = "CUDA GPU", subproc_count = 100, memory_size = "40g" },
  { mother_uuid = "gpu-2", model_name = "CUDA GPU", subproc_count = 100, memory_size = "40g" },
]
"""


class Tpu:
    """A plugin from elsewhere."""

    name = "tpu"

    def __init__(self, *slots: str) -> None:
        self._slots = slots

    async def offer(self) -> Offer:
        return Offer([Device(f"t{number}", slot, 1000) for number, slot in enumerate(self._slots)])

    async def health(self) -> Mapping[str, Health]:
        return {"t1": Health(Condition.FAILED, "on fire"), "t2": Health(Condition.WORN, "smells")}

    async def read_stats(self) -> Mapping[str, DeviceUsage]:
        return {"t0": DeviceUsage(utilisation_percent=5.0)}

    def grant(self, given: Given) -> Grant:
        (mine,) = given.values()
        devices = [{"PathOnHost": f"/dev/{device}"} for device in mine]
        return Grant(environ={"TPU": ",".join(mine)}, host_config={"Devices": devices})

    async def close(self) -> None:
        """Nothing is held."""


class GpuOfAnother(Tpu):
    name = "cuda"


async def stocked(tmp_path: Path, **chosen: Any) -> HostDevices:
    """As an agent with these settings starts on a host of 8 processors and 16 GiB, with two mock GPUs."""
    (tmp_path / "mock.toml").write_text(GPUS)
    values = {"agent_mock_devices": str(tmp_path / "mock.toml"), "agent_device_plugins": ""} | chosen
    host = HostDevices()

    async def capacity() -> Mapping[str, str]:
        return {"cpu": "8", "mem": str(16 << 30)}

    await take_stock(host, Settings(**values), capacity)
    return host


async def test_a_host_offers_what_its_runtime_measures_and_its_plugins_find(tmp_path: Path) -> None:
    host = await stocked(tmp_path, agent_reserved_cpu="1", agent_reserved_mem="1g")
    assert host.slots == {"cpu": 7000, "mem": 15 << 30, "cuda.device": 2000}
    assert host.devices == {"cuda.device": {"gpu-1": 1000, "gpu-2": 1000}}


@pytest.mark.parametrize(
    ("slots", "offered", "devices"),
    [
        ({"cpu": "64", "mem": "1t"}, {"cpu": 64_000, "mem": 1 << 40}, {}),
        ({"cpu": "1", "cuda.device": "1"}, {"cpu": 1000, "cuda.device": 1000}, {"cuda.device": {"gpu-1": 1000}}),
        ({"cuda.device": "1.9"}, {"cuda.device": 1000}, {"cuda.device": {"gpu-1": 1000}}),
    ],
)
async def test_slots_that_are_chosen_are_all_that_is_offered_and_nothing_is_reserved(
    tmp_path: Path, slots: dict[str, str], offered: Slots, devices: Given
) -> None:
    host = await stocked(tmp_path, agent_slots=slots, agent_reserved_cpu="4")
    assert (host.slots, host.devices) == (offered, devices), "smaller ids first, fractions of a device are cut off"


async def test_a_device_that_fails_is_offered_no_more_and_one_that_recovers_is_again(tmp_path: Path) -> None:
    host = await stocked(tmp_path)
    assert not await host.look_again(), "nothing has changed"
    _broken(tmp_path, "gpu-1")
    assert await host.look_again()
    assert (host.devices, host.slots["cuda.device"]) == ({"cuda.device": {"gpu-2": 1000}}, 1000)
    assert host.faults == {"gpu-1": "Xid 79"}
    assert not await host.look_again(), "that is known"
    with pytest.raises(NoSuchDevice):
        host.grant({"cuda.device": {"gpu-1": 1000}})
    (tmp_path / "mock.toml").write_text(GPUS)
    assert await host.look_again()
    assert (host.devices, host.faults) == ({"cuda.device": {"gpu-1": 1000, "gpu-2": 1000}}, {})


async def test_a_spare_device_takes_the_place_of_one_that_failed(tmp_path: Path) -> None:
    host = await stocked(tmp_path, agent_slots={"cuda.device": "1"})
    _broken(tmp_path, "gpu-1")
    assert await host.look_again()
    assert (host.devices, host.slots) == ({"cuda.device": {"gpu-2": 1000}}, {"cuda.device": 1000})


def _broken(tmp_path: Path, device_id: str) -> None:
    file = tmp_path / "mock.toml"
    uuid = f'mother_uuid = "{device_id}"'
    assert uuid in GPUS
    file.write_text(GPUS.replace(uuid, f'{uuid}, fault = "Xid 79"'))


async def test_what_could_not_be_told_about_devices_is_told_the_next_time(tmp_path: Path) -> None:
    host = await stocked(tmp_path)
    told: list[dict[str, str]] = []
    failures: list[Exception] = [JournalUnavailable("the disk is full"), ZeroDivisionError("a defect of ours")]

    async def offer() -> None:
        if failures:
            raise failures.pop()
        told.append(host.faults)

    watching = asyncio.create_task(watch_devices(host, offer, 0.01))
    _broken(tmp_path, "gpu-2")
    async with asyncio.timeout(10):
        while not told:
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)
    watching.cancel()
    assert told == [{"gpu-2": "Xid 79"}], "once"


async def test_devices_are_offered_in_shares_by_setting(tmp_path: Path) -> None:
    fractional: dict[str, str | int] = {"allocation_mode": "fractional", "unit_mem": "10g", "unit_proc": 10}
    host = await stocked(tmp_path, agent_accelerators={"cuda": fractional})
    assert host.devices == {"cuda.shares": {"gpu-1": 4000, "gpu-2": 4000}}
    host = await stocked(tmp_path, agent_accelerators={"cuda": fractional}, agent_slots={"cuda.shares": "5.5"})
    assert host.devices == {"cuda.shares": {"gpu-1": 4000, "gpu-2": 1500}}


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        ({"agent_slots": {"cuda.device": "3"}}, "REFOLD_AGENT_SLOTS: 3 of cuda.device, but there is 2"),
        ({"agent_slots": {"rocm.device": "1"}}, "REFOLD_AGENT_SLOTS: nothing here offers rocm.device"),
        ({"agent_slots": {"cpu": "many"}}, "REFOLD_AGENT_SLOTS: 'many' is no amount of cpu"),
        ({"agent_reserved_mem": "much"}, "REFOLD_AGENT_RESERVED_MEM: 'much' is no amount of mem"),
        ({"agent_reserved_cpu": "8"}, "REFOLD_AGENT_RESERVED_CPU: 8 of 8 leaves nothing to offer"),
        ({"agent_device_plugins": "cuda, tpu"}, "REFOLD_AGENT_DEVICE_PLUGINS: no device plugin tpu is installed"),
        ({"agent_accelerators": {"tpu": {}}}, "REFOLD_AGENT_ACCELERATORS: there is no device plugin tpu"),
        (
            {"agent_accelerators": {"cuda": {"unit_mem": "big"}}},
            "REFOLD_AGENT_ACCELERATORS: cuda.unit_mem: .*'big' is no size",
        ),
        (
            {"agent_accelerators": {"cuda": {"allocation_mode": "halves"}}},
            "REFOLD_AGENT_ACCELERATORS: cuda.allocation_mode: .*'discrete' or 'fractional'",
        ),
    ],
)
async def test_what_cannot_be_is_told_by_its_setting(tmp_path: Path, chosen: dict[str, Any], said: str) -> None:
    with pytest.raises(Misconfigured, match=said):
        await stocked(tmp_path, **chosen)


async def test_an_agent_offers_its_devices_in_its_profile(tmp_path: Path) -> None:
    (tmp_path / "mock.toml").write_text(GPUS)
    settings = Settings(agent_mock_devices=str(tmp_path / "mock.toml"), agent_device_plugins="")
    profile = await profile_of(settings, FakeRuntime(tmp_path), HostDevices(), "http://a")
    assert profile.slots == {"cpu": 8000, "mem": 16 << 30, "cuda.device": 2000}
    assert profile.devices == {"cuda.device": {"gpu-1": 1000, "gpu-2": 1000}}
    broken = Settings(agent_mock_devices=str(tmp_path), agent_device_plugins="")
    with pytest.raises(SystemExit, match="Is a directory"):
        await profile_of(broken, FakeRuntime(tmp_path), HostDevices(), "http://a")


async def test_a_plugin_is_found_by_its_entry_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("tpu", f"{__name__}:make_tpu", "refold.devices")
    monkeypatch.setattr(host_module, "entry_points", lambda group: EntryPoints([point]).select(group=group))
    host = await stocked(tmp_path, agent_device_plugins="tpu", agent_id="a1")
    assert host.devices["tpu.device"] == {"a1": 1000}
    assert "tpu.device" not in (await stocked(tmp_path)).slots, "only where it is asked for"


def make_tpu(settings: Settings) -> Tpu:
    class One(Tpu):
        async def offer(self) -> Offer:
            return Offer([Device(settings.agent_id, "tpu.device", 1000)])

    return One()


async def test_a_device_that_has_failed_is_not_offered_and_one_that_is_worn_is() -> None:
    host = HostDevices()
    await host.open([Tpu("tpu.device", "tpu.device", "tpu.device")])
    assert host.devices == {"tpu.device": {"t0": 1000, "t2": 1000}}
    assert {device: health.condition for device, health in (await host.health()).items()} == {
        "t1": Condition.FAILED,
        "t2": Condition.WORN,
    }
    assert (await host.read_stats())["t0"].utilisation_percent == 5.0


async def test_two_plugins_do_not_offer_the_same_slot() -> None:
    with pytest.raises(Misconfigured, match=r"GpuOfAnother and GpuOfAnother both offer cuda\.device"):
        await HostDevices().open([GpuOfAnother("cuda.device"), GpuOfAnother("cuda.device")])


async def test_a_plugin_offers_slots_of_its_own_name_only() -> None:
    with pytest.raises(Misconfigured, match=r"tpu offers cuda\.device, which is not its own"):
        await HostDevices().open([Tpu("cuda.device")])


async def test_plugins_of_one_name_answer_each_for_what_it_offers() -> None:
    class Other(GpuOfAnother):
        def grant(self, given: Given) -> Grant:
            return Grant(environ={"OTHER": ",".join(given["cuda.mig-1c10g"])})

    host = HostDevices()
    await host.open([GpuOfAnother("cuda.device"), Other("cuda.mig-1c10g")])
    granted = host.grant({"cuda.device": {"t0": 1000}, "cuda.mig-1c10g": {"t0": 1000}})
    assert granted.environ == {"TPU": "t0", "OTHER": "t0"}


@pytest.mark.parametrize("given", [{"tpu.device": {"t9": 1000}}, {"cuda.device": {"t0": 1000}}])
async def test_what_is_not_here_is_not_given(given: Given) -> None:
    host = HostDevices()
    await host.open([Tpu("tpu.device")])
    with pytest.raises(NoSuchDevice, match=r"does not offer (tpu|cuda)\.device t"):
        host.grant(given)


async def test_a_kernel_has_what_all_its_devices_mean() -> None:
    host = HostDevices()
    await host.open([Cpu(4000), Tpu("tpu.device")])
    assert host.grant({}) == Grant()
    granted = host.grant({"tpu.device": {"t0": 1000}})
    assert (granted.environ, granted.host_config) == ({"TPU": "t0"}, {"Devices": [{"PathOnHost": "/dev/t0"}]})


def test_lists_are_joined_and_two_do_not_say_different_things() -> None:
    one = Grant({"A": "1"}, {"B": "1"}, {"C": "1"}, {"Devices": [1], "ShmSize": 5}, (3, 1))
    two = Grant({"D": "1"}, {}, {}, {"Devices": [2], "ShmSize": 5}, (2,))
    both = Grant({"A": "1", "D": "1"}, {"B": "1"}, {"C": "1"}, {"Devices": [1, 2], "ShmSize": 5}, (1, 2, 3))
    assert merged([one, two]) == both
    with pytest.raises(NoSuchDevice, match="different ShmSize"):
        merged([one, Grant(host_config={"ShmSize": 6})])
