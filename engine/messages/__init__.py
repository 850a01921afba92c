"""What crosses the line between a user interface and the engine: commands in, events out.

Every message is a frozen dataclass that turns into one JSON object and back, so the same types
serve the in-process client, the socket, the flight recorder and replay. The first field of the
JSON is ``type`` (the class name) and ``v`` the version of the vocabulary.

Units: bytes and seconds, unless a name says otherwise. ``t`` is wall-clock time (Unix seconds).
Owners of memory use one vocabulary everywhere, ``OWNERS``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from engine.messages.answers import (
    Reply,
    Snapshot,
)
from engine.messages.base import (
    END_STATES,
    JOB_STATES,
    LIVE_STATES,
    LOG_LEVELS,
    OWNERS,
    VERSION,
    Message,
    MessageError,
    from_dict,
    from_json,
)
from engine.messages.events import (
    AlertChanged,
    Audited,
    BatchChanged,
    BlockDone,
    CheckpointChanged,
    ClipCommitted,
    DevicesDrained,
    DevicesSampled,
    EngineStarted,
    EngineStopped,
    Event,
    FindingRaised,
    JobChanged,
    LedgerUpdated,
    LogLine,
    PlanChanged,
    PlanMade,
    ProcessesSurveyed,
    RankChanged,
    ReleaseChanged,
    Spike,
    StepDone,
    Unshards,
)
from engine.messages.parts import (
    BatchItem,
    DeviceReading,
    GateRow,
    JobRow,
    ProcessClass,
    ProcessReading,
    Remedy,
    UnshardRecord,
)

if TYPE_CHECKING:
    from engine.messages.commands import (
        Acknowledge,
        BatchCommand,
        Cancel,
        Command,
        Drain,
        Finish,
        Mirror,
        Pause,
        Reap,
        Relaunch,
        ReleaseCommand,
        Reorder,
        Resume,
        SetSpikeThreshold,
        Silence,
        StopEngine,
        Submit,
        Switch,
        SwitchQueue,
    )
else:

    def __getattr__(name: str) -> object:
        """Commands are made when the first one is asked for: no first picture waits for them."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module("engine.messages.commands"), name)


__all__ = [
    "END_STATES",
    "JOB_STATES",
    "LIVE_STATES",
    "LOG_LEVELS",
    "OWNERS",
    "VERSION",
    "Acknowledge",
    "AlertChanged",
    "Audited",
    "BatchChanged",
    "BatchCommand",
    "BatchItem",
    "BlockDone",
    "Cancel",
    "CheckpointChanged",
    "ClipCommitted",
    "Command",
    "DeviceReading",
    "DevicesDrained",
    "DevicesSampled",
    "Drain",
    "EngineStarted",
    "EngineStopped",
    "Event",
    "FindingRaised",
    "Finish",
    "GateRow",
    "JobChanged",
    "JobRow",
    "LedgerUpdated",
    "LogLine",
    "Message",
    "MessageError",
    "Mirror",
    "Pause",
    "PlanChanged",
    "PlanMade",
    "ProcessClass",
    "ProcessReading",
    "ProcessesSurveyed",
    "RankChanged",
    "Reap",
    "Relaunch",
    "ReleaseChanged",
    "ReleaseCommand",
    "Remedy",
    "Reorder",
    "Reply",
    "Resume",
    "SetSpikeThreshold",
    "Silence",
    "Snapshot",
    "Spike",
    "StepDone",
    "StopEngine",
    "Submit",
    "Switch",
    "SwitchQueue",
    "UnshardRecord",
    "Unshards",
    "from_dict",
    "from_json",
]
