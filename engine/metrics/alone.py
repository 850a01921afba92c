"""Metrics without a running engine: the devices, and the jobs as the store has them."""

from __future__ import annotations

import contextlib
import shutil
import socket
import threading
import time
from pathlib import Path

from engine.alerts.measures import Probes
from engine.jobs.store import JobStore, StoreError
from engine.messages import DevicesSampled, EngineStarted, JobChanged
from engine.metrics.facts import KEPT_JOBS, Facts
from engine.metrics.text import render
from engine.metrics.textfile import read_textfile
from engine.telemetry.devices import Picked
from engine.telemetry.host import host_memory


class Pages:
    """Makes pages: an engine's where one runs, else one by looking.

    Counters and latencies belong to a running engine and are absent without one.
    """

    def __init__(self, state: Path, database: Path, version: str, picked: Picked) -> None:
        self._state = state
        self._database = database
        self._version = version
        self._picked = picked
        self._lock = threading.Lock()  # NVML is read from one thread at a time

    def page(self) -> str:
        """The page now."""
        from_engine = read_textfile(self._state)
        if from_engine is not None:
            return from_engine
        with self._lock:
            return self._look()

    def _look(self) -> str:
        now = time.time()
        facts, probes = Facts(), Probes()
        host, source = socket.gethostname(), self._picked.source
        facts.apply(
            EngineStarted(host=host, pid=0, version=self._version, device_source=source.name)
        )
        total, available = host_memory()
        facts.apply(
            DevicesSampled(
                t=now,
                devices=source.read(),
                host_memory_total=total,
                host_memory_available=available,
            )
        )
        # A folder without a store has no jobs: looking must not make one.
        if self._database.exists():
            with contextlib.suppress(StoreError):
                store = JobStore(self._database)
                try:
                    for row in reversed(store.list(limit=KEPT_JOBS)):
                        facts.apply(JobChanged(t=now, job=row))
                finally:
                    store.close()
        with contextlib.suppress(OSError):
            usage = shutil.disk_usage(self._state)
            probes.disk_free, probes.disk_total = usage.free, usage.total
        return render(facts, probes, now)
