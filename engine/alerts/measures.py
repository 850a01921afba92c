"""The named measurements that rules judge: what each is, of what, and where it comes from.

``prom`` is the same figure in the words of Prometheus (engine/metrics/text.py's names). A counter
is read through ``increase``; an observation (the seconds of one clip) through ``mean`` and its
kin. Absent readings are None: a rule neither fires nor clears on what nobody measured.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from engine.messages import DeviceReading
from engine.metrics.facts import Facts, JobFacts

DEVICE: Final = "device"
JOB: Final = "job"
HOST: Final = "host"

_THERMAL: Final = frozenset({"software thermal", "hardware thermal", "hardware slowdown"})
_POWER: Final = frozenset({"power cap", "power brake", "board limit", "reliability"})
_WAITING: Final = frozenset({"queued"})
_WORKING: Final = frozenset({"running"})

#: A failure is news for so long.
FAILED_SECONDS: Final = 600.0


@dataclass
class Probes:
    """Figures that come from looking, not from events. None: not looked at yet, or unknown."""

    disk_free: int | None = None
    disk_total: int | None = None
    zombies: int | None = None
    strays: int | None = None


@dataclass(frozen=True)
class Measure:
    """One named measurement."""

    name: str
    scope: str  # DEVICE | JOB | HOST
    kind: str  # "gauge" | "counter" | "observation"
    unit: str
    help: str
    prom: str
    device: Callable[[DeviceReading], float | None] | None = field(default=None, repr=False)
    job: Callable[[JobFacts, float], float | None] | None = field(default=None, repr=False)
    host: Callable[[Facts, Probes], float | None] | None = field(default=None, repr=False)


def percent(part: float | None, whole: float | None) -> float | None:
    """100 × part / whole; None where either is unknown or there is no whole."""
    return None if part is None or not whole else 100.0 * part / whole


def _age(job: JobFacts, now: float) -> float | None:
    return max(0.0, now - job.row.created) if job.row.state in _WAITING else None


def _idle(job: JobFacts, now: float) -> float | None:
    if job.row.state not in _WORKING or job.last_progress is None:
        return None
    return max(0.0, now - job.last_progress)


def _failed(job: JobFacts, now: float) -> float | None:
    return _ended(job, now, "failed")


def _interrupted(job: JobFacts, now: float) -> float | None:
    return _ended(job, now, "interrupted")


def _ended(job: JobFacts, now: float, state: str) -> float:
    return float(job.row.state == state and now - job.changed < FAILED_SECONDS)


def _ratio(job: JobFacts) -> float | None:
    fps, predicted = job.fps, job.predicted_fps
    return None if fps is None or not predicted else 100.0 * fps / predicted


def _errors(kind: str) -> Callable[[Facts, Probes], float | None]:
    return lambda facts, _: float(facts.errors.total(kind))


def _d(
    name: str,
    unit: str,
    text: str,
    prom: str,
    read: Callable[[DeviceReading], float | None],
    kind: str = "gauge",
) -> Measure:
    return Measure(name, DEVICE, kind, unit, text, prom, device=read)


def _j(
    name: str, unit: str, text: str, prom: str, read: Callable[[JobFacts, float], float | None]
) -> Measure:
    return Measure(name, JOB, "gauge", unit, text, prom, job=read)


def _h(
    name: str,
    unit: str,
    text: str,
    prom: str,
    read: Callable[[Facts, Probes], float | None],
    kind: str = "gauge",
) -> Measure:
    return Measure(name, HOST, kind, unit, text, prom, host=read)


def _counted(kind: str, text: str) -> Measure:
    return _h(
        f"{kind}_errors",
        "",
        text,
        f'avatop_errors_total{{kind="{kind}"}}',
        _errors(kind),
        "counter",
    )


_TABLE: Final = (
    _d(
        "memory_percent",
        "%",
        "device memory in use, of all",
        "gpu_memory_used_percent",
        lambda d: percent(d.memory_used, d.memory_total),
    ),
    _d(
        "memory_peak_percent",
        "%",
        "highest device memory since the reading before",
        "gpu_memory_peak_percent",
        lambda d: percent(d.memory_peak, d.memory_total),
    ),
    _d("memory_used", "bytes", "device memory in use", "gpu_memory_used_bytes",
       lambda d: d.memory_used),
    _d("temperature_c", "°C", "device temperature", "gpu_temperature_celsius",
       lambda d: d.temperature_c),
    _d(
        "temperature_limit_c",
        "°C",
        "temperature at which the device slows down",
        "gpu_temperature_limit_celsius",
        lambda d: d.temperature_limit_c,
    ),
    _d("utilization", "%", "share of time with a kernel running", "gpu_utilization_percent",
       lambda d: d.utilization),
    _d("power_w", "W", "power drawn", "gpu_power_watts", lambda d: d.power_w),
    _d(
        "power_percent",
        "%",
        "power drawn, of the limit",
        "100 * gpu_power_watts / gpu_power_limit_watts",
        lambda d: percent(d.power_w, d.power_limit_w),
    ),
    _d(
        "throttle",
        "",
        "reasons that hold the clocks back",
        "gpu_throttle_reasons",
        lambda d: None if d.error or d.source == "host" else float(len(d.throttle)),
    ),
    _d(
        "throttle_thermal",
        "",
        "reasons that are heat or a hardware slowdown",
        "gpu_throttle_thermal",
        lambda d: _throttle(d, _THERMAL),
    ),
    _d(
        "throttle_power",
        "",
        "reasons that are power or voltage",
        "gpu_throttle_power",
        lambda d: _throttle(d, _POWER),
    ),
    _d(
        "unreadable",
        "",
        "1 where the device cannot be read",
        "gpu_unreadable",
        lambda d: float(d.error is not None),
    ),
    _d(
        "xids",
        "",
        "XID errors of the driver since the engine began",
        "gpu_xid_errors_total",
        lambda d: d.xids,
        "counter",
    ),
    _d(
        "ecc_uncorrected",
        "",
        "uncorrected memory errors since the driver was loaded",
        "gpu_ecc_uncorrected_errors_total",
        lambda d: d.ecc_uncorrected,
        "counter",
    ),
    Measure(
        "latency",
        JOB,
        "observation",
        "s",
        "seconds of work per clip",
        "inference_duration_seconds",
    ),
    Measure(
        "block_seconds",
        JOB,
        "observation",
        "s",
        "seconds of work per block",
        "",
    ),
    _j("fps", "fps", "video frames per second of work", "avatop_job_fps", lambda j, _: j.fps),
    _j("fps_predicted", "fps", "frames per second by the plan", "avatop_job_fps_predicted",
       lambda j, _: j.predicted_fps),
    _j(
        "fps_percent",
        "%",
        "frames per second, of what the plan predicts",
        "100 * avatop_job_fps / avatop_job_fps_predicted",
        lambda j, _: _ratio(j),
    ),
    _j("queue_age", "s", "how long a job has been waiting", "avatop_job_queue_age_seconds", _age),
    _j("idle", "s", "since the last block of a running job", "avatop_job_idle_seconds", _idle),
    _j("failed", "", "1 for a job that failed in the last 10 minutes",
       'avatop_job_state{state="failed"}', _failed),
    _j("interrupted", "", "1 for a job that was interrupted in the last 10 minutes",
       'avatop_job_state{state="interrupted"}', _interrupted),
    _h(
        "host_memory_percent",
        "%",
        "host memory in use, of all",
        "avatop_host_memory_used_percent",
        lambda f, _: _host_memory(f),
    ),
    _h("disk_free", "bytes", "free where jobs are kept", "avatop_disk_free_bytes",
       lambda _, p: p.disk_free),
    _h(
        "disk_free_percent",
        "%",
        "free where jobs are kept, of all",
        "100 * avatop_disk_free_bytes / avatop_disk_size_bytes",
        lambda _, p: percent(p.disk_free, p.disk_total),
    ),
    _h("zombies", "", "orphaned, stuck, stray, stopped and defunct processes (avatop reap)",
       "avatop_zombies", lambda _, p: p.zombies),
    _h("strays", "", "inference processes that hold devices and belong to nobody",
       "avatop_stray_processes", lambda _, p: p.strays),
    _h(
        "queue_length",
        "",
        "jobs waiting",
        "avatop_queue_length",
        lambda f, _: float(sum(j.row.state in _WAITING for j in f.jobs.values())),
    ),
    _h(
        "release_stops",
        "",
        "rollouts that were paused or taken back",
        "avatop_release_stops_total",
        lambda facts, _: float(facts.release_stops),
        "counter",
    ),
    _counted("oom", "out of memory on a device or the host"),
    _counted("nccl", "failures of communication between ranks"),
    _counted("decode", "audio or video that cannot be decoded"),
    _counted("quality", "NaN latents, black or frozen frames, silence"),
    _counted("xid", "the driver's XID errors, in logs"),
    _counted("ecc", "uncorrectable memory errors, in logs"),
)  # fmt: skip
MEASURES: Final = {measure.name: measure for measure in _TABLE}


def _throttle(device: DeviceReading, reasons: frozenset[str]) -> float | None:
    if device.error or device.source == "host":
        return None
    return float(sum(reason in reasons for reason in device.throttle))


def _host_memory(facts: Facts) -> float | None:
    total, available = facts.host_memory_total, facts.host_memory_available
    return None if total is None or available is None else percent(total - available, total)
