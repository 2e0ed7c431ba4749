"""The message bus between channel adapters and the agent: bounded, counted, without silent losses."""

from typing import TYPE_CHECKING

from clawft_trio.bus.bounded_queue import (
    BoundedQueue as BoundedQueue,
    Overflow as Overflow,
)
from clawft_trio.bus.bus import (
    InboundJournal as InboundJournal,
    MessageBus as MessageBus,
    Publisher as Publisher,
    open_bus as open_bus,
)
from clawft_trio.bus.channel import (
    Channel as Channel,
    Publish as Publish,
    Redelivery as Redelivery,
    deliver as deliver,
    serve_channel as serve_channel,
)
from clawft_trio.bus.config import BusConfig as BusConfig
from clawft_trio.bus.outbox import Delivery as Delivery, Outbox as Outbox
from clawft_trio.bus.reader import Reader as Reader, SessionReader as SessionReader
from clawft_trio.bus.statistics import BusStatistics as BusStatistics, QueueStatistics as QueueStatistics
from clawft_trio.bus.undelivered import (
    MIGRATIONS as MIGRATIONS,
    LeasedUndelivered as LeasedUndelivered,
    MemoryUndelivered as MemoryUndelivered,
    StoredUndelivered as StoredUndelivered,
    UndeliveredReplies as UndeliveredReplies,
    UndeliveredReply as UndeliveredReply,
)
from clawft_trio.deprecation import renamed
from clawft_trio.field_docs import document_fields as _document_fields

if not TYPE_CHECKING:
    __getattr__ = renamed(
        __name__,
        {
            "Kept": "UndeliveredReply",
            "MemoryShelf": "MemoryUndelivered",
            "Parcel": "Delivery",
            "Receipts": "InboundJournal",
            "Shelf": "UndeliveredReplies",
            "StoredShelf": "StoredUndelivered",
        },
    )

__all__ = [
    "BoundedQueue",
    "BusConfig",
    "BusStatistics",
    "Channel",
    "Delivery",
    "InboundJournal",
    "LeasedUndelivered",
    "MemoryUndelivered",
    "MessageBus",
    "Outbox",
    "Publisher",
    "QueueStatistics",
    "Reader",
    "Redelivery",
    "SessionReader",
    "StoredUndelivered",
    "UndeliveredReplies",
    "UndeliveredReply",
    "deliver",
    "open_bus",
    "renamed",
    "serve_channel",
]

_document_fields(__name__)
