"""Events as frozen records, and their observers: logs, traces, metrics, recordings, timelines."""

from typing import TYPE_CHECKING

from clawft_trio.deprecation import renamed
from clawft_trio.field_docs import document_fields as _document_fields
from clawft_trio.observe.attributes import RecordedError as RecordedError
from clawft_trio.observe.chrome import chrome_trace as chrome_trace
from clawft_trio.observe.events import (
    AttemptEnded as AttemptEnded,
    AttemptStarted as AttemptStarted,
    BreakerChanged as BreakerChanged,
    BusPressure as BusPressure,
    CacheBusted as CacheBusted,
    Charged as Charged,
    Event as Event,
    FailedOver as FailedOver,
    HedgeStarted as HedgeStarted,
    LockWaited as LockWaited,
    MessageDropped as MessageDropped,
    Noted as Noted,
    RequestConformed as RequestConformed,
    RequestShortened as RequestShortened,
    Retracted as Retracted,
    RetryScheduled as RetryScheduled,
    RoundEnded as RoundEnded,
    Routed as Routed,
    ServerCalled as ServerCalled,
    ServerGone as ServerGone,
    ServerOutput as ServerOutput,
    ServerStarted as ServerStarted,
    SessionCompacted as SessionCompacted,
    ToolEnded as ToolEnded,
    ToolProgress as ToolProgress,
    ToolStarted as ToolStarted,
    TurnEnded as TurnEnded,
    TurnStarted as TurnStarted,
    Undeliverable as Undeliverable,
)
from clawft_trio.observe.logs import LogObserver as LogObserver
from clawft_trio.observe.observed import Observed as Observed
from clawft_trio.observe.observer import (
    Observer as Observer,
    Recorder as Recorder,
    fan_out as fan_out,
)
from clawft_trio.observe.queued_observer import (
    ObserverQueueStatistics as ObserverQueueStatistics,
    QueuedObserver as QueuedObserver,
    open_queue as open_queue,
)
from clawft_trio.observe.recording import (
    Recording as Recording,
    open_recording as open_recording,
    read_recording as read_recording,
)
from clawft_trio.observe.redaction import (
    Redactor as Redactor,
    make_redactor as make_redactor,
    redact_secrets as redact_secrets,
)
from clawft_trio.observe.spans import Mark as Mark, Span as Span, SpanTree as SpanTree, spans_of as spans_of
from clawft_trio.observe.task_tree import (
    TaskClock as TaskClock,
    serve_task_tree as serve_task_tree,
    task_tree as task_tree,
)
from clawft_trio.observe.timeline import timeline_html as timeline_html, timeline_svg as timeline_svg

if not TYPE_CHECKING:
    __getattr__ = renamed(
        __name__,
        {
            "QueueStatistics": "ObserverQueueStatistics",
            "ServerAsked": "ServerCalled",
            "ServerSaid": "ServerOutput",
            "mask_secrets": "redact_secrets",
            "masking": "make_redactor",
        },
    )

__all__ = [
    "AttemptEnded",
    "AttemptStarted",
    "BreakerChanged",
    "BusPressure",
    "CacheBusted",
    "Charged",
    "Event",
    "FailedOver",
    "HedgeStarted",
    "LockWaited",
    "LogObserver",
    "Mark",
    "MessageDropped",
    "Noted",
    "Observed",
    "ObserverQueueStatistics",
    "QueuedObserver",
    "RecordedError",
    "Recorder",
    "Recording",
    "RequestConformed",
    "RequestShortened",
    "Retracted",
    "RetryScheduled",
    "RoundEnded",
    "Routed",
    "ServerCalled",
    "ServerGone",
    "ServerOutput",
    "ServerStarted",
    "SessionCompacted",
    "Span",
    "SpanTree",
    "TaskClock",
    "ToolEnded",
    "ToolProgress",
    "ToolStarted",
    "TurnEnded",
    "TurnStarted",
    "Undeliverable",
    "chrome_trace",
    "fan_out",
    "make_redactor",
    "open_queue",
    "open_recording",
    "read_recording",
    "redact_secrets",
    "renamed",
    "serve_task_tree",
    "spans_of",
    "task_tree",
    "timeline_html",
    "timeline_svg",
]

_document_fields(__name__)
