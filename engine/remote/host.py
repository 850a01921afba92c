"""Hosting the engine: in this process, or in one of its own that outlives its consoles.

``python -m engine.remote.host`` is started by the first console in a session of its own, so that a
hang-up does not reach it. It ends by itself when nobody is attached and nothing runs or waits, or
when the console it was started for is killed (``owner``).
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from types import FrameType
from typing import Final

from engine.engine import CLOSE_SECONDS, Engine, InProcessClient
from engine.jobs.paths import Places
from engine.messages import StopEngine
from engine.remote.address import EngineTaken, Place
from engine.remote.owner import watch
from engine.remote.server import Server
from engine.sentence import sentence

#: Seconds without a client and without work until a host of its own ends.
LINGER_SECONDS: Final = 2.0
#: Seconds until the first client has to be there.
FIRST_SECONDS: Final = 30.0
_POLL_SECONDS: Final = 0.5
#: How a host says that another was faster (as ``EX_TEMPFAIL``).
TAKEN: Final = 75


class Hosting:
    """An engine of this process that others can attach to. ``client`` reaches it from here.

    Raises:
        EngineTaken: another process hosts the engine.
        OSError: the socket cannot be made.
    """

    def __init__(self, places: Places, version: str) -> None:
        self.places = places
        self._place = Place(places)
        try:
            listening = self._place.listen()
        except OSError:
            self._place.release()
            raise
        self.engine = Engine(places, version)
        self.client = InProcessClient(self.engine)
        self.server = Server(self.client, listening, version)  # before the first event
        self.engine.start()

    def close(self) -> None:
        """End the engine and every rank, tell clients, give the place back."""
        self.client.close()
        self.ended()

    def ended(self) -> None:
        """After the engine has ended: let clients go and give the place back."""
        self.server.close()
        self._place.release()


def stay(hosting: Hosting, first: float = FIRST_SECONDS, linger: float = LINGER_SECONDS) -> None:
    """Return when the engine has ended, or nobody is attached and nothing runs or waits.

    In the second case nobody can attach any more.
    """
    server, patience, quiet = hosting.server, first, 0.0
    accepted, idle = server.accepted, hosting.client.when_idle()
    while not hosting.engine.join(_POLL_SECONDS):
        if server.accepted:
            patience = linger
        if server.clients or not idle.done():
            quiet = 0.0
        else:
            quiet += _POLL_SECONDS
        # ``idle`` was asked for after ``accepted`` was read: who came in between is seen here.
        if quiet >= patience and server.retire(accepted):
            return
        accepted = server.accepted
        if idle.done():
            idle = hosting.client.when_idle()


def main(args: list[str] | None = None) -> int:
    """Host the engine until nobody needs it. Exit code 75 when another process hosts it."""
    parser = argparse.ArgumentParser(prog="avatop-engine")
    parser.add_argument("--version", dest="told", default="", help="version told to clients")
    parser.add_argument("--owner", default="", help="the console it is started for, PID:START")
    options = parser.parse_args(args)
    try:
        hosting = Hosting(Places.of(), options.told)
    except EngineTaken:
        return TAKEN
    except OSError as error:
        print(sentence("the engine cannot listen: {error}", error=error), file=sys.stderr)
        return 1
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def terminated(_number: int, _frame: FrameType | None) -> None:
        # Not here: a handler may interrupt a holder of the lock that sending takes.
        threading.Thread(target=hosting.client.send, args=(StopEngine(),), daemon=True).start()

    def orphaned() -> None:
        text = sentence("the console was killed and nobody else is attached: ending")
        hosting.server.log("ERROR", text)
        hosting.client.send(StopEngine())

    signal.signal(signal.SIGTERM, terminated)
    watch(options.owner, hosting.server, orphaned)
    os.chdir("/")  # keep no folder busy; every path of a request is absolute
    stay(hosting)
    hosting.close()
    return 0 if hosting.engine.join(CLOSE_SECONDS) else 1


if __name__ == "__main__":
    sys.exit(main())
