"""Behind the devices: join, verify, publish; names of twins; the operator's command."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from engine.batch import endings
from engine.batch.desk import Desk
from engine.batch.post import PostError, run_post, values_of
from engine.batch.prepare import Ready
from engine.batch.publish import NameTaken
from engine.batch.rows import ALIAS, DONE, FAILED, QUARANTINED, VERIFYING, ItemRow
from engine.batch.store import LostClaim
from engine.batch.tries import Made, TryFailed, make_output
from engine.jobs.paths import Places
from engine.messages import JobRow
from engine.sentence import sentence

#: Threads that join and verify.
POOL: Final = 2


class Behind:
    """What follows on a device's work, beside the next item's."""

    def __init__(self, desk: Desk, places: Places) -> None:
        self._desk = desk
        self._places = places
        self._pool = ThreadPoolExecutor(POOL, "avatop-batch-behind")

    def close(self) -> None:
        """Nothing more will come."""
        self._pool.shutdown(wait=False)

    async def make(self, claim: ItemRow, row: JobRow, ready: Ready) -> None:
        """The video of a job that is done, to its end."""
        facts: dict[str, Any] = {"batch": claim.batch, "key": claim.key, "name": claim.name}
        facts |= {"audio": claim.audio, "image": claim.image, "version": row.version}
        loop = asyncio.get_running_loop()
        try:
            made = await loop.run_in_executor(
                self._pool,
                make_output,
                claim,
                row,
                ready,
                self._desk.final(claim),
                self._places,
                {**facts, "parameters": claim.request},
                self._desk.steps(claim),
            )
            fields = self._made_fields(made, ready)
            attempts = claim.attempts + row.attempt - 1
            done = self._desk.keep(
                await asyncio.to_thread(
                    self._desk.store.end, claim, "done", attempts=attempts, **fields
                )
            )
            endings.clean(self._desk.work, claim)
            self._desk.reached("done", claim.name)
            self._desk.log("INFO", f"{claim.name}: done, {made.published.path}")
            if done.post == "due":
                await self.post(done)
        except TryFailed as failed:
            self._desk.failed(claim, failed)
        except LostClaim as lost:
            self._desk.lost(lost)

    async def post(self, item: ItemRow) -> None:
        """Its failure is told and harms nothing: the output is there."""
        fields: dict[str, Any] = {"post": "done", "post_error": None}
        try:
            limit, folder = self._desk.spec.post_timeout, self._desk.spec.out_dir
            await run_post(self._desk.spec.post_command, values_of(item), limit, folder)
        except PostError as error:
            fields = {"post": "failed", "post_error": str(error)}
            self._desk.log("ERROR", f"{item.name}: the post-command failed: {error}")
        self._desk.reached("posted", item.name)
        await asyncio.to_thread(self._desk.settle, item, **fields)
        self._desk.reached("post", item.name)

    def aliases(self) -> None:
        """Give twins of what is done their names; those of what failed fail."""
        for item in list(self._desk.items.values()):
            twin = self._desk.items.get(item.alias_of or "")
            if item.state != ALIAS or item.output or item.key in self._desk.doing:
                continue
            if twin is None:
                error = sentence("what it is the same as is no longer in the batch")
                self._desk.settle(item, state=FAILED, error=error, cause="bad_input")
            elif twin.state == DONE:
                self._desk.doing[item.key] = VERIFYING
                self._desk.spawn(self._alias(item, twin))
            elif twin.state in (FAILED, QUARANTINED):
                error = sentence("it is the same as {name}, which failed", name=twin.name)
                self._desk.settle(item, state=FAILED, error=error, cause=twin.cause)

    async def _alias(self, item: ItemRow, twin: ItemRow) -> None:
        """The twin's video under this name, too: a link, no bytes."""
        try:
            fields = await asyncio.get_running_loop().run_in_executor(
                self._pool,
                endings.link_twin,
                *(
                    self._desk.spec,
                    item,
                    twin,
                    self._desk.final(item),
                    self._desk.work,
                    self._desk.steps(item),
                ),
            )
        except (OSError, NameTaken) as error:
            fields = {"state": FAILED, "error": str(error), "cause": "name_taken"}
        finally:
            self._desk.doing.pop(item.key, None)
        row = await asyncio.to_thread(self._desk.settle, item, **fields)
        if row.post == "due":
            await self.post(row)

    def _made_fields(self, made: Made, ready: Ready) -> dict[str, Any]:
        findings = [f.to_dict() for f in (*ready.findings, *made.findings)]
        facts = {name: getattr(made, name) for name in ("frames", "seconds", "fps", "peak_bytes")}
        return {**endings.done_fields(self._desk.spec, made.published, facts), "findings": findings}
