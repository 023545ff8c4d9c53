"""NVIDIA's GPUs, through NVML: whole, in shares by setting, or as the MIG instances that somebody has made of them.

A GPU in MIG mode offers its instances and not itself. An instance's slot says its compute slices and its memory:
`cuda.mig-2c10g`. NVML may block, so every question to it is asked beside the event loop (`agents/devices/driver.py`).
"""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pynvml
import structlog

from agents.devices.cuda_health import CudaHealth, Found, or_none
from agents.devices.driver import Driver
from agents.devices.plugin import Condition, Device, DeviceUsage, Given, Grant, Health, Offer, Unanswered
from agents.devices.sharing import Sharing, limits
from agents.devices.topology import SYSFS, numa_node_of_pci
from domain.slots import WHOLE

_log = structlog.get_logger("agents")

CORES_PER_PROCESSOR: Mapping[int, int] = {6: 64, 7: 64, 8: 64, 9: 128, 10: 128, 12: 128}
"""CUDA cores in a streaming multiprocessor, by major compute capability, where it is the same for all data-centre
GPUs; minor versions other than 0 of 6 and 8 have 128."""


class Cuda:
    """`nvml` is the module `pynvml`, or what stands for it in a test."""

    name = "cuda"

    def __init__(
        self, sharing: Sharing | None = None, *, nvml: Any = pynvml, sysfs: Path = SYSFS, seconds_max: float = 10.0
    ) -> None:
        self._sharing = sharing or Sharing()
        self._nvml = nvml
        self._sysfs = sysfs
        self._driver = Driver("NVML", seconds_max)
        self._found: tuple[Found, ...] = ()
        self._health = CudaHealth(nvml)

    async def offer(self) -> Offer:
        """Nothing where there is no driver or no GPU."""
        try:
            self._found = await self._driver.ask(self._look)
        except (self._nvml.NVMLError, Unanswered) as error:
            _log.info("no NVIDIA GPUs are offered", reason=str(error))
            return Offer()
        return Offer([found.device for found in self._found if found.device.units])

    async def health(self) -> Mapping[str, Health]:
        """Fatal errors that NVML told of since the start, and what its counters say."""
        if not self._found:
            return {}
        try:
            return await self._driver.ask(lambda: self._health.examine(self._found))
        except Unanswered as error:
            return {found.device.device_id: Health(Condition.FAILED, str(error)) for found in self._found}

    async def read_stats(self) -> Mapping[str, DeviceUsage]:
        """All GPUs in one go; nothing while the driver does not answer."""
        if not self._found:
            return {}
        try:
            return await self._driver.ask(lambda: {each.device.device_id: self._usage(each) for each in self._found})
        except Unanswered as error:
            _log.warning("no statistics of GPUs", reason=str(error))
            return {}

    def grant(self, given: Given) -> Grant:
        """By UUID, so that it means the same on either side of a container's wall."""
        ids = list(dict.fromkeys(device_id for devices in given.values() for device_id in devices))
        if not ids:
            return Grant()
        processors = {found.device.device_id: found.device.processors for found in self._found}
        shares = given.get("cuda.shares", {})
        return Grant(
            environ=limits(self._sharing, shares, processors) if shares else {},
            native_environ={"CUDA_VISIBLE_DEVICES": ",".join(ids)},
            container_environ={"NVIDIA_VISIBLE_DEVICES": ",".join(ids)},
            host_config={"DeviceRequests": [{"Driver": "nvidia", "DeviceIDs": ids, "Capabilities": [["gpu"]]}]},
        )

    async def close(self) -> None:
        """Without waiting for a driver that does not answer."""
        if self._found:
            self._found = ()
            with suppress(self._nvml.NVMLError, Unanswered):
                await self._driver.ask(self._let_go)

    # -- in the driver's thread ----------------------------------------------------------------------------------------

    def _look(self) -> tuple[Found, ...]:
        nvml = self._nvml
        nvml.nvmlInit()
        found = list[Found]()
        for index in range(nvml.nvmlDeviceGetCount()):
            try:
                board = nvml.nvmlDeviceGetHandleByIndex(index)
                in_mig_mode = (or_none(nvml, nvml.nvmlDeviceGetMigMode, board) or (0, 0))[0]
                found.extend(self._instances(board) if in_mig_mode else [self._whole(board)])
            except nvml.NVMLError as error:  # one that fell off its bus must not hide the others
                _log.warning("a GPU is left out", index=index, reason=str(error))
        if not found:
            nvml.nvmlShutdown()
            raise nvml.NVMLError(nvml.NVML_ERROR_NOT_FOUND)
        self._health.listen(found)
        return tuple(found)

    def _whole(self, board: Any) -> Found:
        nvml = self._nvml
        uuid = nvml.nvmlDeviceGetUUID(board)
        memory = nvml.nvmlDeviceGetMemoryInfo(board).total
        processors = self._processors(board)
        fractional = self._sharing.fractional
        device = Device(
            device_id=uuid,
            slot="cuda.shares" if fractional else "cuda.device",
            units=self._sharing.units(memory, processors) if fractional else WHOLE,
            model=nvml.nvmlDeviceGetName(board),
            numa_node=self._numa_node(board),
            memory_bytes=memory,
            processors=processors,
        )
        return Found(device, board, board, uuid)

    def _instances(self, board: Any) -> Iterator[Found]:
        nvml = self._nvml
        board_uuid = nvml.nvmlDeviceGetUUID(board)
        for index in range(nvml.nvmlDeviceGetMaxMigDeviceCount(board)):
            handle = or_none(nvml, nvml.nvmlDeviceGetMigDeviceHandleByIndex, board, index)
            if handle is None:
                continue
            uuid = nvml.nvmlDeviceGetUUID(handle)
            attributes = nvml.nvmlDeviceGetAttributes(handle)
            # A little of an instance's memory is kept back: an instance of `10gb` has 9856 MiB.
            gigabytes = -(-attributes.memorySizeMB // 1024)
            device = Device(
                device_id=uuid,
                slot=f"cuda.mig-{attributes.computeInstanceSliceCount}c{gigabytes}g",
                units=WHOLE,
                model=nvml.nvmlDeviceGetName(handle),
                numa_node=self._numa_node(board),
                memory_bytes=attributes.memorySizeMB << 20,
                processors=attributes.multiprocessorCount,
            )
            instance = nvml.nvmlDeviceGetGpuInstanceId(handle), nvml.nvmlDeviceGetComputeInstanceId(handle)
            yield Found(device, handle, board, board_uuid, instance)

    def _processors(self, board: Any) -> int:
        nvml = self._nvml
        if attributes := or_none(nvml, nvml.nvmlDeviceGetAttributes, board):
            return int(attributes.multiprocessorCount)
        cores = or_none(nvml, nvml.nvmlDeviceGetNumGpuCores, board)
        major, minor = or_none(nvml, nvml.nvmlDeviceGetCudaComputeCapability, board) or (0, 0)
        per_processor = 128 if major in (6, 8) and minor else CORES_PER_PROCESSOR.get(major, 0)
        return int(cores) // per_processor if cores and per_processor else 0

    def _numa_node(self, board: Any) -> int | None:
        # NVML's own answer is another one: which node a GPU's memory is, where that is one.
        info = or_none(self._nvml, self._nvml.nvmlDeviceGetPciInfo, board)
        if info is None:
            return None
        address = info.busId
        return numa_node_of_pci(address.decode() if isinstance(address, bytes) else address, self._sysfs)

    def _usage(self, each: Found) -> DeviceUsage:
        nvml = self._nvml
        memory = or_none(nvml, nvml.nvmlDeviceGetMemoryInfo, each.handle)
        rates = or_none(nvml, nvml.nvmlDeviceGetUtilizationRates, each.handle)
        whole = each.instance is None  # a board's power is not one instance's
        power = or_none(nvml, nvml.nvmlDeviceGetPowerUsage, each.board) if whole else None
        power_max = or_none(nvml, nvml.nvmlDeviceGetEnforcedPowerLimit, each.board) if whole else None
        temperature = or_none(nvml, nvml.nvmlDeviceGetTemperature, each.board, nvml.NVML_TEMPERATURE_GPU)
        return DeviceUsage(
            utilisation_percent=None if rates is None else float(rates.gpu),
            memory_bytes=None if memory is None else int(memory.used),
            memory_bytes_max=None if memory is None else int(memory.total),
            power_watts=None if power is None else power / 1000,
            power_watts_max=None if power_max is None else power_max / 1000,
            temperature_celsius=None if temperature is None else float(temperature),
        )

    def _let_go(self) -> None:
        self._health.close()
        self._nvml.nvmlShutdown()
