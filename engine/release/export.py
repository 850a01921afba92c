"""Shares of stable and candidate for a load balancer in front of several hosts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.release.settings import Settings
from engine.release.store import ReleaseStore


def weights(store: ReleaseStore, settings: Settings) -> dict[str, Any]:
    """Versions with their shares of new jobs, 0 to 100 in all."""
    stable, rollout = store.find("stable"), store.rollout()
    share = 0.0
    stage = None
    if rollout is not None and rollout.active and rollout.state != "paused":
        stage = settings.stages[rollout.stage]
        share = stage.share
    candidate = store.find("candidate")
    entries = []
    if stable is not None:
        part = 1.0 - share if candidate else 1.0
        entries.append({"role": "stable", "version": stable.version, "digest": stable.digest,
                        "share": part, "weight": round(100 * part)})  # fmt: skip
    if candidate is not None:
        entries.append({"role": "candidate", "version": candidate.version,
                        "digest": candidate.digest, "share": share,
                        "weight": round(100 * share)})  # fmt: skip
    return {"stage": stage.name if stage else None, "versions": entries}


def nginx(found: Mapping[str, Any], name: str = "avatop") -> str:
    """An example upstream; the servers' addresses are the operator's to fill in."""
    lines = [f"# shares of new jobs; put each version's hosts in place of the examples\nupstream "
             f"{name} {{"]  # fmt: skip
    for number, entry in enumerate(found["versions"], 11):
        if entry["weight"]:
            lines.append(f"    server 192.0.2.{number}:7860 weight={entry['weight']};"
                         f"  # {entry['role']} {entry['version']}")  # fmt: skip
    if not any(entry["weight"] for entry in found["versions"]):
        lines.append("    server 127.0.0.1:7860;  # no release is live")
    return "\n".join([*lines, "}\n"])
