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
    """
    CREATE TABLE releases (
        digest TEXT PRIMARY KEY,
        version TEXT NOT NULL UNIQUE,
        created REAL NOT NULL,
        withdrawn INTEGER NOT NULL DEFAULT 0,
        body TEXT NOT NULL
    );
    CREATE TABLE release_files (
        path TEXT PRIMARY KEY,
        size INTEGER NOT NULL,
        mtime_ns INTEGER NOT NULL,
        sha256 TEXT NOT NULL
    );
    CREATE TABLE release_blobs (sha256 TEXT PRIMARY KEY, content BLOB NOT NULL);
    CREATE TABLE release_pointers (name TEXT PRIMARY KEY, digest TEXT NOT NULL);
    CREATE TABLE release_log (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        t REAL NOT NULL,
        kind TEXT NOT NULL,
        version TEXT NOT NULL,
        digest TEXT NOT NULL,
        who TEXT NOT NULL,
        detail TEXT NOT NULL
    );
    CREATE TRIGGER release_log_stays BEFORE UPDATE ON release_log
        BEGIN SELECT RAISE(ABORT, 'the log of releases is append-only'); END;
    CREATE TRIGGER release_log_keeps BEFORE DELETE ON release_log
        BEGIN SELECT RAISE(ABORT, 'the log of releases is append-only'); END;
    CREATE TABLE release_rollouts (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        candidate TEXT NOT NULL,
        stable TEXT NOT NULL,
        state TEXT NOT NULL,
        stage INTEGER NOT NULL DEFAULT 0,
        stage_started REAL NOT NULL,
        extended INTEGER NOT NULL DEFAULT 0,
        automatic INTEGER NOT NULL DEFAULT 1,
        gates TEXT NOT NULL DEFAULT '[]',
        note TEXT NOT NULL DEFAULT '',
        started REAL NOT NULL,
        ended REAL,
        follow TEXT
    );
    CREATE TABLE release_jobs (
        job INTEGER PRIMARY KEY,
        digest TEXT NOT NULL,
        role TEXT NOT NULL,
        purpose TEXT NOT NULL,
        rollout INTEGER,
        stage INTEGER,
        stratum TEXT NOT NULL,
        batch TEXT,
        asked TEXT NOT NULL,
        t REAL NOT NULL,
        outcome TEXT,
        requeue INTEGER NOT NULL DEFAULT 0,
        replaced_by INTEGER
    );
    CREATE INDEX release_jobs_by_rollout ON release_jobs (rollout, stage);
    CREATE TABLE release_validations (
        digest TEXT PRIMARY KEY,
        hardware TEXT NOT NULL,
        state TEXT NOT NULL,
        started REAL NOT NULL,
        ended REAL,
        gates TEXT NOT NULL DEFAULT '[]'
    );
    CREATE TABLE release_arming (
        hardware TEXT NOT NULL,
        digest TEXT NOT NULL,
        gate TEXT NOT NULL,
        armed INTEGER NOT NULL,
        rate REAL,
        n INTEGER NOT NULL,
        t REAL NOT NULL,
        PRIMARY KEY (hardware, digest, gate)
    )
    """,
    "CREATE TABLE drained (device TEXT PRIMARY KEY, lease TEXT NOT NULL)",
    # When the row was last written: of a job whose engine was killed, when it was last alive.
    "ALTER TABLE jobs ADD COLUMN heard REAL",
)
SCHEMA_VERSION: Final = len(MIGRATIONS)
