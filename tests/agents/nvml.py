# ruff: noqa: N802 (these are its names)
"""A small NVML: what `agents/devices/cuda.py` asks of the module `pynvml`, answered from plain values.

It only checks how answers are read. A product-like host without GPUs is the mock plugin.
"""

import threading
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pynvml

MANY = 0xFFFFFFFF


@dataclass
class Instance:
    """A MIG instance."""

    uuid: str
    compute_slices: int
    memory_mib: int
    ids: tuple[int, int]


@dataclass
class Board:
    """One GPU. What is None is not supported by it."""

    uuid: str
    bus: str = "00000000:3B:00.0"
    name: str = "NVIDIA H100 80GB HBM3"
    memory: int = 80 << 30
    used: int = 8 << 30
    cores: int | None = 132 * 128
    instances: list[Instance | None] | None = None
    gpu_percent: int | None = 42
    milliwatts: int | None = 312_500
    celsius: int | None = 61
    remapped: tuple[int, int, int, int] | None = (0, 0, 0, 0)
    retired: int | None = None
    retirement_pending: int | None = None
    uncorrected: int | None = 0
    lost: bool = False


@dataclass
class FakeNvml:
    """Stands for the module. `events` are told once each."""

    boards: list[Board]
    error: int | None = None
    events: list[tuple[Board, int, tuple[int, int]]] = field(default_factory=list)
    open: int = 0
    blocks: threading.Event | None = None

    def __getattr__(self, name: str) -> Any:
        if name.startswith("nvml") and not name.startswith("nvmlEventType"):
            raise AttributeError(name)  # a function it has not
        return getattr(pynvml, name)

    def nvmlInit(self) -> None:
        self._may_fail(self.error)
        self.open += 1

    def nvmlShutdown(self) -> None:
        self.open -= 1

    def nvmlDeviceGetCount(self) -> int:
        return len(self.boards)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Board:
        return self._here(self.boards[index])

    def nvmlDeviceGetUUID(self, handle: Board | Instance) -> str:
        if self.blocks is not None:
            self.blocks.wait()
        return (self._here(handle) if isinstance(handle, Board) else handle).uuid

    def nvmlDeviceGetName(self, handle: Board | Instance) -> str:
        return handle.name if isinstance(handle, Board) else f"NVIDIA H100 80GB HBM3 MIG {handle.compute_slices}g"

    def nvmlDeviceGetMemoryInfo(self, handle: Board | Instance) -> Any:
        if isinstance(handle, Instance):
            return SimpleNamespace(total=handle.memory_mib << 20, used=1 << 30)
        return SimpleNamespace(total=self._here(handle).memory, used=handle.used)

    def nvmlDeviceGetMigMode(self, board: Board) -> list[int]:
        return [int(board.instances is not None)] * 2

    def nvmlDeviceGetMaxMigDeviceCount(self, board: Board) -> int:
        return len(board.instances or ())

    def nvmlDeviceGetMigDeviceHandleByIndex(self, board: Board, index: int) -> Instance:
        instance: Instance = self._said((board.instances or [])[index])
        return instance

    def nvmlDeviceGetAttributes(self, handle: Board | Instance) -> Any:
        instance: Instance = self._said(handle if isinstance(handle, Instance) else None)
        return SimpleNamespace(
            multiprocessorCount=16 * instance.compute_slices,
            computeInstanceSliceCount=instance.compute_slices,
            memorySizeMB=instance.memory_mib,
        )

    def nvmlDeviceGetGpuInstanceId(self, instance: Instance) -> int:
        return instance.ids[0]

    def nvmlDeviceGetComputeInstanceId(self, instance: Instance) -> int:
        return instance.ids[1]

    def nvmlDeviceGetNumGpuCores(self, board: Board) -> Any:
        return self._said(board.cores)

    def nvmlDeviceGetCudaComputeCapability(self, _board: Board) -> tuple[int, int]:
        return 9, 0

    def nvmlDeviceGetPciInfo(self, board: Board) -> Any:
        return SimpleNamespace(busId=board.bus.encode())

    def nvmlDeviceGetUtilizationRates(self, handle: Board | Instance) -> Any:
        return SimpleNamespace(gpu=self._said(handle.gpu_percent if isinstance(handle, Board) else None))

    def nvmlDeviceGetPowerUsage(self, board: Board) -> Any:
        return self._said(board.milliwatts)

    def nvmlDeviceGetEnforcedPowerLimit(self, _board: Board) -> int:
        return 700_000

    def nvmlDeviceGetTemperature(self, board: Board, _sensor: int) -> Any:
        return self._said(board.celsius)

    def nvmlDeviceGetRemappedRows(self, board: Board) -> Any:
        return self._said(board.remapped)

    def nvmlDeviceGetRetiredPages(self, board: Board, cause: int) -> list[int]:
        pages: int = self._said(board.retired)
        return list(range(pages)) if cause == pynvml.NVML_PAGE_RETIREMENT_CAUSE_DOUBLE_BIT_ECC_ERROR else []

    def nvmlDeviceGetRetiredPagesPendingStatus(self, board: Board) -> Any:
        return self._said(board.retirement_pending)

    def nvmlDeviceGetTotalEccErrors(self, board: Board, kind: int, counter: int) -> Any:
        assert (kind, counter) == (pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, pynvml.NVML_VOLATILE_ECC)
        return self._said(board.uncorrected)

    def nvmlEventSetCreate(self) -> list[Board]:
        return []

    def nvmlDeviceGetSupportedEventTypes(self, _board: Board) -> int:
        return int(pynvml.nvmlEventTypeAll)

    def nvmlDeviceRegisterEvents(self, board: Board, _types: int, event_set: list[Board]) -> None:
        event_set.append(board)

    def nvmlEventSetWait(self, event_set: list[Board], milliseconds: int) -> Any:
        assert milliseconds == 0, "nobody waits for errors"
        if not self.events:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_TIMEOUT)
        board, xid, (gpu_instance, compute_instance) = self.events.pop(0)
        assert board in event_set
        return SimpleNamespace(
            device=board,
            eventType=pynvml.nvmlEventTypeXidCriticalError,
            eventData=xid,
            gpuInstanceId=gpu_instance,
            computeInstanceId=compute_instance,
        )

    def nvmlEventSetFree(self, event_set: list[Board]) -> None:
        event_set.clear()

    def _here(self, board: Board) -> Board:
        self._may_fail(pynvml.NVML_ERROR_GPU_IS_LOST if board.lost else None)
        return board

    def _said(self, value: Any) -> Any:
        self._may_fail(pynvml.NVML_ERROR_NOT_SUPPORTED if value is None else None)
        return value

    def _may_fail(self, error: int | None) -> None:
        if error is not None:
            raise pynvml.NVMLError(error)
