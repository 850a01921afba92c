"""What a disturbed job lacks of an undisturbed one."""

from __future__ import annotations

from pathlib import Path

from engine.drills.report import DrillReport
from engine.drills.stage import Made
from engine.sentence import sentence


def judge(report: DrillReport, before: Made, after: Made) -> None:
    """Write both jobs' hashes into the report, and what the second lost."""
    report.undisturbed_sha256, report.latents_sha256 = before.latents, after.latents
    report.recovered = after.done
    if not after.done:
        report.lost.append(
            sentence("the job: {state}, {error}", state=after.row.state, error=after.row.error)
        )
        return
    if after.latents != before.latents:
        report.lost.append(sentence("latents: other bytes than without the fault"))
    for clip, digest in enumerate(before.segments):
        if clip >= len(after.segments):
            report.lost.append(sentence("clip {clip}: not committed", clip=clip + 1))
        elif after.segments[clip] != digest:
            report.lost.append(
                sentence("clip {clip}: other bytes than without the fault", clip=clip + 1)
            )
    if after.row.output is None or not Path(after.row.output).is_file():
        report.lost.append(sentence("the video"))
