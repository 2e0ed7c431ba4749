"""The one file on disk, and how rooms keep their tables in it."""

from clawft_trio.store.migrations import Migration as Migration
from clawft_trio.store.sqlite import (
    Store as Store,
    StoreStatistics as StoreStatistics,
    Work as Work,
    open_store as open_store,
)
