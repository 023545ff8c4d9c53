"""What was measured, in the words of the public client: `live_stat` and `last_stat` of kernels and agents, and the
statistics of a session that ends."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

from domain.telemetry import DeviceSample, KernelSample, used_percents
from infra.live_stats import HostMeasured, Measured

Metric = dict[str, str | None]


def of_kernel(measured: Measured) -> dict[str, Metric]:
    """By metric. `current` of `cpu_util` is of one processor, `pct` of what the kernel was given.

    What its host does not tell is not there.
    """
    sample, devices = measured.sample, measured.devices
    percents = used_percents(sample, devices)
    told: dict[str, Metric] = {}
    if sample.cpu_usec is not None:
        told["cpu_used"] = _metric(sample.cpu_usec / 1000, None, "msec")
    if sample.cpu_percent is not None:
        told["cpu_util"] = _metric(sample.cpu_percent, sample.cpu_millis / 10 or None, "percent", percents["cpu_util"])
    if sample.memory_bytes is not None:
        told["mem"] = _metric(sample.memory_bytes, sample.memory_bytes_max, "bytes") | {
            "stats.max": _text(max(sample.memory_bytes, sample.memory_bytes_peak or 0))
        }
    for name, counted in _counters(sample).items():
        if counted is not None:
            told[name] = _metric(counted, None, "bytes")
    for kind, mine in _by_kind(devices.values()).items():
        told |= _of_devices(kind, mine, "percent")
    return told


def of_agent(measured: HostMeasured) -> dict[str, Any]:
    """`node`: of the whole host; `devices`: by metric and device. `pct` of `cpu_util` is null while it is not known."""
    host = measured.host
    cpus = {str(number): _metric(percent, 100, "pct") for number, percent in enumerate(host.cpu_percents)}
    node = {"cpu_util": _metric(sum(host.cpu_percents), 100 * len(cpus) or None, "pct", cpu_percent(measured))}
    devices: dict[str, dict[str, Metric]] = {"cpu_util": cpus}
    if host.memory_bytes is not None:
        node["mem"] = _metric(host.memory_bytes, host.memory_bytes_max, "bytes")
        devices["mem"] = {"root": node["mem"]}
    for kind, mine in _by_kind(measured.devices).items():
        node |= _of_devices(kind, mine, "pct")
        for device in mine:
            for name, metric in _of_devices(kind, [device], "pct").items():
                devices.setdefault(name, {})[device.device_id] = metric
    return {"node": node, "devices": devices}


def cpu_percent(measured: HostMeasured) -> float | None:
    """Of all processors of the host together."""
    return fmean(measured.host.cpu_percents) if measured.host.cpu_percents else None


def of_session(kernels: Iterable[Measured]) -> dict[str, int]:
    """Of all its kernels together, as `destroy --stats` shows it; milliseconds and bytes."""
    samples = [each.sample for each in kernels]
    counters = [_counters(each) for each in samples]
    return {
        "cpu_used": sum(each.cpu_usec or 0 for each in samples) // 1000,
        "mem_max_bytes": sum(max(each.memory_bytes or 0, each.memory_bytes_peak or 0) for each in samples),
        "mem_cur_bytes": sum(each.memory_bytes or 0 for each in samples),
        "net_rx_bytes": sum(each["net_rx"] or 0 for each in counters),
        "net_tx_bytes": sum(each["net_tx"] or 0 for each in counters),
        "io_read_bytes": sum(each["io_read"] or 0 for each in counters),
        "io_write_bytes": sum(each["io_write"] or 0 for each in counters),
        "io_max_scratch_size": 0,
    }


def _counters(sample: KernelSample) -> Mapping[str, int | None]:
    return {
        "io_read": sample.io_read_bytes,
        "io_write": sample.io_written_bytes,
        "net_rx": sample.net_received_bytes,
        "net_tx": sample.net_sent_bytes,
    }


def _by_kind(devices: Iterable[DeviceSample]) -> Mapping[str, list[DeviceSample]]:
    """`cuda`, whether they are given whole or in parts."""
    found: dict[str, list[DeviceSample]] = {}
    for device in devices:
        found.setdefault(device.slot.partition(".")[0], []).append(device)
    return found


def _of_devices(kind: str, devices: Sequence[DeviceSample], percent: str) -> dict[str, Metric]:
    """Of all of them together. `percent`: the client's unit for it, of a kernel another one than of an agent."""
    told: dict[str, Metric] = {}
    if busy := _known(devices, lambda each: each.utilisation_percent):
        told[f"{kind}_util"] = _metric(fmean(busy), 100, percent)
    if used := _known(devices, lambda each: each.memory_bytes):
        told[f"{kind}_mem"] = _metric(sum(used), sum(_known(devices, lambda each: each.memory_bytes_max)), "bytes")
    if hot := _known(devices, lambda each: each.temperature_celsius):
        told[f"{kind}_temperature"] = _metric(max(hot), None, "Celsius")
    return told


def _known(devices: Sequence[DeviceSample], of: Callable[[DeviceSample], float | None]) -> list[float]:
    return [value for each in devices if (value := of(each)) is not None]


def _metric(current: float, capacity: float | None, unit: str, percent: float | None = None) -> Metric:
    """`percent`: of the capacity, where that is not what it says."""
    if percent is None and capacity:
        percent = 100 * current / capacity
    return {
        "current": _text(current),
        "capacity": None if capacity is None else _text(capacity),
        "pct": None if percent is None else f"{percent:.2f}",
        "unit_hint": unit,
    }


def _text(number: float) -> str:
    return str(int(number)) if number == int(number) else f"{number:.2f}"
