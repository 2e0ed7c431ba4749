"""The tables of the ledger."""

from __future__ import annotations

from clawft_trio.store import Migration

MIGRATIONS = (
    Migration(
        "costs",
        1,
        """
        CREATE TABLE cost_charges (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            state TEXT NOT NULL,
            at TEXT NOT NULL,
            day TEXT NOT NULL,
            month TEXT NOT NULL,
            sender TEXT NOT NULL,
            agent TEXT NOT NULL,
            turn TEXT NOT NULL,
            parent_turn TEXT NOT NULL,
            call TEXT NOT NULL,
            target TEXT NOT NULL,
            outcome TEXT NOT NULL DEFAULT '',
            input_tokens INTEGER NOT NULL DEFAULT 0,
            output_tokens INTEGER NOT NULL DEFAULT 0,
            cached_tokens INTEGER NOT NULL DEFAULT 0,
            cache_write_tokens INTEGER NOT NULL DEFAULT 0,
            reasoning_tokens INTEGER NOT NULL DEFAULT 0,
            reserved INTEGER,  -- picodollars; NULL: no price
            if_lost INTEGER,  -- picodollars that it costs when nobody comes back for it
            cost INTEGER,  -- picodollars; NULL: no price, or still open
            certainty TEXT,
            expires REAL NOT NULL  -- seconds since 1970
        ) STRICT;
        CREATE INDEX cost_charges_open ON cost_charges (sender) WHERE state = 'open';
        CREATE INDEX cost_charges_at ON cost_charges (at);
        CREATE INDEX cost_charges_turn ON cost_charges (turn);
        CREATE TABLE cost_totals (
            whose TEXT NOT NULL,
            period TEXT NOT NULL,
            spent INTEGER NOT NULL,  -- picodollars
            PRIMARY KEY (whose, period)
        ) STRICT, WITHOUT ROWID;
        """,
    ),
    Migration(
        "costs",
        2,
        """
        ALTER TABLE cost_charges ADD COLUMN owner TEXT NOT NULL DEFAULT '';
        ALTER TABLE cost_charges ADD COLUMN reserved_tokens INTEGER NOT NULL DEFAULT 0;
        ALTER TABLE cost_charges ADD COLUMN cache_write_1h_tokens INTEGER NOT NULL DEFAULT 0;
        ALTER TABLE cost_charges ADD COLUMN web_searches INTEGER NOT NULL DEFAULT 0;
        ALTER TABLE cost_charges ADD COLUMN service_tier TEXT NOT NULL DEFAULT '';
        ALTER TABLE cost_charges ADD COLUMN note TEXT NOT NULL DEFAULT '';
        ALTER TABLE cost_totals ADD COLUMN tokens INTEGER NOT NULL DEFAULT 0;
        ALTER TABLE cost_totals ADD COLUMN turns INTEGER NOT NULL DEFAULT 0;
        CREATE INDEX cost_charges_expires ON cost_charges (expires) WHERE state = 'open';
        CREATE TABLE cost_turns (
            turn TEXT NOT NULL,  -- a turn above the one of the charge
            charge INTEGER NOT NULL,
            PRIMARY KEY (turn, charge)
        ) STRICT, WITHOUT ROWID;
        CREATE INDEX cost_turns_charge ON cost_turns (charge);
        """,
    ),
)
"""The tables that `Ledger` needs in its store."""
