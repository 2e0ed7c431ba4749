"""The counters of the bus and of its queues."""

from __future__ import annotations

from collections.abc import Mapping

import attrs


@attrs.frozen(kw_only=True)
class QueueStatistics:
    """Exact counters of a queue: `published == delivered + dropped + depth`."""

    name: str
    capacity: int
    #: number of messages in the queue now
    depth: int
    #: size of these messages in bytes; 0 without a limit in bytes
    bytes: int
    #: the largest `depth` so far
    high_water: int
    #: number of messages accepted from publishers
    published: int
    #: number of messages handed to consumers
    delivered: int
    #: number of messages dropped by the overflow policy, or at the end
    dropped: int
    #: number of messages refused with `BusFull`, which their publishers got
    rejected: int
    #: number of publishers that wait for room
    waiting: int
    #: number of consumers that wait for a message
    consumers_waiting: int


@attrs.frozen(kw_only=True)
class BusStatistics:
    """The counters of all queues."""

    inbound: QueueStatistics
    #: outbound queues by channel
    outbound: Mapping[str, QueueStatistics]
    #: number of stored final replies that wait for delivery, by channel
    undelivered: Mapping[str, int]
