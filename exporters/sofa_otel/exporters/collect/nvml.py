"""NVIDIA GPUs through the driver's own library: utilisation, memory, power, energy, temperature, clocks, throttling, PCIe, ECC.

What a GPU or a driver does not support is left out with one line about it; everything else goes on. The library is only loaded
when the collector is asked for, and no GPU context is made.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from sofa_otel.core import names
from sofa_otel.core.errors import RequirementError
from sofa_otel.exporters.collect.polled import PolledCollector
from sofa_otel.exporters.collector import Capability, Target

THROTTLE_REASONS: Final = {
    0x0000000000000001: "idle",
    0x0000000000000002: "applications_clocks_setting",
    0x0000000000000004: "sw_power_cap",
    0x0000000000000008: "hw_slowdown",
    0x0000000000000010: "sync_boost",
    0x0000000000000020: "sw_thermal_slowdown",
    0x0000000000000040: "hw_thermal_slowdown",
    0x0000000000000080: "hw_power_brake_slowdown",
    0x0000000000000100: "display_clock_setting",
}
"""Bits of ``nvmlDeviceGetCurrentClocksEventReasons`` (nvml.h)."""

_KIB: Final = 1024


class _Gpu:
    """A device handle, its attributes and the readings it supports."""

    def __init__(self, handle: Any, attributes: dict[str, str]) -> None:
        self.handle = handle
        self.attributes = attributes
        self.readings: dict[str, Callable[[_Gpu], None]] = {}
        self.series: dict[tuple[str, str], int] = {}
        self.io_bytes = [0.0, 0.0]
        self.energy_j = 0.0
        self.last_ns = 0


class NvmlCollector(PolledCollector):
    """Every GPU the driver shows. ``hw.id`` is ``GPU-<uuid>``.

    ``hw.gpu.io`` integrates the PCIe throughput that the driver measures over 20 ms, so it is an estimate between polls.
    Where the driver has no energy counter, energy is the integral of power.
    """

    name = "nvml"
    interval_s = 1.0
    provides = "utilisation, memory, power, energy, temperature, throttling, PCIe and ECC errors of NVIDIA GPUs"

    def __init__(self, root: str = "/") -> None:
        super().__init__(root)
        self._nvml: Any = None
        self._gpus: list[_Gpu] = []
        self._now_ns = 0
        self._told: set[str] = set()

    def probe(self) -> Capability:
        """Loads the driver's library, asks for the number of GPUs and lets it go."""
        missing, remedy = self._connect()
        count = 0
        if not missing:
            try:
                count = int(self._nvml.nvmlDeviceGetCount())
            except self._nvml.NVMLError as error:
                missing, remedy = f"the NVIDIA driver tells no GPUs: {error}", "nvidia-smi shows what is wrong with the driver"
            self._disconnect()
        if not missing and not count:
            missing, remedy = (
                "the NVIDIA driver shows no GPU",
                "give the container a GPU (NVIDIA_VISIBLE_DEVICES, device plug-in)",
            )
        if missing:
            return Capability(usable=False, provides=self.provides, missing=missing, remedy=remedy)
        return Capability(usable=True, provides=f"{self.provides} ({count})")

    def _connect(self) -> tuple[str, str]:
        try:
            import pynvml
        except ImportError:
            return "nvidia-ml-py is not installed", "pip install 'sofa-otel[gpu]'"
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as error:
            if isinstance(error, getattr(pynvml, "NVMLError_LibraryNotFound", ())):
                return (
                    "libnvidia-ml.so.1 was not found: no NVIDIA driver here",
                    "install the NVIDIA driver; in a container use the NVIDIA runtime with NVIDIA_DRIVER_CAPABILITIES=utility",
                )
            return f"the NVIDIA driver cannot be used: {error}", "nvidia-smi shows what is wrong with the driver"
        self._nvml = pynvml
        return "", ""

    def _disconnect(self) -> None:
        nvml, self._nvml = self._nvml, None
        if nvml is not None:
            try:
                nvml.nvmlShutdown()
            except nvml.NVMLError:
                pass

    def _open(self, target: Target) -> None:
        missing, remedy = self._connect()
        if missing:
            raise RequirementError(f"nvml: {missing}", remedy)
        nvml = self._nvml
        self._gpus = []
        for index in range(nvml.nvmlDeviceGetCount()):
            try:
                handle = nvml.nvmlDeviceGetHandleByIndex(index)
                attributes = {names.HW_ID: _text(nvml.nvmlDeviceGetUUID(handle)), names.HW_TYPE: "gpu"}
            except nvml.NVMLError as error:
                self._tell(f"GPU {index} cannot be read: {error}")
                continue
            try:
                attributes[names.HW_NAME] = _text(nvml.nvmlDeviceGetName(handle))
            except nvml.NVMLError:
                pass
            gpu = _Gpu(handle, attributes)
            gpu.readings = {
                "utilisation": self._utilization,
                "memory": self._memory,
                "power": self._power,
                "energy": self._energy,
                "temperature": self._temperature,
                "SM clock": self._clock,
                "clock throttle reasons": self._throttle,
                "PCIe throughput": self._pcie,
                "ECC errors": self._ecc,
            }
            self._gpus.append(gpu)

    def _close(self) -> None:
        self._gpus = []
        self._disconnect()

    def _read(self, now_ns: int) -> None:
        nvml, self._now_ns = self._nvml, now_ns
        for gpu in self._gpus:
            for what, reading in list(gpu.readings.items()):
                try:
                    reading(gpu)
                except nvml.NVMLError as error:
                    permanent = ("NVMLError_FunctionNotFound", "NVMLError_NotSupported", "NVMLError_NoPermission")
                    if type(error).__name__ in permanent:
                        del gpu.readings[what]
                        self._tell(f"{what} left out: {error}")
                    elif type(error).__name__ == "NVMLError_GpuIsLost":
                        gpu.readings.clear()
                        self._tell(f"{gpu.attributes[names.HW_ID]} has fallen off the bus: its metrics end here")
                    else:
                        self._dropped += 1
                        self._tell(f"{what}: {error}")
            gpu.last_ns = now_ns

    def _tell(self, text: str) -> None:
        if self._sink is not None and text not in self._told:
            self._told.add(text)
            self._sink.warn(f"nvml: {text}")

    def _point(self, gpu: _Gpu, metric: names.Metric, value: float, key: str = "", label: str = "") -> None:
        series = gpu.series.get((metric.name, label))
        if series is None:
            attributes = gpu.attributes | ({key: label} if key else {})
            series = gpu.series[metric.name, label] = self._series(metric, attributes)
        self._put(series, value)

    def _utilization(self, gpu: _Gpu) -> None:
        rates = self._nvml.nvmlDeviceGetUtilizationRates(gpu.handle)
        self._point(gpu, names.GPU_UTILIZATION, rates.gpu / 100, names.GPU_TASK, "general")

    def _memory(self, gpu: _Gpu) -> None:
        memory = self._nvml.nvmlDeviceGetMemoryInfo(gpu.handle)
        self._point(gpu, names.GPU_MEMORY_USAGE, memory.used)
        self._point(gpu, names.GPU_MEMORY_LIMIT, memory.total)
        if memory.total:
            self._point(gpu, names.GPU_MEMORY_UTILIZATION, memory.used / memory.total)

    def _power(self, gpu: _Gpu) -> None:
        watts = self._nvml.nvmlDeviceGetPowerUsage(gpu.handle) / 1000
        self._point(gpu, names.HW_POWER, watts)
        if "energy" not in gpu.readings:
            if gpu.last_ns:
                gpu.energy_j += watts * (self._now_ns - gpu.last_ns) * 1e-9
            self._point(gpu, names.HW_ENERGY, gpu.energy_j)

    def _energy(self, gpu: _Gpu) -> None:
        self._point(gpu, names.HW_ENERGY, self._nvml.nvmlDeviceGetTotalEnergyConsumption(gpu.handle) / 1000)

    def _temperature(self, gpu: _Gpu) -> None:
        nvml = self._nvml
        self._point(gpu, names.HW_TEMPERATURE, nvml.nvmlDeviceGetTemperature(gpu.handle, nvml.NVML_TEMPERATURE_GPU))

    def _clock(self, gpu: _Gpu) -> None:
        nvml = self._nvml
        self._point(gpu, names.GPU_CLOCK, nvml.nvmlDeviceGetClockInfo(gpu.handle, nvml.NVML_CLOCK_SM) * 1e6)

    def _throttle(self, gpu: _Gpu) -> None:
        nvml = self._nvml
        ask = getattr(nvml, "nvmlDeviceGetCurrentClocksEventReasons", None)
        try:
            reasons = ask(gpu.handle) if ask is not None else nvml.nvmlDeviceGetCurrentClocksThrottleReasons(gpu.handle)
        except nvml.NVMLError as error:
            if type(error).__name__ != "NVMLError_FunctionNotFound":
                raise
            reasons = nvml.nvmlDeviceGetCurrentClocksThrottleReasons(gpu.handle)  # the name before driver 535
        for bit, reason in THROTTLE_REASONS.items():
            self._point(gpu, names.GPU_THROTTLE, float(bool(reasons & bit)), names.THROTTLE_REASON, reason)

    def _pcie(self, gpu: _Gpu) -> None:
        nvml = self._nvml
        elapsed = (self._now_ns - gpu.last_ns) * 1e-9 if gpu.last_ns else 0.0
        for way, (counter, direction) in enumerate(
            ((nvml.NVML_PCIE_UTIL_RX_BYTES, "receive"), (nvml.NVML_PCIE_UTIL_TX_BYTES, "transmit"))
        ):
            gpu.io_bytes[way] += nvml.nvmlDeviceGetPcieThroughput(gpu.handle, counter) * _KIB * elapsed
            self._point(gpu, names.GPU_IO, gpu.io_bytes[way], names.NETWORK_DIRECTION, direction)

    def _ecc(self, gpu: _Gpu) -> None:
        nvml = self._nvml
        for kind, label in (
            (nvml.NVML_MEMORY_ERROR_TYPE_CORRECTED, "corrected"),
            (nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, "uncorrected"),
        ):
            count = nvml.nvmlDeviceGetTotalEccErrors(gpu.handle, kind, nvml.NVML_VOLATILE_ECC)
            self._point(gpu, names.HW_ERRORS, count, names.ERROR_TYPE, label)


def _text(value: str | bytes) -> str:
    """Old releases of the binding gave bytes."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
