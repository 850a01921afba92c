"""Facts in Prometheus' text format (version 0.0.4). Pure.

The names of the operators' article are kept: ``gpu_memory_used_percent`` and
``inference_duration_seconds`` (``_sum``, ``_count``, ``_bucket``). What nobody measured has no
sample: a missing figure is not 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from engine.messages import JOB_STATES, LIVE_STATES, DeviceReading
from engine.metrics.errors import TOLD
from engine.metrics.facts import Facts, JobFacts
from engine.metrics.processes import usage_of

if TYPE_CHECKING:
    from engine.alerts.measures import Probes

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_THERMAL: Final = frozenset({"software thermal", "hardware thermal", "hardware slowdown"})
_POWER: Final = frozenset({"power cap", "power brake", "board limit", "reliability"})

Labels = Mapping[str, str]


class Page:
    """Families in order; a family with no sample is left out."""

    def __init__(self) -> None:
        self._heads: dict[str, tuple[str, str]] = {}
        self._lines: dict[str, list[str]] = {}

    def add(
        self, name: str, kind: str, text: str, value: float | None, labels: Labels, suffix: str = ""
    ) -> None:
        """One sample; None adds nothing."""
        if value is None:
            return
        self._heads.setdefault(name, (kind, text))
        inner = ",".join(f'{k}="{_escaped(v)}"' for k, v in labels.items())
        shape = f"{{{inner}}}" if inner else ""
        self._lines.setdefault(name, []).append(f"{name}{suffix}{shape} {_number(value)}")

    def text(self) -> str:
        parts = []
        for name, (kind, text) in self._heads.items():
            parts += [f"# HELP {name} {text}", f"# TYPE {name} {kind}", *self._lines[name]]
        return "\n".join(parts) + "\n"


def render(facts: Facts, probes: Probes, now: float) -> str:
    """Everything that is known at this moment."""
    page = Page()
    host = {"host": facts.host}
    page.add("avatop_info", "gauge", "1; the version is in the label.", 1,
             {**host, "version": facts.version})  # fmt: skip
    for device in facts.devices.values():
        _device(page, facts, device)
    for number, job in facts.jobs.items():
        _job(page, {**host, "version": job.version, "job": str(number)}, job, now)
    _ranks(page, facts)
    _host(page, facts, probes, host)
    return page.text()


def _device(page: Page, facts: Facts, device: DeviceReading) -> None:
    number = facts.job_of(device.uuid)
    job = facts.jobs.get(number) if number is not None else None
    labels = {
        "host": facts.host,
        "gpu": str(device.index),
        "uuid": device.uuid,
        "version": job.version if job is not None else facts.version,
        "job": "" if number is None else str(number),
    }

    def gauge(name: str, text: str, value: float | None) -> None:
        page.add(f"gpu_{name}", "gauge", text, value, labels)

    total, used, peak = device.memory_total, device.memory_used, device.memory_peak
    gauge("memory_total_bytes", "Memory of the device.", total)
    gauge("memory_used_bytes", "Device memory in use.", used)
    gauge("memory_used_percent", "Device memory in use, of all.", _percent(used, total))
    gauge("memory_peak_percent", "Highest since the reading before.", _percent(peak, total))
    gauge("utilization_percent", "Share of time with a kernel running.", device.utilization)
    gauge("temperature_celsius", "Temperature.", device.temperature_c)
    gauge("temperature_limit_celsius", "Where it slows down.", device.temperature_limit_c)
    gauge("power_watts", "Power drawn.", device.power_w)
    gauge("power_limit_watts", "Power allowed.", device.power_limit_w)
    gauge("unreadable", "1 where the device cannot be read.", float(device.error is not None))
    for name, text, count in (
        ("xid_errors_total", "XID errors since the engine began.", device.xids),
        ("ecc_uncorrected_errors_total", "Since the driver was loaded.", device.ecc_uncorrected),
    ):
        page.add(f"gpu_{name}", "counter", text, count, labels)
    if device.error is None and device.source != "host":
        reasons = device.throttle
        gauge("throttle_reasons", "Reasons that hold the clocks back.", len(reasons))
        gauge("throttle_thermal", "Of these: heat.", sum(r in _THERMAL for r in reasons))
        gauge("throttle_power", "Of these: power.", sum(r in _POWER for r in reasons))


def _job(page: Page, labels: Labels, job: JobFacts, now: float) -> None:
    row = job.row

    def gauge(name: str, text: str, value: float | None) -> None:
        page.add(f"avatop_job_{name}", "gauge", text, value, labels)

    gauge("fps", "Video frames per second of work, over the last clip.", job.fps)
    gauge("fps_predicted", "The same, as the plan predicts.", job.predicted_fps)
    gauge("clips_committed", "Clips on disk.", row.clip)
    gauge("clips", "Clips asked for.", row.clips)
    gauge("peak_memory_bytes", "Highest memory of any of its ranks.", row.peak_bytes)
    if row.state == "queued":
        gauge("queue_age_seconds", "Waiting for so long.", max(0.0, now - row.created))
    if row.state == "running" and job.last_progress is not None:
        idle = max(0.0, now - job.last_progress)
        gauge("idle_seconds", "Since the last block.", idle)
    for state in JOB_STATES:
        page.add("avatop_job_state", "gauge", "1 for the state the job is in.",
                 float(row.state == state), {**labels, "state": state})  # fmt: skip
    page.add("avatop_job_spikes_total", "counter", "Spikes of device memory.", row.spikes, labels)
    page.add("avatop_job_blocks_total", "counter", "Blocks done.", job.blocks, labels)
    if not job.latency.count and row.state not in LIVE_STATES:
        return
    name, text = "inference_duration_seconds", "Seconds of work per clip."
    for bound, count in job.latency.cumulative():
        page.add(name, "histogram", text, count, {**labels, "le": bound}, "_bucket")
    page.add(name, "histogram", text, job.latency.sum, labels, "_sum")
    page.add(name, "histogram", text, job.latency.count, labels, "_count")


def _ranks(page: Page, facts: Facts) -> None:
    for (number, rank), event in sorted(facts.ranks.items()):
        job = facts.jobs.get(number)
        device = facts.devices.get(event.device_uuid or "")
        labels = {
            "host": facts.host,
            "gpu": "" if device is None else str(device.index),
            "uuid": event.device_uuid or "",
            "version": job.version if job is not None else facts.version,
            "job": str(number),
            "rank": str(rank),
        }
        usage = usage_of(event.pid)
        if usage is None:
            continue
        page.add("avatop_rank_cpu_seconds_total", "counter", "Processor time of a rank.",
                 usage.cpu_seconds, labels)  # fmt: skip
        page.add("avatop_rank_resident_memory_bytes", "gauge", "Host memory of a rank.",
                 usage.rss, labels)  # fmt: skip


def _releases(page: Page, facts: Facts, host: Labels) -> None:
    page.add("avatop_release_stops_total", "counter", "Rollouts paused or taken back.",
             facts.release_stops, host)  # fmt: skip
    for event in facts.releases.values():
        labels = {**host, "version": event.version, "role": event.role}
        page.add("avatop_release_share", "gauge", "Share of new jobs.", event.share, labels)
        for row in event.gates:
            page.add("avatop_release_gate_deviation", "gauge", "Measured against stable.",
                     row.deviation,
                     {**labels, "gate": row.gate, "verdict": row.verdict})  # fmt: skip


def _host(page: Page, facts: Facts, probes: Probes, host: Labels) -> None:
    labels = {**host, "version": facts.version}

    def gauge(name: str, text: str, value: float | None) -> None:
        page.add(f"avatop_{name}", "gauge", text, value, labels)

    total, available = facts.host_memory_total, facts.host_memory_available
    used = None if total is None or available is None else total - available
    gauge("host_memory_total_bytes", "Memory of the host.", total)
    gauge("host_memory_available_bytes", "Of it available.", available)
    gauge("host_memory_used_percent", "Host memory in use, of all.", _percent(used, total))
    gauge("disk_free_bytes", "Free where jobs are kept.", probes.disk_free)
    gauge("disk_size_bytes", "Size of that disk.", probes.disk_total)
    gauge("zombies", "Orphaned, stuck, stray, stopped, defunct processes.", probes.zombies)
    gauge("stray_processes", "Inference processes that belong to nobody.", probes.strays)
    states = [job.row.state for job in facts.jobs.values()]
    gauge("queue_length", "Jobs waiting.", states.count("queued"))
    gauge("jobs_running", "Jobs at work.", sum(s in LIVE_STATES for s in states))
    for kind in TOLD:
        others = facts.errors.by_version(kind, facts.versions)
        others.pop(facts.version, None)
        own = facts.errors.total(kind) - sum(others.values())
        for version, count in {facts.version: own, **others}.items():
            page.add("avatop_errors_total", "counter", "Errors in logs, by kind.",
                     count, {**host, "version": version, "kind": kind})  # fmt: skip
    for (version, state), count in sorted(facts.ended_by.items()):
        page.add("avatop_jobs_ended_total", "counter", "Jobs ended, by state.",
                 count, {**host, "version": version, "state": state})  # fmt: skip
    _releases(page, facts, host)
    for alert in facts.alerts.values():
        page.add("avatop_alert", "gauge", "1 for each alert that is not resolved.", 1, {
            **host, "rule": alert.rule, "severity": alert.severity, "state": alert.state,
            "id": alert.id})  # fmt: skip


def _percent(part: float | None, whole: float | None) -> float | None:
    return None if part is None or not whole else 100.0 * part / whole


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else repr(float(value))
