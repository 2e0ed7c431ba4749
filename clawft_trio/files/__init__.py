"""Reading files without blocking the event loop and without needless reads.

`FileCache` returns what is at a path, for files and folders. Every result is checked against the disk (one `stat`, in a
worker thread, one hop for a whole batch) unless the owner sets a time of freshness; a file is opened only when it has
changed since it was last read.
"""

from clawft_trio.field_docs import document_fields as _document_fields
from clawft_trio.files.cache import (
    CacheStatistics as CacheStatistics,
    FileCache as FileCache,
    Reads as Reads,
    Snapshot as Snapshot,
    StrPath as StrPath,
)
from clawft_trio.files.disk import OnDisk as OnDisk, PathState as PathState

__all__ = [
    "CacheStatistics",
    "FileCache",
    "OnDisk",
    "Reads",
    "Snapshot",
]

_document_fields(__name__)
