"""Batches in processes of their own that kill themselves at one step of the protocol.

``python -m tests.batch.child`` reads lines ``FOLDER STEP NAME`` (tabs between; no STEP runs to the
end), forks a process for each, and answers with its exit status. Forking from here, where every
import is done and no thread runs, spares each run two seconds. A run notes every submission in
``FOLDER/renders``, one name a line.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import traceback
from pathlib import Path

from engine.jobs.paths import Places
from tests.batch.bench import bench, spec_of
from tests.batch.double import video


async def run(folder: Path, step: str, name: str) -> None:
    def reached(at: str, item: str) -> None:
        if (at, item) == (step, name):
            os.kill(os.getpid(), signal.SIGKILL)

    def script(item: str, _before: int) -> str:
        with (folder / "renders").open("a") as file:
            file.write(f"{item}\n")
        return "done"

    post = ["sh", "-c", 'echo "$AVATOP_POST_NAME" >> posted']
    async with bench(folder, script, reached=reached) as b:
        reply = await b.ask("start", **spec_of(folder, post_command=post))
        assert reply.ok, reply.message
        await b.end_of(str(reply.data["batch"]))


def main() -> None:
    assert Places.of()
    video()
    for line in sys.stdin:
        folder, step, name = line.rstrip("\n").split("\t")
        pid = os.fork()
        if not pid:
            try:
                asyncio.run(run(Path(folder), step, name))
            finally:  # whatever happened: nothing of the parent's runs on in here
                error = sys.exc_info()[0]
                if error is not None:
                    traceback.print_exc()
                os._exit(0 if error is None else 1)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
