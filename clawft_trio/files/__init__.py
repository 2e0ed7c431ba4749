"""Reading files without stopping the event loop, and never twice for nothing.

`FileCache` answers "what is at this path?" for files and folders. Every answer is checked against the disk (one
`stat`, in a worker thread, a whole batch in one hop) unless the owner allows a window of freshness; a file is opened
only when it has changed since it was last read.
"""

from clawft_trio.files.cache import (
    CacheStatistics as CacheStatistics,
)
from clawft_trio.files.cache import (
    FileCache as FileCache,
)
from clawft_trio.files.cache import (
    Reads as Reads,
)
from clawft_trio.files.cache import (
    Snapshot as Snapshot,
)
from clawft_trio.files.cache import (
    StrPath as StrPath,
)
from clawft_trio.files.disk import OnDisk as OnDisk
from clawft_trio.files.disk import State as State
