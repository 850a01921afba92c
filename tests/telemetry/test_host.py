"""Does the host tell what ranks on the CPU can use, and no more?"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from engine.telemetry.host import HostSource, cgroup_limit, cpu_name, host_memory, own_cgroup

MEMINFO = "MemTotal:       1000 kB\nMemFree:         100 kB\nMemAvailable:    400 kB\n" + "x" * 300


def fake(tmp_path: Path, cgroup: str, files: dict[str, str]) -> tuple[Path, Path]:
    proc, root = tmp_path / "proc", tmp_path / "cgroup"
    (proc / "self").mkdir(parents=True)
    (proc / "meminfo").write_text(MEMINFO)
    (proc / "cpuinfo").write_text("processor\t: 0\nmodel name\t: A Fine CPU\n")
    (proc / "self/cgroup").write_text(cgroup)
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return proc, root


def test_this_host_is_one_device_with_real_figures():
    source = HostSource()
    (reading,) = source.read()
    assert reading.source == "host"
    assert reading.name
    assert 0 < reading.memory_used < reading.memory_total
    assert reading.utilization is None  # no time has passed in which it could have been measured
    assert reading.power_w is None
    assert list(source.memory()) == [reading.uuid]
    total, available = host_memory()
    assert total == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert available < total


def test_without_a_limit_the_whole_host_counts(tmp_path):
    proc, root = fake(tmp_path, "0::/\n", {"memory.max": "max\n"})
    (reading,) = HostSource(proc, root).read()
    assert (reading.memory_total, reading.memory_used) == (1000 * 1024, 600 * 1024)
    assert reading.name == "A Fine CPU"


@pytest.mark.parametrize(
    ("cgroup", "files"),
    [
        (
            "0::/box\n",
            {
                "box/memory.max": "512000\n",
                "box/memory.current": "200000\n",
                "box/memory.stat": "anon 1\ninactive_file 50000\n",
            },
        ),
        (
            "4:cpu:/\n3:memory:/seen/from/outside\n",
            {
                "memory/memory.limit_in_bytes": "512000\n",
                "memory/memory.usage_in_bytes": "200000\n",
                "memory/memory.stat": "cache 1\ntotal_inactive_file 50000\n",
            },
        ),
    ],
)
def test_a_container_s_limit_is_the_device_s_size(tmp_path, cgroup, files):
    proc, root = fake(tmp_path, cgroup, files)
    source = HostSource(proc, root)
    (reading,) = source.read()
    assert (reading.memory_total, reading.memory_used) == (512_000, 150_000)
    assert source.memory() == {reading.uuid: 150_000}


def test_what_cannot_be_read_is_none(tmp_path):
    assert own_cgroup(tmp_path, tmp_path) is None
    assert cgroup_limit(None) is None
    assert host_memory(tmp_path) == (None, None)
    assert cpu_name(tmp_path)
