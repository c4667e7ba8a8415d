"""The GPU's state for the diagnostics: memory, temperature, power, and whether it is slowed down."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .diagnostics import Status

FULL_SHARE = 0.9
SLOW_SHARE, SLOW_FOR_S = 0.6, 10.0
"""Below this share of its highest clock for so long a busy GPU is throttled: heat or power."""
BUSY_PERCENT = 50


@dataclass(frozen=True)
class GpuReading:
    """One look; NaN or "" = not known.

    Attributes:
        used_mb, total_mb: Of the whole GPU, all processes.
        clock_share: Of its highest clock.
        busy_percent: How much of the time it works.
    """

    name: str
    used_mb: float
    total_mb: float
    own_mb: float = float("nan")
    temperature_c: float = float("nan")
    power_w: float = float("nan")
    clock_share: float = float("nan")
    busy_percent: float = float("nan")


def read_gpu() -> GpuReading | None:
    """Return the state of the GPU that torch uses in this process; None when it uses none.

    Never loads torch or starts CUDA: a look must not cost memory on the GPU.
    """
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return None
    free, total = torch.cuda.mem_get_info()
    name, own = torch.cuda.get_device_name(), torch.cuda.memory_reserved()
    return GpuReading(name, (total - free) / 1e6, total / 1e6, own / 1e6, **_sensors(torch))


def _sensors(torch: Any) -> dict[str, float]:
    """Return what NVIDIA's library tells; nothing where it is not installed, or keeps it to itself."""
    try:
        import pynvml

        pynvml.nvmlInit()
        # Not by its number: CUDA's is another one where CUDA_VISIBLE_DEVICES is set.
        uuid = torch.cuda.get_device_properties(torch.cuda.current_device()).uuid
        handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
        highest = pynvml.nvmlDeviceGetMaxClockInfo(handle, pynvml.NVML_CLOCK_SM)
        return {
            "temperature_c": float(pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU)),
            "power_w": pynvml.nvmlDeviceGetPowerUsage(handle) / 1e3,
            "clock_share": pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM) / max(highest, 1),
            "busy_percent": float(pynvml.nvmlDeviceGetUtilizationRates(handle).gpu),
        }
    except Exception:  # no such module, an older torch, a driver: any of them means that there is nothing to show
        return {}


class GpuWatch:
    """Makes the status `gpu`.

    Args:
        read: Looks at the GPU.
    """

    def __init__(self, read: Callable[[], GpuReading | None] = read_gpu) -> None:
        self._read = read
        self._slow_since_s: float | None = None

    def status(self, now_s: float | None = None) -> Status:
        """Look, and say how it is."""
        now_s = time.monotonic() if now_s is None else now_s
        try:
            reading = self._read()
        except Exception as error:  # as the driver has it: a lost device raises on every question
            status = Status("gpu", {"name": "lost"})
            status.error(f"the GPU does not answer: {error}")
            return status
        if reading is None:
            status = Status("gpu", {"name": "none"})
            status.note("no GPU is used")
            return status
        values = {"name": reading.name, "memory [MB]": f"{reading.used_mb:.0f} of {reading.total_mb:.0f}",
                  "memory of this process [MB]": reading.own_mb, "temperature [C]": reading.temperature_c,
                  "power [W]": reading.power_w}  # fmt: skip
        status = Status("gpu", {key: value for key, value in values.items() if value == value})
        if reading.used_mb > FULL_SHARE * reading.total_mb:
            status.warn(f"{100 * reading.used_mb / reading.total_mb:.0f} % of its memory are taken")
        slow = reading.clock_share < SLOW_SHARE and reading.busy_percent >= BUSY_PERCENT
        self._slow_since_s = (self._slow_since_s or now_s) if slow else None
        if self._slow_since_s is not None and now_s - self._slow_since_s >= SLOW_FOR_S:
            status.warn(
                f"slowed to {100 * reading.clock_share:.0f} % of its clock "
                f"({reading.temperature_c:.0f} C, {reading.power_w:.0f} W): cool it, or raise its power limit"
            )
        return status
