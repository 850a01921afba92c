"""GPU readings from the NVIDIA driver's NVML, each GPU isolated from the others' failures.

Memory is as nvidia-smi shows it: without what the driver reserves for itself. Calls that cost
milliseconds (process utilisation, PCIe throughput) are left out on purpose.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

import pynvml

from engine.messages import DeviceReading, ProcessReading
from engine.sentence import sentence
from engine.telemetry.processes import ProcessTable

T = TypeVar("T")

#: Bits of the clock event reasons that hold a GPU back, by the names shown. Idle is none.
#: As figures: the bits belong to NVML's interface, the binding's names for them come and go.
_THROTTLE: Final = (
    (0x002, "application clocks"),
    (0x004, "power cap"),
    (0x008, "hardware slowdown"),
    (0x010, "sync boost"),
    (0x020, "software thermal"),
    (0x040, "hardware thermal"),
    (0x080, "power brake"),
    (0x100, "display clocks"),
    (0x200, "board limit"),
    (0x400, "reliability"),
)

#: Events of one GPU that are taken at one reading.
_MOST_EVENTS: Final = 64


class NvmlError(RuntimeError):
    """NVML cannot be used on this host; the text says why."""


def throttle_names(bits: int) -> tuple[str, ...]:
    """The reasons in a mask of ``nvmlClocksThrottleReason*`` bits."""
    return tuple(name for bit, name in _THROTTLE if bits & bit)


@dataclass
class _Slot:
    """One GPU; what never changes is read once."""

    index: int
    handle: Any = None
    name: str = "unknown GPU"
    uuid: str = ""
    temperature_limit: float | None = None
    error: str | None = None
    events: Any = None  # its own event set: a GPU that is lost takes no other's along
    xid: int | None = None
    xids: int | None = None


class NvmlSource:
    """All GPUs of the host, by ``pynvml``.

    Args:
        nvml: the module to call; tests give their own.

    Raises:
        NvmlError: no library, no driver, or no GPU.
    """

    name = "nvml"

    def __init__(self, nvml: Any = pynvml) -> None:
        self._nvml = nvml
        self._processes = ProcessTable()
        self._slots: list[_Slot] = []
        try:
            nvml.nvmlInit()
            count = int(nvml.nvmlDeviceGetCount())
        except nvml.NVMLError as error:
            raise NvmlError(sentence("NVML is not available: {error}", error=error)) from error
        if count == 0:
            self.close()
            raise NvmlError(sentence("NVML sees no GPU"))
        self._slots = [_Slot(index, uuid=f"index-{index}") for index in range(count)]
        for slot in self._slots:
            self._open(slot)

    def memory(self) -> dict[str, int | None]:
        return {slot.uuid: self._memory(slot)[1] for slot in self._slots}

    def read(self) -> tuple[DeviceReading, ...]:
        readings = [self._read(slot) for slot in self._slots]
        pids = {p.pid for reading in readings for p in reading.processes}
        known = {pid: self._processes.describe(pid) for pid in sorted(pids)}
        self._processes.forget_others(pids)
        return tuple(
            replace(
                reading,
                processes=tuple(replace(known[p.pid], memory=p.memory) for p in reading.processes),
            )
            for reading in readings
        )

    def close(self) -> None:
        for slot in self._slots:
            self._unlisten(slot)
        with contextlib.suppress(self._nvml.NVMLError):
            self._nvml.nvmlShutdown()

    def _open(self, slot: _Slot) -> None:
        """Find the GPU; one that fails now is tried again at every reading."""
        nvml = self._nvml
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(slot.index)
            slot.uuid = _text(nvml.nvmlDeviceGetUUID(handle))
            slot.name = _text(nvml.nvmlDeviceGetName(handle))
        except nvml.NVMLError as error:
            slot.error = str(error)
            return
        slot.handle, slot.error = handle, None
        self._listen(slot)
        kind = nvml.NVML_TEMPERATURE_THRESHOLD_SLOWDOWN
        slot.temperature_limit = self._optional(
            lambda: float(nvml.nvmlDeviceGetTemperatureThreshold(handle, kind))
        )

    def _listen(self, slot: _Slot) -> None:
        """Hear of the GPU's XID errors; where the driver tells none, their number stays None."""
        nvml = self._nvml
        self._unlisten(slot)
        kind = nvml.nvmlEventTypeXidCriticalError
        try:
            events = nvml.nvmlEventSetCreate()
        except nvml.NVMLError:
            return
        try:
            if not nvml.nvmlDeviceGetSupportedEventTypes(slot.handle) & kind:
                raise nvml.NVMLError(nvml.NVML_ERROR_NOT_SUPPORTED)
            nvml.nvmlDeviceRegisterEvents(slot.handle, kind, events)
        except nvml.NVMLError:
            with contextlib.suppress(nvml.NVMLError):
                nvml.nvmlEventSetFree(events)
            return
        slot.events, slot.xids = events, slot.xids or 0

    def _unlisten(self, slot: _Slot) -> None:
        if slot.events is not None:
            with contextlib.suppress(self._nvml.NVMLError):
                self._nvml.nvmlEventSetFree(slot.events)
            slot.events = None

    def _hear(self, slot: _Slot) -> None:
        """Take the XID errors since the last reading; never waits."""
        nvml = self._nvml
        for _ in range(_MOST_EVENTS if slot.events is not None else 0):
            try:
                event = nvml.nvmlEventSetWait_v2(slot.events, 0)
            except nvml.NVMLError:  # a timeout: nothing (more) happened
                return
            if event.eventType & nvml.nvmlEventTypeXidCriticalError:
                slot.xid, slot.xids = int(event.eventData), (slot.xids or 0) + 1

    def _optional(self, call: Callable[[], T]) -> T | None:
        """None where this GPU does not tell; a GPU that is lost still raises."""
        nvml = self._nvml
        try:
            return call()
        except (
            nvml.NVMLError_NotSupported,
            nvml.NVMLError_NoPermission,
            nvml.NVMLError_FunctionNotFound,
            nvml.NVMLError_InvalidArgument,
        ):
            return None

    def _memory(self, slot: _Slot) -> tuple[int | None, int | None]:
        """(total, used) bytes, quickly; None for a GPU that cannot be read now."""
        if slot.handle is None:
            return None, None
        nvml = self._nvml
        try:
            try:
                info = nvml.nvmlDeviceGetMemoryInfo(slot.handle, version=nvml.nvmlMemory_v2)
            except (nvml.NVMLError_FunctionNotFound, nvml.NVMLError_NotSupported):
                info = nvml.nvmlDeviceGetMemoryInfo(slot.handle)
        except nvml.NVMLError:
            return None, None
        return int(info.total), int(info.used)

    def _read(self, slot: _Slot) -> DeviceReading:
        self._hear(slot)  # before it is opened anew: what it was lost by is told last
        if slot.handle is None:
            self._open(slot)
        known = DeviceReading(
            slot.index, slot.name, slot.uuid, self.name, xid=slot.xid, xids=slot.xids
        )
        handle, nvml = slot.handle, self._nvml
        if handle is None:
            return replace(known, error=slot.error)
        total, used = self._memory(slot)
        try:
            return replace(
                known,
                memory_total=total,
                memory_used=used,
                temperature_c=self._optional(
                    lambda: float(nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU))
                ),
                temperature_limit_c=slot.temperature_limit,
                utilization=self._optional(
                    lambda: float(nvml.nvmlDeviceGetUtilizationRates(handle).gpu)
                ),
                power_w=self._optional(lambda: nvml.nvmlDeviceGetPowerUsage(handle) / 1000),
                power_limit_w=self._optional(
                    lambda: nvml.nvmlDeviceGetEnforcedPowerLimit(handle) / 1000
                ),
                throttle=throttle_names(
                    self._optional(lambda: nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle))
                    or 0
                ),
                processes=self._holders(slot),
                ecc_uncorrected=self._optional(
                    lambda: int(
                        nvml.nvmlDeviceGetTotalEccErrors(
                            handle, nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, nvml.NVML_VOLATILE_ECC
                        )
                    )
                ),
            )
        except nvml.NVMLError as error:
            if not isinstance(error, nvml.NVMLError_Timeout):
                slot.handle = None  # lost or reset: looked up afresh next time
                slot.error = str(error)
            return replace(known, memory_total=total, memory_used=used, error=str(error))

    def _holders(self, slot: _Slot) -> tuple[ProcessReading, ...]:
        """Processes with a compute, graphics or MPS context. Memory None: the driver hides it."""
        nvml, handle = self._nvml, slot.handle
        memory: dict[int, int | None] = {}
        for call in (
            nvml.nvmlDeviceGetComputeRunningProcesses,
            nvml.nvmlDeviceGetGraphicsRunningProcesses,
            nvml.nvmlDeviceGetMPSComputeRunningProcesses,
        ):
            for entry in self._optional(lambda call=call: call(handle)) or ():  # type: ignore[misc]
                pid, used = int(entry.pid), entry.usedGpuMemory
                # One process may be in two lists with the same bytes: not a sum.
                seen = memory.get(pid)
                memory[pid] = seen if used is None else max(int(used), seen or 0)
        return tuple(
            ProcessReading(pid, 0.0, memory={slot.uuid: used})
            for pid, used in sorted(memory.items())
        )


def _text(value: str | bytes) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value
