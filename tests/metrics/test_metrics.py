"""Can Prometheus read what is served, under the names that people's dashboards know?"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from console import cli
from engine.alerts.measures import MEASURES, Probes
from engine.messages import (
    AlertChanged,
    BlockDone,
    ClipCommitted,
    DeviceReading,
    DevicesSampled,
    EngineStarted,
    JobChanged,
    JobRow,
    LogLine,
    PlanMade,
    RankChanged,
    ReleaseChanged,
)
from engine.metrics.errors import ErrorTally
from engine.metrics.facts import KEPT_JOBS, Facts
from engine.metrics.server import MetricsServer
from engine.metrics.text import render
from engine.metrics.textfile import FRESH_SECONDS, read_textfile, write_textfile

GIB = 2**30
T = 1_000_000.0
UUID = "GPU-5fd3a1b2-1111"


def _row(number: int = 7, state: str = "running", **fields: object) -> JobRow:
    return JobRow(number, state, "tpp", "64*64", 1, 4, **fields)  # type: ignore[arg-type]


def _facts() -> Facts:
    facts = Facts()
    gpu = DeviceReading(
        3, "H200", UUID, "nvml", 100 * GIB, 92 * GIB, 93 * GIB, 71.0, 90.0, 80.0, 500.0, 700.0,
        throttle=("power cap",), xids=1, ecc_uncorrected=0,
    )  # fmt: skip
    dumb = DeviceReading(4, 'odd "name"\n', 'GPU-"\\\n', "nvml")
    clip = {"job": 7, "frames": 48, "path": "x"}
    for event in (
        EngineStarted(host="gpu-srv-07", pid=1, version="0.1.0", device_source="nvml"),
        DevicesSampled(t=T, devices=(gpu, dumb), host_memory_total=64, host_memory_available=16),
        JobChanged(t=T, job=_row(version="v1.1")),
        PlanMade(t=T, job=7, plan={"seconds_per_block": 2.0}),
        RankChanged(
            t=T, job=7, rank=0, pid=os.getpid(), device="cuda:3", device_uuid=UUID, phase="running"
        ),
        BlockDone(t=T, job=7, clip=0, block=0, seconds=2.0),
        ClipCommitted(t=T, clip=0, seconds=8.0, fps=6.0, **clip),  # type: ignore[arg-type]
        ClipCommitted(t=T + 9, clip=1, seconds=40.0, fps=1.2, **clip),  # type: ignore[arg-type]
        LogLine(t=T, level="ERROR", source="rank", job=7, rank=0,
                text="torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 4.17 GiB"),
        AlertChanged(id="a", rule="memory-high", severity="warning", state="firing"),
    ):  # fmt: skip
        facts.apply(event)
    return facts


def _samples(text: str) -> dict[str, list[tuple[dict[str, str], float]]]:
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def test_the_article_s_names_and_labels_are_kept() -> None:
    samples = _samples(render(_facts(), Probes(zombies=2), T + 10))
    labels = {"host": "gpu-srv-07", "gpu": "3", "uuid": UUID, "version": "v1.1", "job": "7"}
    assert samples["gpu_memory_used_percent"] == [(labels, 92.0)]
    assert samples["gpu_temperature_celsius"] == [(labels, 71.0)]
    job = {"host": "gpu-srv-07", "version": "v1.1", "job": "7"}
    assert samples["inference_duration_seconds_sum"] == [(job, 48.0)]
    assert samples["inference_duration_seconds_count"] == [(job, 2.0)]
    buckets = {v["le"]: n for v, n in samples["inference_duration_seconds_bucket"]}
    assert (buckets["5.0"], buckets["10.0"], buckets["60.0"], buckets["+Inf"]) == (0, 1, 2, 2)
    assert samples["avatop_job_fps"] == [(job, 1.2)]
    assert samples["avatop_job_fps_predicted"] == [(job, 6.0)]
    assert samples["avatop_job_idle_seconds"] == [(job, 1.0)]
    assert {v["state"]: n for v, n in samples["avatop_job_state"]}["running"] == 1.0
    errors = {v["kind"]: n for v, n in samples["avatop_errors_total"]}
    assert (errors["oom"], errors["nccl"], errors["decode"]) == (1.0, 0.0, 0.0)
    assert samples["avatop_zombies"][0][1] == 2.0
    assert samples["avatop_alert"][0][0]["rule"] == "memory-high"
    (rank, rss), *_ = samples["avatop_rank_resident_memory_bytes"]
    assert rank["rank"] == "0"
    assert rss > 0


def test_what_is_not_measured_has_no_sample_and_odd_names_are_escaped() -> None:
    samples = _samples(render(_facts(), Probes(), T))
    assert [v["gpu"] for v, _ in samples["gpu_temperature_celsius"]] == ["3"]
    assert {v["uuid"] for v, _ in samples["gpu_unreadable"]} == {UUID, 'GPU-"\\\n'}
    assert "avatop_zombies" not in samples
    assert "avatop_disk_free_bytes" not in samples


def test_every_measurement_that_is_exported_exists_under_its_name() -> None:
    facts = _facts()
    facts.apply(JobChanged(t=T, job=_row(8, "queued", created=T)))
    text = render(facts, Probes(1, 2, 3, 4), T)
    for measure in MEASURES.values():
        for word in measure.prom.replace("100 *", "").split("/"):
            name = word.partition("{")[0].strip()
            assert not name or f"# TYPE {name} " in text, measure.name
    promtool = shutil.which("promtool")
    if promtool is not None:
        subprocess.run(
            [promtool, "check", "metrics"], input=text, text=True, check=True, timeout=30
        )


def test_a_long_life_does_not_fill_the_page_with_old_jobs() -> None:
    facts = _facts()
    for number in range(10, 300):
        facts.apply(JobChanged(t=T + number, job=_row(number)))
        facts.apply(JobChanged(t=T + number, job=_row(number, "done")))
    assert len(facts.jobs) == KEPT_JOBS + 1  # and the one that runs
    assert facts.ended_by == {("0.1.0", "done"): 290}


def test_it_is_served_to_this_host_alone_and_only_there() -> None:
    server = MetricsServer(lambda: render(_facts(), Probes(), T), 0)
    server.start()
    try:
        assert server.url.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(server.url, timeout=10) as answer:
            assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
            assert "gpu_memory_used_percent" in _samples(answer.read().decode())
        with pytest.raises(urllib.error.HTTPError) as wrong:
            urllib.request.urlopen(server.url.replace("/metrics", "/etc/passwd"), timeout=10)
        assert wrong.value.code == 404
        for method, host, code in (("GET", "evil.example:80", 403), ("POST", "127.0.0.1", 501)):
            link = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
            link.request(method, "/metrics", headers={"Host": host})
            assert link.getresponse().status == code
            link.close()
    finally:
        server.stop()


def test_an_engine_s_page_is_served_while_it_is_fresh(tmp_path: Path) -> None:
    assert read_textfile(tmp_path) is None
    assert write_textfile(tmp_path, _facts(), Probes(), T)
    page = read_textfile(tmp_path)
    assert page is not None
    assert "inference_duration_seconds_count" in page
    assert read_textfile(tmp_path, lambda: time.time() + FRESH_SECONDS + 1) is None
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.prom"]
    (tmp_path / "file").write_text("")
    assert not write_textfile(tmp_path / "file", _facts(), Probes(), T)


@pytest.mark.parametrize("as_json", [False, True])
def test_metrics_once_without_an_engine(
    as_json: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("AVATOP_STATE_DIR", str(tmp_path / "state"))
    with pytest.raises(SystemExit) as end:
        cli.main(["metrics", "--once", *(["--json"] if as_json else [])])
    assert not end.value.code
    said = capsys.readouterr().out
    samples = _samples(json.loads(said)["text"] if as_json else said)
    assert samples["gpu_memory_used_bytes"]
    assert samples["avatop_info"]
    assert not (tmp_path / "state").exists()  # looking makes nothing


def test_R8_errors_ends_and_shares_are_told_by_version() -> None:
    """An error line names a job, the job its version, also once a release was given to it."""
    facts = Facts()
    oom = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 4.17 GiB"
    facts.apply(EngineStarted(host="h", pid=1, version="0.1.0", device_source="host"))
    for number, version in ((1, "1.0"), (2, "1.1"), (3, None)):
        facts.apply(JobChanged(t=T, job=_row(number, "queued")))
        facts.apply(JobChanged(t=T, job=_row(number, version=version)))
        facts.apply(LogLine(t=T, level="ERROR", source="rank", job=number, rank=0, text=oom))
        state = "done" if version == "1.0" else "failed"
        facts.apply(JobChanged(t=T + 1, job=_row(number, state, version=version)))
    release = {"release": "d", "version": "1.1"}
    facts.apply(ReleaseChanged(role="candidate", state="rolling", share=0.25, **release))
    facts.apply(ReleaseChanged(role="withdrawn", state="rolled_back", **release))
    samples = _samples(render(facts, Probes(), T + 10))
    errors = {v["version"]: n for v, n in samples["avatop_errors_total"] if v["kind"] == "oom"}
    assert errors == {"0.1.0": 1, "1.0": 1, "1.1": 1}
    ends = {(v["version"], v["state"]): n for v, n in samples["avatop_jobs_ended_total"]}
    assert ends == {("1.0", "done"): 1, ("1.1", "failed"): 1, ("0.1.0", "failed"): 1}
    assert samples["avatop_release_share"] == [
        ({"host": "h", "version": "1.1", "role": "withdrawn"}, 0.0)
    ]
    assert samples["avatop_release_stops_total"] == [({"host": "h"}, 1.0)]


_LOST_PEER = "RuntimeError: [gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]"
_NCCL = "torch.distributed.DistBackendError: NCCL error in: NCCLUtils.cpp, unhandled system error"


def _line(text: str, rank: int | None = 0, after: float = 0.0) -> LogLine:
    source = "engine" if rank is None else "rank"
    return LogLine(t=T + after, level="ERROR", source=source, text=text, job=7, rank=rank)


@pytest.mark.parametrize(
    ("lines", "kind", "count"),
    [
        ([_line(_LOST_PEER)], "nccl", 0),
        ([_line(_NCCL), _line("rank 1 (process 9) was killed by SIGKILL (an operator)", 1, 1)],
         "nccl", 0),
        ([_line("OSError: [Errno 28] No space left on device", 1), _line(_NCCL, 0, 1)], "nccl", 0),
        ([_line(_NCCL)], "nccl", 1),
        # The watchdog's own SIGABRT does not hide what it found.
        ([_line(_NCCL), _line("rank 0 (process 9) was killed by SIGABRT", 0, 1)], "nccl", 1),
        # Nobody died before: the engine's own judgement of who failed first counts.
        ([_line(_LOST_PEER), _line(f"interrupted: rank 0 failed (comm): {_LOST_PEER}", None, 1)],
         "nccl", 1),
        ([_line("failed: rank 1 failed (oom): out of memory: the cap allows 0.1 GiB", None)],
         "oom", 1),
    ],
)  # fmt: skip
def test_errors_of_communication_follow_causes_not_their_echoes(
    lines: list[LogLine], kind: str, count: int
) -> None:
    now = T + 2
    errors = ErrorTally(clock=lambda: now)
    for line in lines:
        errors.line(line)
    early = errors.total(kind)
    now = T + 30
    assert errors.total(kind) == count
    assert early <= count, "what may be explained yet waits"
