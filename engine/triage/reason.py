"""Evidence → findings: which failure came first, and what merely followed from it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import Final

from engine.sentence import sentence
from engine.triage.catalogue import Catalogue, Remedy, Role, Signature
from engine.triage.details import cause_with_figures, is_absurd, is_early, much_unused
from engine.triage.findings import Finding
from engine.triage.normalise import Moment
from engine.triage.scan import Evidence

#: From this confidence on a root explains other roots; below it, it yields to them.
STRONG: Final = 0.6
#: Evidence of a class within so many lines is one occurrence.
OCCURRENCE_GAP: Final = 50
#: A "cause" seen so many seconds after its "consequence" is not its cause.
_TOO_LATE: Final = 120.0
_MOST_RANKS: Final = 4_096

#: How far each class is from being a cause. Higher numbers follow from lower ones.
TIERS: Final = {
    "nccl_init_failure": 1,
    "nccl_timeout_watchdog": 2,
    "hang_no_progress": 3,
    "terminated_by_signal": 4,
    "peer_rank_died": 5,
}


@dataclass
class Tally:
    """All evidence of one signature on one rank, in one episode."""

    signature: Signature
    rank: int | None
    first: int
    last: int
    count: int
    moment: Moment | None
    text: str

    def add(self, evidence: Evidence) -> None:
        self.count += 1
        if evidence.first <= self.last + OCCURRENCE_GAP:
            self.last = max(self.last, evidence.last)
        if _before(evidence.moment, self.moment):
            self.moment = evidence.moment


@dataclass
class Group:
    """Evidence of one class that plays one role."""

    incident: str
    role: Role
    tallies: list[Tally] = field(default_factory=list)
    explained_by: str | None = None

    @property
    def strength(self) -> float:
        strengths = sorted({t.signature.id: t.signature.strength for t in self.tallies}.values())
        doubt = 1 - strengths.pop()
        for further in strengths:
            doubt *= 1 - further / 2
        return min(1 - doubt, 0.99)

    @property
    def strongest(self) -> Tally:
        return max(self.tallies, key=lambda t: (t.signature.strength, -t.first))

    @property
    def first(self) -> int:
        return min(t.first for t in self.tallies)

    @property
    def moment(self) -> Moment | None:
        earliest: Moment | None = None
        for tally in self.tallies:
            if _before(tally.moment, earliest):
                earliest = tally.moment
        return earliest

    @property
    def lines(self) -> tuple[int, int]:
        """First and last line of the first occurrence."""
        spans = sorted((t.first, t.last) for t in self.tallies)
        first, last = spans[0]
        for start, end in spans[1:]:
            if start > last + OCCURRENCE_GAP:
                break
            last = max(last, end)
        return first, last

    @property
    def tier(self) -> int:
        return TIERS.get(self.incident, 0)


class Episode:
    """Everything seen between two long silences."""

    def __init__(self, known: Catalogue) -> None:
        self._known = known
        self._tallies: dict[tuple[str, int | None], Tally] = {}
        self.last = 0

    def __bool__(self) -> bool:
        return bool(self._tallies)

    def copy(self) -> Episode:
        """One that can be added to without changing this one."""
        twin = Episode(self._known)
        twin.last = self.last
        twin._tallies = {key: replace(tally) for key, tally in self._tallies.items()}
        return twin

    def add(self, evidence: Evidence) -> None:
        self.last = max(self.last, evidence.last)
        key = (evidence.signature.id, evidence.rank)
        tally = self._tallies.get(key)
        if tally is not None:
            tally.add(evidence)
        elif len(self._tallies) < _MOST_RANKS * 4:
            self._tallies[key] = Tally(
                evidence.signature,
                evidence.rank,
                evidence.first,
                evidence.last,
                1,
                evidence.moment,
                evidence.text,
            )

    def findings(self) -> list[Finding]:
        """Roots first (strong before weak, earlier before later), then their victims."""
        groups = self._groups()
        self._absorb(groups)
        self._explain(groups)
        groups = _merged(groups)
        return [self._finding(group) for group in sorted(groups, key=_order)]

    # -- reasoning

    def _groups(self) -> list[Group]:
        by_kind: dict[tuple[str, Role], Group] = {}
        timeouts = any(
            t.signature.incident == "nccl_timeout_watchdog" for t in self._tallies.values()
        )
        for tally in self._tallies.values():
            incident, role = tally.signature.incident, tally.signature.role
            if role == "advice":
                continue
            if incident == "nccl_timeout_watchdog" and is_early(tally.text):
                # It "timed out" long before its limit: a peer went away.
                incident, role = "peer_rank_died", "victim"
            elif incident == "cuda_oom" and is_absurd(tally.text) and timeouts:
                role = "victim"
            group = by_kind.setdefault((incident, role), Group(incident, role))
            group.tallies.append(tally)
        return list(by_kind.values())

    def _absorb(self, groups: list[Group]) -> None:
        """Wrappers that tell the same failure in a general way give way to who tells it exactly."""
        for group in list(groups):
            if group.role != "root" or group.strength < STRONG or group not in groups:
                continue
            absorbed = self._known.incidents[group.incident].absorbs
            for other in list(groups):
                if other.role == "root" and other is not group and other.incident in absorbed:
                    groups.remove(other)

    def _explain(self, groups: list[Group]) -> None:
        self._yield_to_lost_peers(groups)
        roots = sorted((g for g in groups if g.role == "root"), key=_order)
        strong = [g for g in roots if g.strength >= STRONG]
        for group in roots:
            explains = self._known.incidents[group.incident].explains
            for other in groups:
                if other is group or other.explained_by is not None:
                    continue
                if group.role != "root":
                    break
                if other.role == "victim":
                    if group.tier <= other.tier or other.incident == group.incident:
                        other.explained_by = group.incident
                    continue
                if group not in strong or _too_late(group, other):
                    continue
                weak = other.strength < STRONG
                if weak or other.tier > group.tier or other.incident in explains:
                    other.role = "victim"
                    other.explained_by = group.incident

    def _yield_to_lost_peers(self, groups: list[Group]) -> None:
        """Waiting is no cause where connections to a peer broke as well."""
        lost = any(t.signature.id == "peer.connection" for g in groups for t in g.tallies)
        for group in groups:
            if lost and group.role == "root" and group.strength < STRONG and group.tier >= 3:
                group.role, group.explained_by = "victim", "peer_rank_died"

    # -- words

    def _finding(self, group: Group) -> Finding:
        incident = self._known.incidents[group.incident]
        leader = group.strongest
        cause = leader.signature.cause or incident.cause
        if leader.signature.incident != group.incident:
            cause = incident.cause
        ranks = sorted({t.rank for t in group.tallies if t.rank is not None})
        first = _first_rank(group.tallies)
        names = dict.fromkeys(
            (
                *(r for t in _by_strength(group.tallies) for r in t.signature.remedies),
                *incident.remedies,
            )
        )
        if group.explained_by is not None:
            return Finding(
                class_=group.incident,
                severity="warning",
                lines=group.lines,
                confidence=group.strength,
                role="victim",
                cause=sentence(
                    "Follows from {incident}: {cause}", incident=group.explained_by, cause=cause
                ),
                remedies=(),
                rank=first,
                ranks=tuple(ranks),
                count=sum(t.count for t in group.tallies),
                signatures=_ids(group.tallies),
                explained_by=group.explained_by,
            )
        if not much_unused([t.text for t in group.tallies]):
            names.pop("expandable_segments", None)
        remedies: tuple[Remedy, ...] = tuple(self._known.remedies[name] for name in names)
        return Finding(
            class_=group.incident,
            severity=leader.signature.severity,
            lines=group.lines,
            confidence=group.strength,
            role=group.role,
            cause=cause_with_figures(
                cause, group.incident, [(t.rank, t.text) for t in group.tallies]
            ),
            remedies=remedies,
            rank=first,
            ranks=tuple(ranks),
            count=sum(t.count for t in group.tallies),
            signatures=_ids(group.tallies),
        )


def _merged(groups: list[Group]) -> list[Group]:
    """One group per class and role: a demoted root joins the victims of its class."""
    merged: dict[tuple[str, Role], Group] = {}
    by_class: dict[str, list[Group]] = defaultdict(list)
    for group in groups:
        by_class[group.incident].append(group)
    for members in by_class.values():
        # A root with victims of its own class (the launcher's lines about it) is one thing.
        root = next((g for g in members if g.role == "root"), None)
        for group in members:
            target = root if root is not None and group.explained_by == root.incident else group
            kept = merged.setdefault((target.incident, target.role), target)
            if kept is not group:
                kept.tallies += group.tallies
    return list(merged.values())


def _order(group: Group) -> tuple[int, bool, int, float, int]:
    moment = group.moment
    return (
        group.role != "root",
        group.strength < STRONG,
        group.tier,
        moment.seconds if moment is not None and moment.clock == "date" else 0.0,
        group.first,
    )


def _before(one: Moment | None, other: Moment | None) -> bool:
    if one is None:
        return False
    return other is None or (one.clock == other.clock and one.seconds < other.seconds)


def _too_late(cause: Group, effect: Group) -> bool:
    one, other = cause.moment, effect.moment
    if one is None or other is None or one.clock != other.clock:
        return False
    return one.seconds > other.seconds + _TOO_LATE


def _first_rank(tallies: list[Tally]) -> int | None:
    """The rank that shows it first: by timestamp where all have one, else by line."""
    named = [t for t in tallies if t.rank is not None]
    if not named:
        return None
    clocks = {t.moment.clock if t.moment is not None else None for t in named}
    if len(clocks) == 1 and None not in clocks:
        return min(named, key=lambda t: (t.moment.seconds if t.moment else 0.0, t.first)).rank
    return min(named, key=lambda t: t.first).rank


def _by_strength(tallies: list[Tally]) -> list[Tally]:
    return sorted(tallies, key=lambda t: -t.signature.strength)


def _ids(tallies: list[Tally]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(t.signature.id for t in _by_strength(tallies)))
