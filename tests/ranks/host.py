"""A process that hosts an engine's side of a group; prints PIDs and waits to be killed."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from engine.ranks.server import RankServer
from tests.ranks.helpers import PRELOAD, start


async def main(folder: Path) -> None:
    server = RankServer(preload=PRELOAD)
    group, heard = await start(server, "with_children", 2, folder)
    await heard.until_running(2)
    children = [pid for report in heard.kinds("log") for pid in report.data["pids"]]
    pids = [server.pid, *(p.pid for p in group.ranks), *children]
    print(json.dumps(pids), flush=True)
    await group.ended


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
