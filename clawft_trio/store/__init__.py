"""Durable state: transactions off the event loop, on SQLite or PostgreSQL, with one text of each statement."""

from clawft_trio.field_docs import document_fields as _document_fields
from clawft_trio.store.interface import (
    Connection as Connection,
    Cursor as Cursor,
    Durability as Durability,
    Engine as Engine,
    Listener as Listener,
    Store as Store,
    StoreStatistics as StoreStatistics,
    Work as Work,
)
from clawft_trio.store.migrations import Migration as Migration
from clawft_trio.store.opening import open_store as open_store

__all__ = [
    "Connection",
    "Cursor",
    "Migration",
    "Store",
    "StoreStatistics",
    "open_store",
]

_document_fields(__name__)
