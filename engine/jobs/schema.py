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
    """
    CREATE TABLE batches (
        id TEXT PRIMARY KEY,
        name TEXT NOT NULL,
        state TEXT NOT NULL,
        spec TEXT NOT NULL,
        digest TEXT NOT NULL,
        created REAL NOT NULL,
        started REAL,
        ended REAL,
        worked REAL NOT NULL DEFAULT 0,
        note TEXT NOT NULL DEFAULT '',
        lines TEXT,
        report TEXT,
        owner_pid INTEGER,
        owner_start INTEGER,
        owner_boot TEXT
    );
    CREATE TABLE batch_items (
        batch TEXT NOT NULL REFERENCES batches (id),
        key TEXT NOT NULL,
        seq INTEGER NOT NULL,
        name TEXT NOT NULL,
        alias_of TEXT,
        audio TEXT NOT NULL,
        image TEXT NOT NULL,
        audio_sha256 TEXT,
        image_sha256 TEXT,
        audio_seconds REAL,
        request TEXT NOT NULL,
        state TEXT NOT NULL,
        attempts INTEGER NOT NULL DEFAULT 0,
        crashes INTEGER NOT NULL DEFAULT 0,
        fence INTEGER NOT NULL DEFAULT 0,
        lease REAL,
        next_time REAL NOT NULL DEFAULT 0,
        owner_pid INTEGER,
        owner_start INTEGER,
        owner_boot TEXT,
        temporary TEXT,
        job INTEGER,
        output TEXT,
        sha256 TEXT,
        bytes INTEGER,
        frames INTEGER,
        seconds REAL,
        fps REAL,
        peak_bytes INTEGER,
        error TEXT,
        cause TEXT,
        findings TEXT NOT NULL DEFAULT '[]',
        post TEXT,
        post_error TEXT,
        ended REAL,
        PRIMARY KEY (batch, key)
    );
    CREATE UNIQUE INDEX batch_items_by_name ON batch_items (batch, name);
    CREATE TABLE batch_attempts (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        batch TEXT NOT NULL,
        key TEXT NOT NULL,
        fence INTEGER NOT NULL,
        job INTEGER,
        devices TEXT NOT NULL DEFAULT '',
        began REAL NOT NULL,
        ended REAL,
        outcome TEXT,
        cause TEXT,
        origin TEXT,
        error TEXT
    );
    CREATE TABLE batch_notes (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        batch TEXT NOT NULL,
        t REAL NOT NULL,
        kind TEXT NOT NULL,
        name TEXT,
        text TEXT NOT NULL
    )
    """,
)
SCHEMA_VERSION: Final = len(MIGRATIONS)
