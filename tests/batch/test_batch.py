"""Does a night's batch make every video once, and tell what it did not make?"""

from __future__ import annotations

from pathlib import Path

from engine.media.audio import audio_info
from tests.batch.bench import bench, make_pair


async def test_B1_pairs_are_made_in_order_and_published_whole(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        make_pair(tmp_path, name)
    async with bench(tmp_path) as b:
        row = await b.whole()
        assert row.state == "done", b.bus.lines
        items = b.items(row)
        assert [i.state for i in items.values()] == ["done"] * 3
        names = sorted(p.name for p in (tmp_path / "out").iterdir())
        assert names == sorted(
            [f"{n}{e}" for n in "abc" for e in (".mp4", ".avatop.json")]
            + [f"report-{row.id}{e}" for e in (".json", ".csv", ".md")]
        )
        assert audio_info(tmp_path / "out" / "a.mp4").codec == "aac"
