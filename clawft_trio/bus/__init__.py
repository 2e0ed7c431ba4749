"""Messages between channel adapters and the agent: bounded, counted, and never silently lost."""

from clawft_trio.bus.bus import (
    BusConfig as BusConfig,
    BusStatistics as BusStatistics,
    MessageBus as MessageBus,
    Publisher as Publisher,
    InboundJournal as InboundJournal,
    open_bus as open_bus,
)
from clawft_trio.bus.channel import (
    Channel as Channel,
    Publish as Publish,
    Redelivery as Redelivery,
    deliver as deliver,
    serve_channel as serve_channel,
)
from clawft_trio.bus.outbox import Outbox as Outbox, Delivery as Delivery
from clawft_trio.bus.bounded_queue import (
    BoundedQueue as BoundedQueue,
    Overflow as Overflow,
    QueueStatistics as QueueStatistics,
    Reader as Reader,
)
from clawft_trio.bus.undelivered import (
    MIGRATIONS as MIGRATIONS,
    UndeliveredReply as UndeliveredReply,
    MemoryUndelivered as MemoryUndelivered,
    UndeliveredReplies as UndeliveredReplies,
    StoredUndelivered as StoredUndelivered,
)
