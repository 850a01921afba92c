"""The session: whether a logout would kill what runs, and whether the clock can be trusted."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from engine.doctor.check import NA, OK, WARN, Check
from engine.sentence import sentence

AREA: Final = "session"
_SECONDS: Final = 5.0
#: Later files win.
_LOGIND: Final = (
    "/usr/lib/systemd/logind.conf",
    "/etc/systemd/logind.conf",
    "/usr/lib/systemd/logind.conf.d",
    "/etc/systemd/logind.conf.d",
)

#: Runs a program and returns what it printed; None where it is not there or failed.
Ask = Callable[[Sequence[str]], str | None]


def ask(command: Sequence[str]) -> str | None:
    """The real ``Ask``."""
    if shutil.which(command[0]) is None:
        return None
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def checks(
    user: str, asks: Ask = ask, root: Path = Path("/"), now: Callable[[], float] = time.time
) -> Iterator[Check]:
    """All of them."""
    yield logout(user, asks, root)
    yield clock(asks, root, now)


def logout(user: str, asks: Ask = ask, root: Path = Path("/")) -> Check:
    """Whether the engine lives on when its user logs out (logind.conf(5), KillUserProcesses)."""
    if not (root / "run/systemd/system").is_dir():
        return Check(AREA, "logout", NA, sentence("no systemd: a logout ends nothing by itself"))
    kills = _kills(asks, root)
    lingers = (root / "var/lib/systemd/linger" / user).exists()
    cgroup = _read(root / "proc/self/cgroup")
    outside = "session-" not in cgroup
    if kills is None:
        return Check(
            AREA,
            "logout",
            NA,
            sentence("logind does not say whether it kills at a logout"),
            sentence("look for KillUserProcesses in /etc/systemd/logind.conf"),
        )
    if not kills:
        return Check(AREA, "logout", OK, sentence("KillUserProcesses=no: the engine lives on"))
    if lingers and outside:
        return Check(
            AREA, "logout", OK, sentence("lingering, and outside the session: the engine lives on")
        )
    todo = sentence(
        "loginctl enable-linger {user}, then start in: systemd-run --user --scope avatop", user=user
    )
    return Check(
        AREA, "logout", WARN, sentence("KillUserProcesses=yes: a logout ends the engine"), todo
    )


def _kills(asks: Ask, root: Path) -> bool | None:
    told = asks(
        [
            "busctl",
            "get-property",
            "org.freedesktop.login1",
            "/org/freedesktop/login1",
            "org.freedesktop.login1.Manager",
            "KillUserProcesses",
        ]
    )
    if told is not None and told.split()[-1:] in (["true"], ["false"]):
        return told.split()[-1] == "true"
    found: bool | None = None
    for name in _LOGIND:
        place = root / name.lstrip("/")
        files = sorted(place.glob("*.conf")) if place.is_dir() else [place]
        for file in files:
            for line in _read(file).splitlines():
                key, _, value = line.strip().partition("=")
                if key.strip() == "KillUserProcesses":
                    found = value.strip().lower() in ("yes", "true", "on", "1")
    return found


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def clock(asks: Ask = ask, root: Path = Path("/"), now: Callable[[], float] = time.time) -> Check:
    """Whether it is kept in step, and not before this program was installed."""
    try:
        made = Path(__file__).stat().st_mtime
    except OSError:
        made = 0.0
    if now() < made - 86_400:
        return Check(
            AREA,
            "clock",
            WARN,
            sentence("it is before the day avatop was installed"),
            sentence("set it: times in logs, alerts and certificates are wrong"),
        )
    if not (root / "run/systemd/system").is_dir():
        return Check(AREA, "clock", NA, sentence("no systemd to say whether it is kept in step"))
    told = asks(["timedatectl", "show", "--property=NTPSynchronized", "--value"])
    if told == "yes":
        return Check(AREA, "clock", OK, sentence("kept in step (NTP)"))
    if told == "no":
        return Check(
            AREA,
            "clock",
            WARN,
            sentence("not kept in step: logs of several hosts disagree"),
            "timedatectl set-ntp true",
        )
    return Check(
        AREA, "clock", NA, sentence("timedatectl does not tell whether it is kept in step")
    )
