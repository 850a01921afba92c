"""Releases: which version is live, where the candidate stands, its gates, and the way back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from console import actions
from console import format as fmt
from console.deeds import user
from console.i18n import t
from console.screens import release_ask
from console.screens.listed import ListedPage
from console.screens.release_store import Kept, read
from console.state import Model
from console.widgets.paint import Paint
from console.widgets.releases import Gates, Happened, Releases, RolloutStrip, by_role
from console.widgets.table import Table
from engine.messages import ReleaseChanged, ReleaseCommand, Reply


class ReleasePage(ListedPage):
    """Versions above, the rollout's strip, the gates of the selected version, the history."""

    NAME = "release"
    BINDINGS = actions.bindings("release")
    DEFAULT_CSS = "ReleasePage Gates { width: 1fr; }"
    WIDE = 170
    LISTED = "releases"

    def __init__(self, model: Model, paint: Paint) -> None:
        super().__init__(model, paint)
        self.kept = Kept()
        self._reading = self._again = False
        self.releases = Releases(model, paint, lambda: self.kept)
        self.rollout = RolloutStrip(model, paint, lambda: self.kept)
        self.gates = Gates(model, paint, self.releases)
        self.happened = Happened(model, paint, self.gates, lambda: self.kept)
        self.consist_of(self.releases, self.rollout, self.gates, self.happened)

    def opened(self) -> None:
        self._read()

    def model_changed(self, dirty: set[str]) -> None:
        super().model_changed(dirty)
        if dirty & {"releases", "audits"}:
            self._read()

    def on_descendant_focus(self) -> None:
        super().on_descendant_focus()
        self.happened.update()

    def on_table_moved(self, event: Table.Moved) -> None:
        if event.table is self.releases:
            self.gates.moved = False
            self.gates.update()
        self.happened.top = 0
        self.happened.update()

    def on_table_opened(self, event: Table.Opened) -> None:
        (self.gates if event.table is self.releases else self.happened).focus()

    def share(self, beside: bool, room: int) -> None:
        release = self.releases.item
        gates = max(len(release.gates) if release else 0, 1) + 2
        self.gates.styles.height = "100%" if beside else min(gates, max(room // 2 - 3, 4))
        self.happened.styles.width = self.app.size.width * 2 // 5 if beside else "100%"
        self.happened.styles.height = "100%" if beside else "1fr"

    # -- what the store has --------------------------------------------------------------------

    def _read(self) -> None:
        """Read the store on a thread; what changes meanwhile is read afterwards, once."""
        if self.console_app.replay is not None:
            self.kept = Kept()  # a recording knows nothing of this host's store
            return
        if self._reading:
            self._again = True
            return
        self._reading = True
        self.run_worker(self._read_store, thread=True, exit_on_error=False, group="store")

    def _read_store(self) -> None:
        kept = read()
        self.app.call_from_thread(self._came, kept)

    def _came(self, kept: Kept) -> None:
        self._reading = False
        self.kept = kept
        self.releases.stamp += 1
        for part in (self.releases, self.rollout, self.happened):
            part.update()
        if self._again:
            self._again = False
            self._read()

    # -- actions -----------------------------------------------------------------------------

    def _chosen(self) -> ReleaseChanged | None:
        """The release under the cursor; says so where there is none."""
        release = self.releases.item
        if release is None:
            key = self.console_app.keymap.key_of("release.add-version")
            self.console_app.say(t("There is no release yet; {key} adds one.", key=key), "soft")
        return release

    def _ask(self, do: str, version: str = "", options: Mapping[str, Any] | None = None) -> None:
        """Send a command; where the engine refuses what force would do, ask for that."""
        app = self.console_app
        chosen = dict(options or {})

        def answered(reply: Reply) -> None:
            if reply.state == "refused" and "--force" in reply.message and "force" not in chosen:
                app.push_screen(release_ask.force(self.model, self.paint, reply.message), decided)
                return
            app.said(reply)
            self._read()

        def decided(choice: str | None) -> None:
            if choice == "force":
                self._ask(do, version, {**chosen, "force": True})

        app.ask(ReleaseCommand(do=do, version=version, options=chosen, by=user()), answered)

    def action_add(self) -> None:
        app = self.console_app
        if app.refuses():
            return
        from console.screens.release_form import ReleaseForm

        def done(chosen: tuple[str, dict[str, Any]] | None) -> None:
            if chosen is None:
                return
            version, options = chosen
            app.say(t("The files of {version} are being hashed.", version=fmt.inert(version)))
            app.ask(ReleaseCommand(do="add", version=version, options=options, by=user()), added)

        def added(reply: Reply) -> None:
            app.said(reply)
            self._read()
            self.releases.choose(reply.data.get("digest"))

        app.push_screen(ReleaseForm(self.model, self.paint), done)

    def action_validate(self) -> None:
        release = self._chosen()
        if release is not None and not self.console_app.refuses():
            self._ask("validate", release.version)

    def action_start(self) -> None:
        release, app = self._chosen(), self.console_app
        if release is None or app.refuses():
            return
        if release.role in ("stable", "candidate"):
            text = t("{version} gets jobs already.", version=release.version)
            app.say(text, "soft")
            return

        def done(choice: str | None) -> None:
            if choice in ("by_itself", "by_hand"):
                self._ask("start", release.version, {"by_hand": choice == "by_hand"})

        dialog = release_ask.start(self.model, self.paint, release.version, self.kept.stages)
        app.push_screen(dialog, done)

    def _rolling(self) -> bool:
        """Whether there is a candidate; says so if not."""
        if by_role(self.model, "candidate") is None:
            self.console_app.say(t("No rollout is under way."), "soft")
            return False
        return not self.console_app.refuses()

    def action_advance(self) -> None:
        if self._rolling():
            self._ask("advance")

    def action_pause(self) -> None:
        if self._rolling():
            self._ask("pause")

    def action_resume(self) -> None:
        if self._rolling():
            self._ask("resume")

    def action_rollback(self) -> None:
        app = self.console_app
        stable = by_role(self.model, "stable")
        promoted = stable if stable is not None and stable.state == "promoted" else None
        bad = by_role(self.model, "candidate") or promoted
        if bad is None:
            app.say(t("There is nothing to take back."), "soft")
            return
        if app.refuses():
            return
        rollout = self.kept.rollout
        known = rollout is not None and rollout.candidate == bad.release
        back = self.kept.back_to if known else None
        if back is None and stable is not None and bad is not stable:
            back = stable.version

        def done(choice: str | None) -> None:
            if choice in ("finish", "pause", "requeue"):
                self._ask("rollback", "", {"running": choice})

        app.push_screen(release_ask.rollback(self.model, self.paint, bad.version, back), done)

    def action_promote(self) -> None:
        app = self.console_app
        stable, candidate = by_role(self.model, "stable"), by_role(self.model, "candidate")
        release = self._chosen() if stable is None else candidate
        if release is None:
            if stable is not None:
                app.say(t("No rollout is under way."), "soft")
            return
        if app.refuses():
            return
        before = None if stable is None else stable.version

        def done(choice: str | None) -> None:
            if choice == "promote":
                self._ask("promote", release.version)

        app.push_screen(release_ask.promote(self.model, self.paint, release.version, before), done)
