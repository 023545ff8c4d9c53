"""What was measured last, for /metrics. Nothing is made ready for it: what nobody scrapes costs nothing.

Kernels are told apart by session and kernel: as many series as run on the host, and only while they do.
"""

from collections.abc import Callable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from domain.telemetry import DeviceSample, KernelSample, KernelSamples

_KERNEL = ("session", "kernel")
_DEVICE = ("device", "slot")

_COUNTERS: tuple[tuple[str, str, Callable[[KernelSample], float | None]], ...] = (
    (
        "refold_kernel_cpu_seconds",
        "Processor time used.",
        lambda each: None if each.cpu_usec is None else each.cpu_usec / 1e6,
    ),
    ("refold_kernel_io_read_bytes", "Read from block devices.", lambda each: each.io_read_bytes),
    ("refold_kernel_io_written_bytes", "Written to block devices.", lambda each: each.io_written_bytes),
    ("refold_kernel_network_received_bytes", "Received.", lambda each: each.net_received_bytes),
    ("refold_kernel_network_sent_bytes", "Sent.", lambda each: each.net_sent_bytes),
)
_GAUGES: tuple[tuple[str, str, Callable[[KernelSample], float | None]], ...] = (
    ("refold_kernel_memory_bytes", "Memory in use.", lambda each: each.memory_bytes),
    ("refold_kernel_memory_limit_bytes", "Memory it may use.", lambda each: each.memory_bytes_max),
    ("refold_kernel_processes", "Processes, or threads of a container.", lambda each: each.processes),
)
_DEVICES: tuple[tuple[str, str, Callable[[DeviceSample], float | None]], ...] = (
    (
        "refold_device_utilisation_ratio",
        "Part of the time in which it was busy.",
        lambda each: None if each.utilisation_percent is None else each.utilisation_percent / 100,
    ),
    ("refold_device_memory_bytes", "Its memory in use.", lambda each: each.memory_bytes),
    ("refold_device_memory_limit_bytes", "Its memory.", lambda each: each.memory_bytes_max),
    ("refold_device_power_watts", "Power drawn.", lambda each: each.power_watts),
    ("refold_device_temperature_celsius", "Its temperature.", lambda each: each.temperature_celsius),
)


class Measured(Collector):
    """`latest` gives what was measured last."""

    def __init__(self, latest: Callable[[], KernelSamples | None]) -> None:
        self._latest = latest

    def describe(self) -> Iterator[Metric]:
        """Nothing to be registered ahead: names are ours, and one of these is made."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        samples = self._latest()
        if samples is None:
            return
        kernels = [((each.session_id, each.kernel_id), each) for each in samples.kernels]
        for kind, families in ((CounterMetricFamily, _COUNTERS), (GaugeMetricFamily, _GAUGES)):
            for name, help_text, of in families:
                family = kind(name, help_text, labels=_KERNEL)
                for labels, kernel in kernels:
                    if (value := of(kernel)) is not None:
                        family.add_metric(labels, value)
                yield family
        for name, help_text, of_device in _DEVICES:
            gauge = GaugeMetricFamily(name, help_text, labels=_DEVICE)
            for device in samples.devices:
                if (value := of_device(device)) is not None:
                    gauge.add_metric((device.device_id, device.slot), value)
            yield gauge
