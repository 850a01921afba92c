"""The store's tables, as steps from one schema version to the next; never edit a past step."""

from __future__ import annotations

from typing import Final

MIGRATIONS: Final[tuple[str, ...]] = (
    """
    CREATE TABLE jobs (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        state TEXT NOT NULL,
        mode TEXT NOT NULL,
        size TEXT NOT NULL,
        clip INTEGER NOT NULL,
        clips INTEGER NOT NULL,
        steps INTEGER NOT NULL,
        ranks INTEGER NOT NULL,
        created REAL NOT NULL,
        started REAL,
        ended REAL,
        fps REAL,
        eta_seconds REAL,
        peak_bytes INTEGER,
        spikes INTEGER NOT NULL DEFAULT 0,
        output TEXT,
        manifest TEXT,
        error TEXT,
        request TEXT NOT NULL,
        plan TEXT,
        owner_pid INTEGER,
        owner_start INTEGER,
        owner_boot TEXT
    );
    CREATE INDEX jobs_by_state ON jobs (state);
    CREATE TABLE audit (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        t REAL NOT NULL,
        action TEXT NOT NULL,
        detail TEXT NOT NULL
    )
    """,
    """
    ALTER TABLE jobs ADD COLUMN kind TEXT NOT NULL DEFAULT 'engine';
    ALTER TABLE jobs ADD COLUMN version TEXT;
    ALTER TABLE jobs ADD COLUMN attempt INTEGER NOT NULL DEFAULT 1;
    ALTER TABLE jobs ADD COLUMN resumable TEXT;
    ALTER TABLE jobs ADD COLUMN batch TEXT
    """,
    """
    ALTER TABLE jobs ADD COLUMN position INTEGER;
    ALTER TABLE jobs ADD COLUMN environment TEXT NOT NULL DEFAULT '{}'
    """,
)
SCHEMA_VERSION: Final = len(MIGRATIONS)
