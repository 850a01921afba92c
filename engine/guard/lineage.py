"""Whose a process is: engines and their trees, launchers and their ranks, and who lost them.

``PPID == 1`` alone proves nothing: a subreaper may have adopted an orphan, and a container's
PID 1 may well be the launcher. What is used instead, in this order: what was seen before, what
the server's own command line and the mark say, sessions (a fork inherits its parent's, so a
process in a session that it does not lead and its parent is not in was started by somebody
else), and whether the parent could be a launcher at all.
"""

from __future__ import annotations

from dataclasses import dataclass

from engine.guard import known, marks, scan
from engine.guard.evidence import Scene
from engine.guard.scan import Row, running
from engine.sentence import sentence


@dataclass(frozen=True)
class Tie:
    """What makes a process a rank, or a part of one."""

    text: str
    ours: bool  # an avatop engine's; else another launcher's


class Lineage:
    """Answers about one scene."""

    def __init__(self, scene: Scene) -> None:
        self._boot = scene.boot
        self._rows = scene.rows
        self._tree = scan.children(scene.rows)
        self._first = {
            e.row.key: e.first_parent
            for e in scene.evidence
            if e.row is not None and e.first_parent
        }
        self._wanted = frozenset(
            e.pid for e in scene.evidence if e.row is not None and (e.holds or self.tie(e.row))
        )
        #: This process's ancestors.
        self.mine = frozenset(scan.ancestors(scene.rows, scene.me))

    # -- ties

    def tie(self, row: Row) -> Tie | None:
        """What makes it a rank; None for anything else, however it calls itself."""
        env = row.env or {}
        mark = self._mark(row)
        if known.is_server(row.command) and self._is_python(row):
            return Tie(sentence("a rank server of avatop"), ours=True)
        if row.program == known.RANK_TITLE and (mark or self._looks_right(row)):
            return Tie(sentence("a rank of avatop"), ours=True)
        if mark:
            return Tie(sentence("started by a rank of avatop"), ours=True)
        if "TORCHELASTIC_RUN_ID" in env and "RANK" in env:
            size = env.get("WORLD_SIZE", "?")
            told = sentence("rank {rank} of {size} of a torchrun", rank=env["RANK"], size=size)
            return Tie(told, ours=False)
        return None

    def _mark(self, row: Row) -> bool:
        """Whether the mark is an engine's of this boot and this PID namespace."""
        engine = marks.parse((row.env or {}).get(marks.MARK))
        return engine is not None and engine.boot == self._boot and len(row.nspid) <= 1

    def _looks_right(self, row: Row) -> bool:
        """A title can be put on anything; a real rank is a Python whose thread is named so, too."""
        return self._is_python(row) and row.comm.startswith(known.RANK_TITLE)

    @staticmethod
    def _is_python(row: Row) -> bool:
        return known.is_python(row.exe) if row.exe else known.is_python(row.program)

    # -- managed trees

    def managed(self, row: Row) -> str | None:
        """Why a process is part of a living engine's tree; None if it is not."""
        for pid in (row.pid, *scan.ancestors(self._rows, row.pid)):
            at = self._rows.get(pid)
            if at is None:
                return None
            if known.is_server(at.command) and self._server_alive(at):
                return sentence("part of a running avatop (rank server {pid})", pid=at.pid)
        if any(
            known.is_server(child.command) and self._server_alive(child)
            for child in map(self._rows.__getitem__, self._tree.get(row.pid, ()))
        ):
            return sentence("a running avatop: it hosts an engine")
        return None

    def engine_alive(self, row: Row) -> bool:
        """Whether a process is inside a living engine's tree."""
        return self.managed(row) is not None

    def _server_alive(self, row: Row) -> bool:
        """Whether a server still has the engine that started it.

        A rank too young to have its title shows its server's command line, too, and not its
        parent; it is known by its server, which is.
        """
        parent = self._rows.get(row.ppid)
        if parent is None or not row.alive or not self._is_python(row):
            return False
        return parent.alive and parent.inner_pid == known.server_parent(row.command)

    def supervised(self, row: Row) -> tuple[int, ...]:
        """Its children that hold a device or are ranks."""
        return tuple(c for c in self._tree.get(row.pid, ()) if c in self._wanted)

    # -- orphans

    def orphaned(self, row: Row) -> tuple[str, ...]:
        """Evidence that who started it is gone and nobody looks after it; empty if there is none.

        Callers have made sure that it is in no living engine's tree.
        """
        parent = self._rows.get(row.ppid)
        if row.ppid == 0:
            return ()  # started from outside this PID namespace (docker exec)
        tie = self.tie(row)
        if parent is not None and tie is not None:
            above = self.tie(parent)
            same = (parent.env or {}).get("TORCHELASTIC_RUN_ID") == (row.env or {}).get(
                "TORCHELASTIC_RUN_ID"
            )
            if above is not None and above.ours == tie.ours and (tie.ours or same):
                # A child of a rank shares its rank's fate.
                inherited = self.orphaned(parent)
                if not inherited:
                    return ()
                told = sentence("its parent {pid} is {what}", pid=parent.pid, what=above.text)
                return (told, *inherited)
        lost = self._lost(row, parent, tie)
        if not lost:
            return ()
        launcher = None if tie is not None and tie.ours else self._launcher(row)
        if launcher is not None:
            return ()
        return (lost,)

    def _lost(self, row: Row, parent: Row | None, tie: Tie | None) -> str | None:
        """How it is known that the present parent is not who started it."""
        who = str(row.ppid) if parent is None else f"{row.ppid} ({parent.comm})"
        now = sentence("its parent is now {process}", process=who)
        first = self._first.get(row.key)
        if first is not None and (parent is None or first != parent.key):
            return sentence("its parent {pid} has ended; {now}", pid=first[0], now=now)
        if tie is not None and tie.ours:
            engine = marks.parse((row.env or {}).get(marks.MARK)) if self._mark(row) else None
            if engine is not None and not running(engine, self._rows):
                return sentence("its engine (PID {pid}) has ended; {now}", pid=engine.pid, now=now)
            if row.program == known.RANK_TITLE:
                return sentence("its rank server is gone; {now}", now=now)
            if known.is_server(row.command):
                return sentence("its engine is gone; {now}", now=now)
            return None
        if parent is None:
            return None
        if row.sid not in (row.pid, parent.sid):
            return sentence("{now}, which is in another session and so did not start it", now=now)
        if known.adopts(parent.exe, parent.comm, parent.program):
            return sentence("{now}, which adopts orphans", now=now)
        # Elsewhere a shell may well have started ranks by hand; PID 1 adopts what it did not start.
        if tie is not None and parent.pid == 1 and not self._could_launch(parent):
            return sentence("{now}, which is no launcher of ranks", now=now)
        return None

    def _could_launch(self, parent: Row) -> bool:
        """torchelastic's agent is a Python; where nothing is known of the parent, it might be."""
        if not parent.exe and not parent.command:
            return True
        return self._is_python(parent) or known.is_launcher(parent.command)

    def _launcher(self, row: Row) -> Row | None:
        """A living launcher of its session that has no other group of ranks to look after."""
        group = _group(row)
        for other in self._rows.values():
            if other.sid != row.sid or other.pid == row.pid or not other.alive:
                continue
            if other.start_ticks > row.start_ticks or not known.is_launcher(other.command):
                continue
            groups = {
                _group(self._rows[child])
                for child in self._tree.get(other.pid, ())
                if "RANK" in (self._rows[child].env or {})
            }
            if not groups or group in groups:
                return other
        return None


def _group(row: Row) -> tuple[str | None, str | None]:
    """What tells one group of ranks from another."""
    env = row.env or {}
    return env.get("TORCHELASTIC_RUN_ID"), env.get("MASTER_PORT")
