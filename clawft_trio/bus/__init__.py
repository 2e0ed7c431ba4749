"""Messages between channel adapters and the agent: bounded, counted, and never silently lost."""

from clawft_trio.bus.bus import (
    BusConfig as BusConfig,
    BusStatistics as BusStatistics,
    MessageBus as MessageBus,
    Publisher as Publisher,
    Receipts as Receipts,
    open_bus as open_bus,
)
from clawft_trio.bus.channel import (
    Channel as Channel,
    Publish as Publish,
    Redelivery as Redelivery,
    deliver as deliver,
    serve_channel as serve_channel,
)
from clawft_trio.bus.outbox import Outbox as Outbox, Parcel as Parcel
from clawft_trio.bus.overflow import (
    BoundedQueue as BoundedQueue,
    Overflow as Overflow,
    QueueStatistics as QueueStatistics,
    Reader as Reader,
)
from clawft_trio.bus.shelf import (
    MIGRATIONS as MIGRATIONS,
    Kept as Kept,
    LeasedShelf as LeasedShelf,
    MemoryShelf as MemoryShelf,
    Shelf as Shelf,
    StoredShelf as StoredShelf,
)
