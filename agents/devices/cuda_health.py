"""How NVIDIA's GPUs are: fatal errors that NVML tells of as they happen, and counters of what their memory suffered.

Runs in the driver's thread: everything here may block.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from agents.devices.plugin import Condition, Device, Health

XIDS_OF_PROGRAMS = frozenset({13, 31, 43, 45, 68, 109})
"""Errors that a kernel's own program makes (out of bounds, killed, timed out): the device is none the worse."""
XID_DOUBLE_BIT_ERROR = 48
ANY_INSTANCE = 0xFFFFFFFF
"""An event that is about the whole GPU."""
RETIRED_PAGES_MAX = 60
"""With so many, NVIDIA takes a GPU back: there is room for no more than 64."""


@dataclass(frozen=True)
class Found:
    """A device, and what NVML calls it. `board` is the GPU that a MIG instance is part of; else the same."""

    device: Device
    """Its id is its UUID."""
    handle: Any
    board: Any
    board_uuid: str
    instance: tuple[int, int] | None = None


class CudaHealth:
    """`nvml` is the module `pynvml`."""

    def __init__(self, nvml: Any) -> None:
        self._nvml = nvml
        self._events: Any = None
        self._failed: dict[str, str] = {}
        """By id: what a device was seen to suffer. Only a new agent believes in it again."""

    def listen(self, found: Sequence[Found]) -> None:
        """For fatal errors of the boards; without, their counters have to do."""
        nvml = self._nvml
        wanted = nvml.nvmlEventTypeXidCriticalError | nvml.nvmlEventTypeDoubleBitEccError
        self._events = or_none(nvml, nvml.nvmlEventSetCreate)
        if self._events is not None:
            for each in {each.board_uuid: each for each in found}.values():
                supported = or_none(nvml, nvml.nvmlDeviceGetSupportedEventTypes, each.board) or 0
                if wanted & supported:
                    or_none(nvml, nvml.nvmlDeviceRegisterEvents, each.board, wanted & supported, self._events)

    def examine(self, found: Sequence[Found]) -> dict[str, Health]:
        """By device id, those that are not fine."""
        self._hear(found)
        known = {each.device.device_id: self._state(each) for each in found}
        return {device_id: health for device_id, health in known.items() if health.condition is not Condition.FINE}

    def close(self) -> None:
        """Listen no more."""
        if self._events is not None:
            self._nvml.nvmlEventSetFree(self._events)
            self._events = None

    def _hear(self, found: Sequence[Found]) -> None:
        """Take in what has happened since the last time. Does not wait."""
        nvml = self._nvml
        if self._events is None:
            return
        while (event := or_none(nvml, nvml.nvmlEventSetWait, self._events, 0)) is not None:
            is_xid = event.eventType == nvml.nvmlEventTypeXidCriticalError
            xid = int(event.eventData) if is_xid else XID_DOUBLE_BIT_ERROR
            if xid in XIDS_OF_PROGRAMS:
                continue
            board_uuid = or_none(nvml, nvml.nvmlDeviceGetUUID, event.device)
            about = (event.gpuInstanceId, event.computeInstanceId)
            for each in found:
                # A board that no longer says who it is, is found lost when it is examined.
                if each.board_uuid == board_uuid and _is_about(each.instance, about):
                    self._failed.setdefault(each.device.device_id, f"Xid {xid}")

    def _state(self, each: Found) -> Health:
        nvml = self._nvml
        if reason := self._failed.get(each.device.device_id):
            return Health(Condition.FAILED, reason)
        try:
            nvml.nvmlDeviceGetUUID(each.handle)
            nvml.nvmlDeviceGetMemoryInfo(each.handle)
        except nvml.NVMLError as error:
            return Health(Condition.FAILED, f"NVML: {error}")
        _, _, pending, failure = or_none(nvml, nvml.nvmlDeviceGetRemappedRows, each.board) or (0, 0, 0, 0)
        if failure:
            return Health(Condition.FAILED, "a row of its memory could not be remapped")
        retired = sum(
            len(or_none(nvml, nvml.nvmlDeviceGetRetiredPages, each.board, cause) or ())
            for cause in (
                nvml.NVML_PAGE_RETIREMENT_CAUSE_MULTIPLE_SINGLE_BIT_ECC_ERRORS,
                nvml.NVML_PAGE_RETIREMENT_CAUSE_DOUBLE_BIT_ECC_ERROR,
            )
        )
        if retired >= RETIRED_PAGES_MAX:
            return Health(Condition.FAILED, f"{retired} pages of its memory are retired")
        if pending or or_none(nvml, nvml.nvmlDeviceGetRetiredPagesPendingStatus, each.board):
            return Health(Condition.WORN, "its memory is to be mended by a reset")
        uncorrected = or_none(
            nvml,
            *(nvml.nvmlDeviceGetTotalEccErrors, each.board),
            *(nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, nvml.NVML_VOLATILE_ECC),
        )
        if uncorrected:
            return Health(Condition.WORN, f"{uncorrected} uncorrectable memory errors since its driver was loaded")
        return Health()


def or_none(nvml: Any, question: Callable[..., Any], *about: Any) -> Any:
    """None where this driver or this device does not say."""
    try:
        return question(*about)
    except nvml.NVMLError:
        return None


def _is_about(instance: tuple[int, int] | None, about: tuple[int, int]) -> bool:
    """Whether an event that names GPU and compute instance is about this one of its GPU."""
    return instance is None or all(other in (mine, ANY_INSTANCE) for mine, other in zip(instance, about, strict=True))
