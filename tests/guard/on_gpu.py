"""The reaper on a real GPU, by hand: ``python -m tests.guard.on_gpu`` (needs torch with CUDA).

Two ranks of a fake torchrun hold device memory; their launcher is killed; the reaper finds them by
the driver's list, ends them, and waits until the driver shows the memory released. Prints one JSON
object: what was held, the classes, and the device's used bytes before, between and after.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from engine.guard import scan
from engine.guard.evidence import holders
from engine.guard.reaper import Reaper
from engine.telemetry.nvml import NvmlSource
from tests.guard.scenarios import Planted

HOLD = (
    "import sys, time, torch; x = torch.ones(1 << 28, device='cuda'); torch.cuda.synchronize(); "
    "open(sys.argv[1], 'w').close(); time.sleep(300)"
)


def main(folder: Path) -> int:
    source, planted = NvmlSource(), Planted()
    try:
        before = source.memory()
        script = (
            f'for i in 0 1; do RANK=$i {sys.executable} -c "{HOLD}" {folder}/ready$i '
            ">/dev/null 2>&1 & echo $!; done; "
            f"until [ -e {folder}/ready0 ] && [ -e {folder}/ready1 ]; do sleep 0.1; done; "
            "echo end; read line"
        )
        launcher = planted.shell(script, {"TORCHELASTIC_RUN_ID": "gpu", "WORLD_SIZE": "2"})
        assert launcher.stdout is not None
        words = iter(launcher.stdout.readline, "end\n")
        ranks = [planted.adopt(int(word)) for word in words]
        between = source.memory()
        launcher.kill()
        launcher.wait(10)
        reaper = Reaper(
            read_memory=lambda: holders(source.read()),
            allow=planted.allow,
            shm_folder=folder / "none",
        )
        scene = reaper.look(also=ranks)
        seen = {v.pid: (v.kind, v.evidence) for v in reaper.verdicts(scene) if v.pid in ranks}
        report = reaper.reap(yes=True)
        body = {
            "in_pid_namespace": scan.in_pid_namespace(),
            "driver_lists": {pid: dict(held) for pid, held in holders(source.read()).items()},
            "ranks": ranks,
            "devices_open": {pid: scene.of(pid).devices for pid in ranks},  # type: ignore[union-attr]
            "seen": seen,
            "actions": [d for d in report.to_dict()["actions"] if d["pid"] in ranks],
            "used_before": before,
            "used_between": between,
            "used_after": source.memory(),
        }
        print(json.dumps(body, indent=1))
        return 0 if report.ok else 1
    finally:
        planted.close()
        source.close()


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        sys.exit(main(Path(name)))
