"""Made-up hosts for the reaper: processes whose truth is known, and a kernel that plays along.

Every world mixes zombies with bystanders that look like them. ``World.turn`` lets time pass
between the look and the deed: processes end, numbers are used again, programs are exchanged.
"""

from __future__ import annotations

import random
import signal
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from engine.guard.evidence import Evidence, Scene
from engine.guard.identity import ProcessGone
from engine.guard.scan import Row

ME, UID, BOOT = 900, 1000, "boot"
ENGINE, SERVER = 1000, 1001
SERVER_COMMAND = ("/usr/bin/python3", "-P", "-m", "engine.ranks.onrank.forkserver", "--parent")
GIB = 1 << 30

#: Truths.
ZOMBIE = "zombie"  # to be ended by --yes
STRAY = "stray"  # to be ended by its number alone
BYSTANDER = "bystander"  # never


@dataclass
class Proc:
    """One made-up process: what it shows, what it is, and how it takes signals."""

    row: Row
    truth: str
    holds: bool = False
    deaf: bool = False  # ignores SIGTERM
    stone: bool = False  # in a kernel call that does not end
    got: list[signal.Signals] = field(default_factory=list)
    alive: bool = True

    def take(self, signum: signal.Signals) -> None:
        self.got.append(signum)
        if self.stone:
            return
        awake = self.row.state != "T" or signal.SIGCONT in self.got
        heard = signal.SIGTERM in self.got and awake and not self.deaf  # pending ones count, too
        if signum is signal.SIGKILL or heard:
            self.alive = False


class World:
    """A host at one moment; also the fake kernel of ``PidFd`` and of ``scan``."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.procs: dict[int, Proc] = {}
        self._next = 2000
        #: Everybody who ever was, numbers used again included.
        self.everybody: list[Proc] = []
        init = rng.choice(["systemd", "tini", "process_api", "docker-init"])
        self.add(BYSTANDER, pid=1, ppid=0, sid=1, exe=init, comm=init, uid=0, start=1)
        self.add(BYSTANDER, pid=800, ppid=1, exe="bash", comm="bash", start=5)
        self.add(BYSTANDER, pid=ME, ppid=800, sid=800, exe="python3.11", start=10, holds=True)
        self.add(BYSTANDER, pid=ENGINE, ppid=800, sid=800, exe="python3.11", start=20)
        self.server = self.add(
            BYSTANDER,
            pid=SERVER,
            ppid=ENGINE,
            exe="python3.11",
            command=(*SERVER_COMMAND, str(ENGINE)),
            env=self.mark(),
            start=30,
        )

    @staticmethod
    def mark(pid: int = ENGINE, start: int = 20) -> dict[str, str]:
        return {"AVATOP_ENGINE": f"{pid}:{start}:{BOOT}"}

    def add(
        self,
        truth: str,
        *,
        ppid: int,
        pid: int | None = None,
        sid: int | None = None,
        exe: str = "python3.11",
        comm: str | None = None,
        command: tuple[str, ...] | None = None,
        env: dict[str, str] | None = None,
        uid: int = UID,
        state: str = "S",
        start: int | None = None,
        holds: bool = False,
        deaf: bool = False,
        stone: bool = False,
    ) -> Proc:
        if pid is None:
            self._next += self.rng.randint(1, 9)
            pid = self._next
        row = Row(
            pid=pid,
            start_ticks=start if start is not None else 100 + pid,
            ppid=ppid,
            pgid=pid,
            sid=sid if sid is not None else pid,
            state=state,
            uid=uid,
            comm=(comm if comm is not None else exe)[:15],
            command=command if command is not None else (f"/usr/bin/{exe}", "serve.py"),
            exe=exe,
            nspid=(pid,),
            env=env or {},
        )
        proc = Proc(row, truth, holds, deaf, stone)
        self.procs[pid] = proc
        self.everybody.append(proc)
        return proc

    def grow(self, count: int) -> None:
        """Add processes of every kind until there are at least ``count``."""
        while len(self.procs) < count:
            self.rng.choice(KINDS)(self)

    def mood(self) -> dict[str, object]:
        """How a zombie takes its end."""
        return {
            "state": self.rng.choice("SSSSRT"),
            "deaf": self.rng.random() < 0.2,
            "holds": self.rng.random() < 0.7,
        }

    # -- what the reaper sees

    def scene(self) -> Scene:
        rows = {pid: proc.row for pid, proc in self.procs.items()}
        found = [
            Evidence(
                pid=pid,
                row=proc.row,
                listed=proc.holds,
                memory={"GPU-0": self.rng.choice([None, GIB])} if proc.holds else {},
                devices=("/dev/nvidia-uvm",) if proc.holds else (),
                threads=1,
            )
            for pid, proc in sorted(self.procs.items())
        ]
        found.append(Evidence(99_999, None, listed=True, memory={"GPU-0": None}))
        return Scene(rows, tuple(found), ME, UID, BOOT, in_namespace=False)

    def turn(self) -> None:
        """Time passes between the look and the deed."""
        for pid, proc in list(self.procs.items()):
            if pid <= SERVER:
                continue
            chance = self.rng.random()
            if chance < 0.02:
                proc.alive = False
                del self.procs[pid]
            elif chance < 0.05:  # its number is another's now, with the same command or its own
                proc.alive = False
                command = proc.row.command if self.rng.random() < 0.5 else ("vim", "notes")
                later = proc.row.start_ticks + self.rng.randint(1, 1000)
                fresh = replace(proc.row, start_ticks=later, command=command, state="S")
                self.procs[pid] = Proc(fresh, BYSTANDER)
                self.everybody.append(self.procs[pid])
            elif chance < 0.06:  # the same process became another program
                proc.row = replace(proc.row, command=("make", "all"))
                proc.truth = BYSTANDER
            elif chance < 0.07:
                proc.row = replace(proc.row, uid=0)
                proc.truth = BYSTANDER

    # -- the fake kernel

    def rows(self) -> dict[int, Row]:
        return {pid: self.read_row(pid) for pid in self.procs if self.read_row(pid) is not None}

    def read_row(self, pid: int) -> Row | None:
        proc = self.procs.get(pid)
        return proc.row if proc is not None and proc.alive else None

    def pidfd(self, pid: int, start_ticks: int | None = None) -> Handle:
        proc = self.procs.get(pid)
        if proc is None or not proc.alive:
            raise ProcessGone(str(pid))
        return Handle(proc)


class Handle:
    """The fake pidfd: bound to one process for good."""

    def __init__(self, proc: Proc) -> None:
        self._proc = proc
        self.start_ticks = proc.row.start_ticks

    def exited(self, timeout: float = 0.0) -> bool:
        return not self._proc.alive

    def send(self, signum: signal.Signals) -> bool:
        if not self._proc.alive:
            return False
        self._proc.take(signum)
        return True

    def close(self) -> None: ...


def _elastic(rank: int, run: str) -> dict[str, str]:
    return {"TORCHELASTIC_RUN_ID": run, "RANK": str(rank), "MASTER_PORT": f"29{run}"}


def _title(rank: int) -> dict[str, object]:
    return {
        "comm": f"avatop-rank{rank}",
        "command": ("avatop-rank", "--job", "7", "--rank", str(rank)),
    }


# Zombies


def our_orphans(w: World) -> None:
    adopter = w.rng.choice([1, 800])
    for rank in range(w.rng.randint(1, 4)):
        mood = w.mood()
        head = w.add(ZOMBIE, ppid=adopter, sid=777, env=w.mark(555, 3), **_title(rank), **mood)
        if w.rng.random() < 0.5:  # what it started shares its fate
            w.add(ZOMBIE, ppid=head.row.pid, exe="ffmpeg", env=w.mark(555, 3))


def old_orphan(w: World) -> None:
    """A rank of an engine that left no mark: title, thread's name and interpreter."""
    w.add(ZOMBIE, ppid=1, sid=778, **_title(0), **w.mood())


def frozen_server(w: World) -> None:
    w.add(ZOMBIE, ppid=1, command=(*SERVER_COMMAND, "556"), env=w.mark(556, 4), state="T")


def elastic_orphans(w: World) -> None:
    run = str(w.rng.randint(100, 999))
    for rank in range(w.rng.randint(1, 4)):
        comm = w.rng.choice([") R 1 (", "pt_main_thread", "python", "VLLM::EngineCor"])
        w.add(ZOMBIE, ppid=1, sid=779, comm=comm, env=_elastic(rank, run), **w.mood())


def stone(w: World) -> None:
    """Cannot be ended, by anybody."""
    row = w.add(ZOMBIE, ppid=1, sid=777, env=w.mark(555, 3), **_title(0), state="D", stone=True)
    row.holds = True


def left_running(w: World) -> None:
    w.add(STRAY, ppid=1, sid=780, **{**w.mood(), "holds": True})


def retitled(w: World) -> None:
    comm = "VLLM::Worker"
    w.add(STRAY, ppid=1, sid=781, comm=comm, command=(comm,), **{**w.mood(), "holds": True})


# Bystanders


def healthy_ranks(w: World) -> None:
    for rank in range(2):
        head = w.add(BYSTANDER, ppid=SERVER, sid=SERVER, env=w.mark(), **_title(rank), **w.mood())
        w.add(BYSTANDER, ppid=head.row.pid, sid=SERVER, env=w.mark(), exe="ffmpeg")


def newborn_rank(w: World) -> None:
    """It still shows its server's command line."""
    w.add(BYSTANDER, ppid=SERVER, sid=SERVER, command=w.server.row.command, env=w.mark())


def torchrun(w: World) -> None:
    run = str(w.rng.randint(1000, 1999))
    shell = w.rng.choice([1, 800])
    command = ("/usr/bin/python3", "/usr/bin/torchrun", "train.py")
    launcher = w.add(BYSTANDER, ppid=shell, command=command)
    for rank in range(2):
        head = w.add(BYSTANDER, ppid=launcher.row.pid, env=_elastic(rank, run), **w.mood())
        w.add(BYSTANDER, ppid=head.row.pid, sid=head.row.pid, env=_elastic(rank, run))


def wrapped_ranks(w: World) -> None:
    """A shell between the launcher and the rank, as with ``torchrun --no-python run.sh``."""
    agent = w.add(BYSTANDER, ppid=800, sid=800, command=("python3", "launch.py"))
    env = _elastic(0, "77")
    shell = w.add(BYSTANDER, ppid=agent.row.pid, exe="bash", env=env)
    w.add(BYSTANDER, ppid=shell.row.pid, sid=shell.row.pid, env=env, holds=True)


def handmade_ranks(w: World) -> None:
    """Started by a shell that lives, with the variables typed."""
    w.add(BYSTANDER, ppid=800, sid=800, env=_elastic(0, "5"), holds=True)


def from_outside(w: World) -> None:
    """``docker exec``: its parent is not in this namespace."""
    w.add(BYSTANDER, ppid=0, env=_elastic(0, "6"), holds=True)
    w.add(BYSTANDER, ppid=0, env=w.mark(555, 3), **_title(0))


def daemon(w: World) -> None:
    w.add(BYSTANDER, ppid=1, exe=w.rng.choice(["sshd", "cron", "vim", "python3.11"]), deaf=True)


def look_alikes(w: World) -> None:
    w.add(BYSTANDER, ppid=1, sid=783, exe="sleep", command=("avatop-rank", "--rank", "0"))
    w.add(BYSTANDER, ppid=1, sid=783, exe="bash", **_title(0))
    w.add(BYSTANDER, ppid=1, comm="avatop-rank0", command=("python3", "avatop-rank"))
    w.add(BYSTANDER, ppid=1, exe="grep", command=("grep", "-m", SERVER_COMMAND[3], "torchrun"))
    foreign = {"AVATOP_ENGINE": f"555:3:another-{BOOT}"}
    w.add(BYSTANDER, ppid=1, sid=784, env=foreign)
    w.add(BYSTANDER, ppid=1, sid=784, env={"AVATOP_ENGINE": "not ours"})
    w.add(BYSTANDER, ppid=1, sid=784, env={"RANK": "0", "WORLD_SIZE": "2"})


def others(w: World) -> None:
    w.add(BYSTANDER, ppid=1, uid=1001, env=w.mark(555, 3), **_title(0), **w.mood())
    w.add(BYSTANDER, ppid=1, sid=785, uid=1001, env=_elastic(0, "8"), **w.mood())


def services(w: World) -> None:
    for name in ("nvidia-cuda-mps-server", "Xorg", "nv-hostengine", "nvidia-persistenced"):
        w.add(BYSTANDER, ppid=1, exe=name, holds=True, uid=w.rng.choice([0, UID]))


def idle_server(w: World) -> None:
    """Holds much, does nothing, and has a terminal."""
    w.add(BYSTANDER, ppid=800, sid=800, holds=True)


def defunct(w: World) -> None:
    w.add(BYSTANDER, ppid=800, sid=800, state="Z", command=(), exe="")


KINDS: tuple[Callable[[World], None], ...] = (
    *(our_orphans, old_orphan, frozen_server, elastic_orphans, stone, left_running, retitled),
    *(healthy_ranks, newborn_rank, torchrun, wrapped_ranks, handmade_ranks, from_outside),
    *(daemon, look_alikes, others, services, idle_server, defunct),
)
