"""The installation: a checkpoint within reach, and what was installed beyond the needed."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from typing import Final

from engine.checkpoint.errors import CheckpointError
from engine.checkpoint.layout import resolve
from engine.doctor.check import FAIL, NA, OK, WARN, Check
from engine.params import PARAMETERS
from engine.sentence import sentence

HUB_ID: Final = "Quark-Vision/Live-Avatar"
#: Extra → (module, what it is for).
EXTRAS: Final = {
    "web": ("gradio", "avatop web"),
    "notify": ("apprise", sentence("alerts to chats, e-mail and pagers")),
}


def checkpoint(environ: Mapping[str, str]) -> Check:
    """Whether the weights that a job would take are on this host."""
    parameter = next(p for p in PARAMETERS if p.name == "ckpt_dir")
    named = next((environ[name] for name in parameter.env_names if environ.get(name)), None)
    try:
        found = resolve(named or HUB_ID, environ)
    except CheckpointError as error:
        if named is not None:
            return Check(
                "files", "checkpoint", FAIL, str(error), sentence("name a folder that exists")
            )
        return Check(
            "files",
            "checkpoint",
            NA,
            sentence("{hub_id} is not in the local cache", hub_id=HUB_ID),
            sentence(
                "hf download {hub_id}, or name a folder with --ckpt_dir; avatop demo needs none",
                hub_id=HUB_ID,
            ),
        )
    if not any(found.iterdir() if found.is_dir() else ()):
        return Check(
            "files",
            "checkpoint",
            WARN,
            sentence("{found} is empty", found=found),
            sentence("download it again"),
        )
    return Check("files", "checkpoint", OK, str(found))


def extras() -> Iterator[Check]:
    """What ``pip install avatop[…]`` may add."""
    for extra, (module, purpose) in EXTRAS.items():
        if importlib.util.find_spec(module) is None:
            yield Check(
                "extras",
                extra,
                NA,
                sentence("{module} is not installed: no {purpose}", module=module, purpose=purpose),
                f"pip install 'avatop[{extra}]'",
            )
        else:
            yield Check("extras", extra, OK, f"{module}: {purpose}")
