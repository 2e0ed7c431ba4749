"""Everything worth knowing, as frozen records, told to whoever asks."""

from clawft_trio.observe.events import (
    AttemptEnded as AttemptEnded,
    AttemptStarted as AttemptStarted,
    BreakerChanged as BreakerChanged,
    BusPressure as BusPressure,
    Event as Event,
    FailedOver as FailedOver,
    HedgeStarted as HedgeStarted,
    LockWaited as LockWaited,
    MessageDropped as MessageDropped,
    Noted as Noted,
    Retracted as Retracted,
    RetryScheduled as RetryScheduled,
    RoundEnded as RoundEnded,
    Routed as Routed,
    ServerGone as ServerGone,
    ServerSaid as ServerSaid,
    ServerStarted as ServerStarted,
    ToolEnded as ToolEnded,
    ToolProgress as ToolProgress,
    ToolStarted as ToolStarted,
    TurnEnded as TurnEnded,
    TurnStarted as TurnStarted,
    Undeliverable as Undeliverable,
)
from clawft_trio.observe.observer import (
    Observer as Observer,
    Recorder as Recorder,
    fan_out as fan_out,
)
