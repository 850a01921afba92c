"""Ending a process from the console: show what it is, ask, TERM, wait, offer KILL, tell.

The engine does it (``Reap``): it compares (PID, start time) once more, signals through a pidfd,
and calls it a success when the process has exited and the driver lists its memory no more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from console import deeds
from console import format as fmt
from console.i18n import N_, t
from console.screens.dialog import Choice, Dialog
from console.screens.typed import TypedConfirm
from console.spoken import spoken
from console.widgets.process_tree import ProcessRow, job_words, look_of, memory_words
from engine.guard import kill as guard
from engine.guard.classify import NOBODY, POLICY, YES
from engine.messages import Reap, Reply

if TYPE_CHECKING:
    from console.app import AvatopApp

_COMMAND: Final = 150  # characters of a command line in a dialog
_EVIDENCE: Final = 4
_CHILDREN: Final = 8


class Killing:
    """One process after another; each is shown and asked for by itself.

    Args:
        rows: what was selected. ends: is told whose end is awaited; None once there is an answer.
        done: called when the last one is over.
    """

    def __init__(
        self,
        app: AvatopApp,
        rows: Sequence[ProcessRow],
        ends: Callable[[ProcessRow | None], object],
        done: Callable[[], object],
    ) -> None:
        self.app = app
        self.waiting = list(rows)
        self.ends = ends
        self.done = done
        self.row: ProcessRow | None = None

    def next(self) -> None:
        """Go on with the next process."""
        if not self.waiting:
            self.done()
            return
        self.row = self.waiting.pop(0)
        if self.row.it.consent == NOBODY or self.row.it.protected:
            self._tell_why_not(self.row)
        else:
            self._ask(self.row)

    # -- asking ------------------------------------------------------------------------------

    def _ask(self, row: ProcessRow) -> None:
        pid = row.process.pid
        title = t("End PID {pid}?", pid=pid)
        choices = [
            Choice("leave", t("Leave it running")),
            Choice("end", t("End PID {pid} ({name}) with SIGTERM", pid=pid, name=row.name),
                   danger=True),
        ]  # fmt: skip

        def answered(choice: str | None) -> None:
            if choice != "end":
                self.next()
            elif row.it.consent in (POLICY, YES):
                self._send(row)
            else:
                self._ask_for_number(row)

        self._dialog(title, facts(row, self.app), choices, answered)

    def _ask_for_number(self, row: ProcessRow) -> None:
        sentences = [
            t("It is not avatop's own. Type its number to end it."),
            *facts(row, self.app)[:2],
        ]
        title = t("End PID {pid}, which is not avatop's own?", pid=row.process.pid)
        form = TypedConfirm(self.app.model, self.app.paint, title, sentences, str(row.process.pid))

        def typed(right: bool | None) -> None:
            if right:
                self._send(row, confirmed=True)
            else:
                self.next()

        self.app.push_screen(form, typed)

    def _tell_why_not(self, row: ProcessRow) -> None:
        sentences = [*facts(row, self.app), t("Nobody ends it from here.")]
        if row.it.next_command:
            sentences.append(t("Instead: {command}", command=row.it.next_command))
        title = t("PID {pid} is not ended from here", pid=row.process.pid)
        self._dialog(title, sentences, [Choice("leave", t("Back"))], lambda _: self.next())

    def _dialog(
        self, title: str, sentences: Sequence[str], choices: Sequence[Choice],
        answered: Callable[[str | None], None],
    ) -> None:  # fmt: skip
        dialog = Dialog(self.app.model, self.app.paint, title, sentences, choices)
        self.app.push_screen(dialog, answered)

    # -- doing -------------------------------------------------------------------------------

    def _send(self, row: ProcessRow, *, confirmed: bool = False, force: bool = False) -> None:
        if self.app.refuses() or self.app.client is None:
            self.next()
            return
        pid, started = row.key
        signal = "SIGKILL" if force else "SIGTERM"
        self.app.say(
            t("{signal} for PID {pid}; waiting until it has ended and its memory is released.",
              signal=signal, pid=pid)
        )  # fmt: skip
        command = Reap(targets=((pid, started),), force=force, confirmed=confirmed, by=deeds.user())
        self.ends(row)
        self.app.ask(command, lambda reply: self._answered(row, reply, confirmed, force))

    def _answered(self, row: ProcessRow, reply: Reply, confirmed: bool, forced: bool) -> None:
        self.ends(None)
        pid = row.process.pid
        action = _of(pid, reply)
        if action is None:
            self._not_ended(row, [_refusal(pid, reply)])
            return
        result, detail = str(action.get("result")), str(action.get("detail") or "")
        if result in (guard.ENDED, guard.GONE):
            self.app.say(_ended(pid, result, action.get("freed_bytes")), "state.good")
            self.next()
        elif result == guard.SURVIVED and not forced and "KILL" not in str(action.get("action")):
            self._offer_kill(row, confirmed)
        else:
            told = [t(_RESULTS[result], pid=pid)] if result in _RESULTS else []
            told += [spoken(detail, self.app.model)] if detail else []
            if action.get("next"):
                told.append(t("Next: {command}", command=action["next"]))
            self._not_ended(row, told or [spoken(reply.message, self.app.model) or result])

    def _offer_kill(self, row: ProcessRow, confirmed: bool) -> None:
        pid = row.process.pid
        sentences = [
            t("It still runs ten seconds after SIGTERM."),
            t("SIGKILL ends it without letting it clean up; shared memory may stay behind."),
            *facts(row, self.app)[:2],
        ]
        choices = [
            Choice("leave", t("Leave it for now")),
            Choice("kill", t("End PID {pid} ({name}) with SIGKILL", pid=pid, name=row.name),
                   danger=True),
        ]  # fmt: skip

        def answered(choice: str | None) -> None:
            if choice == "kill":
                self._send(row, confirmed=confirmed, force=True)
            else:
                self.next()

        self._dialog(t("PID {pid} does not end", pid=pid), sentences, choices, answered)

    def _not_ended(self, row: ProcessRow, sentences: Sequence[str]) -> None:
        title = t("PID {pid} was not ended", pid=row.process.pid)
        self.app.say(title + t(": ") + sentences[0], "state.act")
        self._dialog(title, sentences, [Choice("back", t("Back"))], lambda _: self.next())


#: Results of the reaper that need a word of their own; the rest is in their detail.
_RESULTS: Final = {
    guard.NO_PERMISSION: N_("You may not signal PID {pid} (EPERM)."),
    guard.MEMORY_HELD: N_("PID {pid} has exited, but its device memory is still held."),
    guard.CHANGED: N_("PID {pid} is not the process that was shown; nothing was sent."),
    guard.RESPAWNED: N_("PID {pid} has ended, and was started again."),
    guard.SURVIVED: N_("PID {pid} is still there after SIGKILL."),
}


def facts(row: ProcessRow, app: AvatopApp) -> list[str]:
    """What a person has to know before deciding, as sentences."""
    process, it = row.process, row.it
    command = fmt.short(fmt.inert(process.command or "?"), _COMMAND)
    memory = ", ".join(memory_words(row, app.model)) or t("none known")
    children = ", ".join(map(str, it.children[:_CHILDREN]))
    if len(it.children) > _CHILDREN:
        children += " …"
    look = look_of(it.kind)
    evidence = "; ".join(spoken(text, app.model) for text in it.evidence[:_EVIDENCE]) or t(
        "no evidence told"
    )
    return [
        command,
        t("Device memory: {memory}.", memory=memory),
        t("User {user}, job {job}, container {container}, children {children}.",
          user=process.user or fmt.NA, job=job_words(process) or t("none"),
          container=it.container or t("none"), children=children or t("none")),
        t("Classified {kind}: {evidence}.", kind=t(look.word), evidence=evidence),
    ]  # fmt: skip


def _of(pid: int, reply: Reply) -> dict[str, Any] | None:
    actions = reply.data.get("actions") or ()
    return next((one for one in actions if one.get("pid") == pid), None)


def _refusal(pid: int, reply: Reply) -> str:
    refused = reply.data.get("refused") or {}
    why = refused.get(pid) or refused.get(str(pid)) or reply.message
    return spoken(str(why)) if why else t("The engine did not say why.")


def _ended(pid: int, result: str, freed: int | None) -> str:
    if result == guard.GONE:
        return t("PID {pid} had ended by itself.", pid=pid)
    if freed is None:
        return t("PID {pid} has ended; how much memory it held is not known.", pid=pid)
    if freed:
        return t("PID {pid} has ended; {size} GiB are free again.", pid=pid, size=fmt.gib(freed))
    return t("PID {pid} has ended.", pid=pid)
