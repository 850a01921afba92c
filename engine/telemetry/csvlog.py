"""Logs of memory as nvidia-smi writes them: ``--query-gpu=… --format=csv`` in and out.

The reader takes what is found in the field: with or without units and heading, several GPUs
interleaved, ``[N/A]``, headings repeated by a restart, a line cut off by a full disk.
"""

from __future__ import annotations

import csv
import itertools
import re
import statistics
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from engine.messages import DeviceReading

MIB: Final = 1 << 20
_UNITS: Final = {"b": 1, "kib": 1 << 10, "mib": MIB, "gib": 1 << 30, "mb": MIB, "gb": 1 << 30}
_NUMBER: Final = re.compile(r"(-?\d+(?:\.\d+)?)\s*([A-Za-z%]*)")
_HEAD: Final = re.compile(r"([a-z_]+(?:\.[a-z_]+)*)(?:\s*\[([^\]]*)\])?", re.IGNORECASE)
_STAMP: Final = re.compile(
    r"\d{4}[/-]\d\d[/-]\d\d[ T]\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)?"
)
_UUID: Final = re.compile(r"(?:GPU|MIG)-[0-9a-fA-F-]{8,}.*")
_BUS: Final = re.compile(r"[0-9A-Fa-f]{4,8}:[0-9A-Fa-f]{2}:[0-9A-Fa-f]{2}\.\d")
_ALIASES: Final = {
    "gpu_uuid": "uuid", "gpu_bus_id": "pci.bus_id", "pci.bus": "pci.bus_id", "gpu_name": "name",
}  # fmt: skip
_IDENTITY: Final = ("index", "uuid", "pci.bus_id", "gpu_serial", "serial")
_PROBED: Final = 400  # rows from which columns without a heading are guessed


class CsvLogError(ValueError):
    """Not a log of memory; the text says what is missing."""


@dataclass
class DeviceLog:
    """Readings of one device. Times are Unix seconds (or row numbers without timestamps)."""

    device: str
    uuid: str | None = None
    name: str | None = None
    times: list[float] = field(default_factory=list)
    used: list[int] = field(default_factory=list)  # bytes


@dataclass
class CsvLog:
    """What a file holds; ``notes`` say what was guessed or left out."""

    devices: list[DeviceLog]
    notes: list[str]


def read_csv(text: str, columns: Sequence[str] | None = None) -> CsvLog:
    """Read a log.

    Args:
        text: the whole file.
        columns: nvidia-smi's names of the columns, for a file without a heading.

    Raises:
        CsvLogError: no memory in it.
    """
    lines = text.lstrip("\ufeff").replace("\0", "").splitlines()
    try:
        rows = [[cell.strip() for cell in row] for row in csv.reader(lines, skipinitialspace=True)]
    except csv.Error as error:
        raise CsvLogError(f"it is no CSV: {error}") from error
    rows = [row for row in rows if any(row)]
    if not rows:
        raise CsvLogError("the file is empty")
    notes: list[str] = []
    heading = _heading(rows[0])
    if heading is not None:
        rows = [row for row in rows if _heading(row) is None]
    names = heading or [_plain(name) for name in columns or ()] or _guess(rows, notes)
    if "memory.used" not in names:
        raise CsvLogError(
            f"no column memory.used among {', '.join(n for n in names if n) or 'the columns'};"
            " write the log with nvidia-smi --query-gpu=timestamp,index,memory.used --format=csv"
            " -l 1, or name its columns"
        )
    if not text.endswith("\n"):
        rows = _untorn(rows, notes)
    return CsvLog(_split(rows, names, notes), notes)


def _plain(name: str) -> str:
    found = _HEAD.fullmatch(name.strip())
    bare = (found[1] if found else name).strip().lower()
    return _ALIASES.get(bare, bare)


def _heading(row: Sequence[str]) -> list[str] | None:
    """Names of the columns, where the row is a heading."""
    names = [_plain(cell) for cell in row]
    known = {"timestamp", "memory.used", "memory.total", "memory.free", *_IDENTITY}
    return names if known & set(names) else None


def _untorn(rows: list[list[str]], notes: list[str]) -> list[list[str]]:
    """Leave out a last row that the end of the file cuts off."""
    if len(rows) < 2:
        return rows
    last, before = rows[-1], rows[-2]
    if len(last) < len(before) or len(last[-1]) < len(before[-1]):
        notes.append("the last line is cut off and was left out")
        return rows[:-1]
    return rows


def _amount(cell: str) -> int | None:
    """Bytes; nvidia-smi's figures without a unit are MiB. None for [N/A] and the like."""
    found = _NUMBER.fullmatch(cell)
    if found is None:
        return None
    factor = _UNITS.get(found[2].lower()) if found[2] else MIB
    return None if factor is None else int(float(found[1]) * factor)


def moment(cell: str) -> float | None:
    """Unix seconds of nvidia-smi's local time, ISO 8601 or a plain number; None otherwise.

    >>> moment("1700000000.5")
    1700000000.5
    """
    if _STAMP.fullmatch(cell):
        try:
            return datetime.fromisoformat(cell.replace("/", "-").replace(",", ".")).timestamp()
        except (ValueError, OverflowError, OSError):
            return None
    found = _NUMBER.fullmatch(cell)
    return float(found[1]) if found and not found[2] else None


def _split(rows: list[list[str]], names: list[str], notes: list[str]) -> list[DeviceLog]:
    used_at = names.index("memory.used")
    time_at = names.index("timestamp") if "timestamp" in names else None
    key_at = next((names.index(name) for name in _IDENTITY if name in names), None)
    times = _times(rows, time_at, notes)
    turns = 1
    if key_at is None and time_at is not None:
        turns = _turns([t for t in times if t is not None])
        if turns > 1:
            notes.append(f"no column tells the devices apart: {turns} taken by their turns")
    logs: dict[str, DeviceLog] = {}
    short = unread = 0
    for number, (row, t) in enumerate(zip(rows, times, strict=True)):
        if len(row) < len(names):
            short += 1
            continue
        amount = _amount(row[used_at])
        if amount is None or t is None:
            unread += 1
            continue
        key = row[key_at] if key_at is not None else str(number % turns)
        log = logs.get(key)
        if log is None:
            log = logs[key] = DeviceLog(key, _cell(row, names, "uuid"), _cell(row, names, "name"))
        log.times.append(t)
        log.used.append(amount)
    if short:
        notes.append(f"{short:,} lines with too few fields were left out")
    if unread:
        notes.append(f"{unread:,} lines without a reading were left out")
    if not logs:
        raise CsvLogError("no line has a reading of memory.used")
    for log in logs.values():
        if any(b < a for a, b in zip(log.times, log.times[1:], strict=False)):
            order = sorted(range(len(log.times)), key=log.times.__getitem__)
            log.times, log.used = [log.times[n] for n in order], [log.used[n] for n in order]
            notes.append(f"device {log.device}: time goes backwards; readings were put in order")
    return sorted(logs.values(), key=lambda log: (len(log.device), log.device))


def _cell(row: Sequence[str], names: Sequence[str], name: str) -> str | None:
    return row[names.index(name)] if name in names else None


def _times(rows: list[list[str]], at: int | None, notes: list[str]) -> list[float | None]:
    if at is None:
        notes.append("no timestamps: times are line numbers")
        return [float(n) for n in range(len(rows))]
    return [moment(row[at]) if at < len(row) else None for row in rows]


def _turns(times: list[float]) -> int:
    """How many devices take turns: nvidia-smi writes theirs in one go, then waits."""
    gaps = [b - a for a, b in itertools.pairwise(times)][:_PROBED]
    for turns in range(2, 17):
        between = gaps[turns - 1 :: turns]
        within = [gap for n, gap in enumerate(gaps) if n % turns != turns - 1]
        if len(between) < 2 or not within:
            return 1
        if max(within) <= 0.2 * min(between):
            return turns
    return 1


def _guess(rows: list[list[str]], notes: list[str]) -> list[str]:
    """Names of the columns from what is in them."""
    probe = rows[:_PROBED]
    width = statistics.mode(len(row) for row in probe)
    probe = [row for row in probe if len(row) == width]
    names = [""] * width
    amounts: dict[int, list[int]] = {}
    for column in range(width):
        cells = [row[column] for row in probe if not row[column].startswith("[")]
        if not cells:
            continue
        if all(_STAMP.fullmatch(cell) for cell in cells):
            names[column] = "timestamp"
        elif all(_UUID.fullmatch(cell) for cell in cells):
            names[column] = "uuid"
        elif all(_BUS.fullmatch(cell) for cell in cells):
            names[column] = "pci.bus_id"
        elif all(_amount(cell) is not None for cell in cells):
            if "index" not in names and _is_index(cells):
                names[column] = "index"
            else:
                amounts[column] = [_amount(cell) or 0 for cell in cells]
    if not amounts:
        return names
    with_unit = [c for c in amounts if any(char.isalpha() for char in probe[0][c])]
    chosen = with_unit or list(amounts)
    moving = [c for c in chosen if len(set(amounts[c])) > 1] or chosen
    largest = max(moving, key=lambda c: max(amounts[c]))
    first = next((c for c in moving if with_unit), largest)
    names[first] = "memory.used"
    notes.append(f"no heading: column {first + 1} is taken for memory.used (--columns names them)")
    return names


def _is_index(cells: list[str]) -> bool:
    """Counts through the devices: 0, 1, … and again."""
    if not all(cell.isdigit() and len(cell) <= 2 for cell in cells):
        return False
    numbers = [int(cell) for cell in cells]
    count = max(numbers) + 1
    return all(n == place % count for place, n in enumerate(numbers))


# -- writing -----------------------------------------------------------------------------------

#: Columns this program can write: nvidia-smi's name, its heading, and the reading's figure.
COLUMNS: Final = {
    "timestamp": "timestamp", "index": "index", "name": "name", "uuid": "uuid",
    "memory.used": "memory.used [MiB]", "memory.total": "memory.total [MiB]",
    "memory.free": "memory.free [MiB]", "memory.peak": "memory.peak [MiB]",
    "utilization.gpu": "utilization.gpu [%]", "temperature.gpu": "temperature.gpu",
    "power.draw": "power.draw [W]", "power.limit": "power.limit [W]",
}  # fmt: skip
DEFAULT: Final = ("timestamp", "index", "uuid", "memory.used", "memory.total", "utilization.gpu",
                  "temperature.gpu", "power.draw")  # fmt: skip
_ABSENT: Final = "[N/A]"


def csv_lines(
    samples: Iterable[tuple[float, Sequence[DeviceReading]]],
    columns: Sequence[str] = DEFAULT,
    *,
    units: bool = True,
) -> Iterator[str]:
    """Lines as nvidia-smi writes them, heading first, newlines included.

    ``memory.peak`` is ours: the highest memory since the reading before.

    Raises:
        CsvLogError: a column that is not among ``COLUMNS``.
    """
    unknown = [name for name in columns if name not in COLUMNS]
    if unknown:
        raise CsvLogError(f"unknown columns {', '.join(unknown)}; known: {', '.join(COLUMNS)}")
    yield ", ".join(COLUMNS[name] for name in columns) + "\n"
    for t, readings in samples:
        for reading in readings:
            yield ", ".join(_value(name, t, reading, units) for name in columns) + "\n"


def _value(name: str, t: float, reading: DeviceReading, units: bool) -> str:
    match name:
        case "timestamp":
            whole = int(t * 1000)
            stamp = time.strftime("%Y/%m/%d %H:%M:%S", time.localtime(whole // 1000))
            return f"{stamp}.{whole % 1000:03d}"
        case "index":
            return str(reading.index)
        case "name":
            return reading.name.replace(",", " ")
        case "uuid":
            return reading.uuid
        case _ if name.startswith("memory."):
            free = None
            if reading.memory_total is not None and reading.memory_used is not None:
                free = reading.memory_total - reading.memory_used
            amount = {"memory.used": reading.memory_used, "memory.total": reading.memory_total,
                      "memory.peak": reading.memory_peak}.get(name, free)  # fmt: skip
            return _figure(None if amount is None else f"{amount / MIB:.0f}", "MiB", units)
        case "utilization.gpu":
            return _figure(_number(reading.utilization, 0), "%", units)
        case "temperature.gpu":
            return _figure(_number(reading.temperature_c, 0), "", units)
        case "power.draw":
            return _figure(_number(reading.power_w, 2), "W", units)
        case _:
            return _figure(_number(reading.power_limit_w, 2), "W", units)


def _number(value: float | None, digits: int) -> str | None:
    return None if value is None else f"{value:.{digits}f}"


def _figure(text: str | None, unit: str, units: bool) -> str:
    if text is None:
        return _ABSENT
    return f"{text} {unit}" if units and unit else text
