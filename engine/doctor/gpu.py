"""Driver, NVML, CUDA, NCCL and the torch build: whether they fit each other and the GPUs.

torch is asked in a process of its own, so that none of it is loaded here and no device touched.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from engine.doctor.check import FAIL, NA, OK, WARN, Check
from engine.guard import scan
from engine.sentence import sentence

AREA: Final = "gpu"
_DRIVER: Final = Path("/proc/driver/nvidia/version")
_SECONDS: Final = 90.0
_ASK: Final = """
import json, warnings
warnings.simplefilter("ignore")
import torch
told = {"version": torch.__version__, "cuda": torch.version.cuda, "nccl": None, "archs": []}
if torch.version.cuda:
    told["archs"] = torch._C._cuda_getArchFlags().split()
    if torch.distributed.is_available() and torch.distributed.is_nccl_available():
        told["nccl"] = list(torch.cuda.nccl.version())
print(json.dumps(told))
"""


def torch_build() -> dict[str, Any]:
    """``version``, ``cuda``, ``nccl``, ``archs`` of the installed torch; ``error`` instead."""
    env = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    try:
        done = subprocess.run(
            [sys.executable, "-c", _ASK],
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
            env=env,
        )
        if done.returncode == 0:
            told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
            return told
    except (OSError, subprocess.TimeoutExpired, ValueError, IndexError) as error:
        return {"error": str(error)}
    lines = done.stderr.strip().splitlines()
    return {
        "error": lines[-1]
        if lines
        else sentence("python ended with {returncode}", returncode=done.returncode)
    }


def checks(
    nvidia: Mapping[str, Any] | None,
    torch: Mapping[str, Any],
    able: Mapping[str, tuple[int, int]],
    *,
    module: bool | None = None,
    in_namespace: bool | None = None,
) -> Iterator[Check]:
    """All of them.

    Args:
        nvidia: as ``recording_facts.system_facts()["nvidia"]`` has it; None without NVML.
        torch: as ``torch_build`` tells.
        able: uuid → compute capability.
        module: whether the kernel module is loaded; found out if not given.
        in_namespace: whether this is a PID namespace of its own; found out if not given.
    """
    module = _DRIVER.exists() if module is None else module
    yield _driver(nvidia, module)
    gpus = list((nvidia or {}).get("gpus", ()))
    if gpus:
        yield _devices(gpus)
        inside = scan.in_pid_namespace() if in_namespace is None else in_namespace
        yield _pids(inside)
    yield _torch(torch, bool(gpus))
    yield _cuda(nvidia or {}, torch, gpus)
    if gpus and torch.get("archs"):
        yield _archs(gpus, able, list(torch["archs"]))
    yield _nccl(torch, len(gpus))


def _driver(nvidia: Mapping[str, Any] | None, module: bool) -> Check:
    if nvidia is None and not module:
        return Check(AREA, "driver", NA, sentence("no NVIDIA driver: ranks run on the CPU"))
    if nvidia is None:
        return Check(
            AREA,
            "driver",
            FAIL,
            sentence("the kernel module is loaded, NVML does not answer"),
            sentence(
                "in a container: --gpus all and "
                "NVIDIA_DRIVER_CAPABILITIES=compute,utility; on a host: reboot "
                "after a driver update"
            ),
        )
    if "error" in nvidia:
        return Check(
            AREA,
            "driver",
            FAIL,
            f"NVML: {nvidia['error']}",
            sentence("nvidia-smi says the same? reload the driver or reboot"),
        )
    return Check(
        AREA,
        "driver",
        OK,
        sentence(
            "{driver}, CUDA up to {cuda}", driver=nvidia["driver"], cuda=_dotted(nvidia["cuda"])
        ),
    )


def _dotted(number: int) -> str:
    """12040 → 12.4, as the driver counts."""
    return f"{number // 1000}.{number % 1000 // 10}"


def _devices(gpus: Sequence[Mapping[str, Any]]) -> Check:
    lost = [gpu for gpu in gpus if "error" in gpu]
    if lost:
        said = "; ".join(f"GPU {gpu['index']}: {gpu['error']}" for gpu in lost)
        return Check(
            AREA, "nvml", FAIL, said, sentence("dmesg tells the XID; reset the GPU or reboot")
        )
    names = sorted({str(gpu["name"]) for gpu in gpus})
    return Check(AREA, "nvml", OK, f"{len(gpus)} × {', '.join(names)}")


def _pids(inside: bool) -> Check:
    if inside:
        return Check(
            AREA,
            "processes",
            WARN,
            sentence("the driver's PIDs are the host's, not ours"),
            sentence("start the container with --pid=host to see whose memory it is"),
        )
    return Check(
        AREA, "processes", OK, sentence("the driver's process numbers are those of this host")
    )


def _torch(torch: Mapping[str, Any], gpus: bool) -> Check:
    if "error" in torch:
        return Check(
            AREA,
            "torch",
            FAIL,
            sentence("torch cannot be loaded: {error}", error=torch["error"]),
            "pip install --force-reinstall torch",
        )
    if torch.get("cuda") is None and gpus:
        return Check(
            AREA,
            "torch",
            FAIL,
            sentence("{version} is a build for the CPU alone", version=torch["version"]),
            sentence(
                "install a CUDA build: pip install torch --index-url "
                "https://download.pytorch.org/whl/cu130"
            ),
        )
    kind = f"CUDA {torch['cuda']}" if torch.get("cuda") else sentence("CPU alone")
    return Check(AREA, "torch", OK, f"{torch['version']}, {kind}")


def _cuda(
    nvidia: Mapping[str, Any], torch: Mapping[str, Any], gpus: Sequence[Mapping[str, Any]]
) -> Check:
    built = torch.get("cuda")
    if not gpus or built is None or "cuda" not in nvidia:
        return Check(AREA, "cuda", NA, sentence("no GPU, or no CUDA build of torch"))
    driver, asked = int(nvidia["cuda"]) // 1000, int(str(built).split(".")[0])
    said = sentence(
        "torch was built for CUDA {built}, the driver knows {cuda}",
        built=built,
        cuda=_dotted(int(nvidia["cuda"])),
    )
    if asked > driver:
        return Check(
            AREA, "cuda", FAIL, said, f"update the driver, or install torch for CUDA {driver}"
        )
    return Check(AREA, "cuda", OK, said)


def _archs(
    gpus: Sequence[Mapping[str, Any]],
    able: Mapping[str, tuple[int, int]],
    archs: Sequence[str],
) -> Check:
    """Code runs on its own and later minor versions of a major one; PTX on anything later."""
    code = [a.removeprefix("sm_").rstrip("af") for a in archs if a.startswith("sm_")]
    ptx = [a.removeprefix("compute_").rstrip("af") for a in archs if a.startswith("compute_")]
    known = [(int(a[:-1]), int(a[-1])) for a in code if a.isdigit()]
    later = [(int(a[:-1]), int(a[-1])) for a in ptx if a.isdigit()]
    poor = [
        f"{gpu['name']} ({have[0]}.{have[1]})"
        for gpu in gpus
        if (have := able.get(str(gpu.get("uuid")))) is not None
        and not any(k[0] == have[0] and k[1] <= have[1] for k in known)
        and not any(k <= have for k in later)
    ]
    if poor:
        return Check(
            AREA,
            "architectures",
            FAIL,
            sentence("torch has no code for {poor}", poor=", ".join(set(poor))),
            sentence("install a torch build for this GPU"),
        )
    return Check(AREA, "architectures", OK, sentence("torch has code for every GPU"))


def _nccl(torch: Mapping[str, Any], gpus: int) -> Check:
    version = torch.get("nccl")
    if version:
        return Check(AREA, "nccl", OK, ".".join(map(str, version)))
    if gpus > 1:
        return Check(
            AREA,
            "nccl",
            FAIL,
            sentence("torch has no NCCL: several GPUs cannot work together"),
            sentence("install a CUDA build of torch"),
        )
    return Check(
        AREA, "nccl", NA, sentence("not in this build of torch; ranks on the CPU use gloo")
    )
