"""The configuration of the bus: sizes and overflow policies of its queues."""

from __future__ import annotations

import attrs

from clawft_trio.bus.bounded_queue import OVERFLOWS, Overflow
from clawft_trio.checks import one_of

_positive = attrs.validators.ge(1)


@attrs.frozen(kw_only=True)
class BusConfig:
    """Sizes and overflow policies of the bus."""

    #: largest number of inbound messages in the queue
    inbound_buffer_size: int = attrs.field(default=1024, validator=_positive)
    #: largest number of outbound messages in the queue of each channel
    outbound_buffer_size: int = attrs.field(default=1024, validator=_positive)
    #: overflow policy for both directions
    overflow_policy: Overflow = attrs.field(default="block", validator=one_of(*OVERFLOWS))
    #: overflow policy for inbound messages; None is `overflow_policy`
    inbound_overflow_policy: Overflow | None = attrs.field(
        default=None, validator=attrs.validators.optional(one_of(*OVERFLOWS))
    )
    #: overflow policy for outbound messages; None is `overflow_policy`
    outbound_overflow_policy: Overflow | None = attrs.field(
        default=None, validator=attrs.validators.optional(one_of(*OVERFLOWS))
    )
    #: additional limit in bytes; None: no limit
    inbound_max_bytes: int | None = attrs.field(default=None, validator=attrs.validators.optional(_positive))
    #: additional limit in bytes for each channel; None: no limit
    outbound_max_bytes: int | None = attrs.field(default=None, validator=attrs.validators.optional(_positive))
    #: seconds that a final reply waits for room in its channel's queue before it is stored
    delivery_wait: float = attrs.field(default=30.0, validator=attrs.validators.ge(0.0))
    #: share of a queue's size at which a `BusPressure` event is sent
    warn_at: float = attrs.field(default=0.8, validator=[attrs.validators.gt(0.0), attrs.validators.le(1.0)])
