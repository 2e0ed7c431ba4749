"""A test kit for agents: scripted models, a server that fails on purpose, cancellation at every step.

Modules that need hypothesis are imported by name: `clawft_trio.testing.machine` (state machines and properties in mock
time) and `clawft_trio.testing.strategies`.
"""

from typing import TYPE_CHECKING

from clawft_trio.deprecation import renamed
from clawft_trio.field_docs import document_fields as _document_fields
from clawft_trio.testing.channels import check_channel as check_channel
from clawft_trio.testing.fault_server import (
    FaultServer as FaultServer,
    FaultServerStatistics as FaultServerStatistics,
    open_fault_server as open_fault_server,
    refused_url as refused_url,
)
from clawft_trio.testing.faults import FAULTS as FAULTS, NamedFault as NamedFault
from clawft_trio.testing.leaks import HeldResources as HeldResources, nothing_left as nothing_left
from clawft_trio.testing.prompt_cache import SimulatedPromptCache as SimulatedPromptCache
from clawft_trio.testing.record import (
    NotRecorded as NotRecorded,
    RecordingProvider as RecordingProvider,
    ReplayingProvider as ReplayingProvider,
    record as record,
    replay as replay,
    request_key as request_key,
)
from clawft_trio.testing.screen import Screen as Screen
from clawft_trio.testing.script import (
    BadJson as BadJson,
    BadUtf8 as BadUtf8,
    CallTool as CallTool,
    CloseConnection as CloseConnection,
    EndBody as EndBody,
    ErrorEvent as ErrorEvent,
    Fail as Fail,
    Fault as Fault,
    Finish as Finish,
    Garbage as Garbage,
    Hang as Hang,
    InPieces as InPieces,
    Page as Page,
    Pings as Pings,
    Preamble as Preamble,
    Raw as Raw,
    Report as Report,
    ResetConnection as ResetConnection,
    Say as Say,
    Script as Script,
    SendHeaders as SendHeaders,
    Status as Status,
    Step as Step,
    Think as Think,
    Wait as Wait,
    WireScript as WireScript,
    say as say,
)
from clawft_trio.testing.script_player import (
    Exchange as Exchange,
    ExchangeEnding as ExchangeEnding,
    SeenRequest as SeenRequest,
)
from clawft_trio.testing.scripted import ScriptedProvider as ScriptedProvider
from clawft_trio.testing.seeding import seeded_scheduler as seeded_scheduler
from clawft_trio.testing.stalls import (
    LoopStalled as LoopStalled,
    Stall as Stall,
    StallWatch as StallWatch,
    no_stall as no_stall,
)
from clawft_trio.testing.sweep import cancel_everywhere as cancel_everywhere
from clawft_trio.testing.threadless import threadless as threadless

if not TYPE_CHECKING:
    __getattr__ = renamed(__name__, {"Held": "HeldResources"})

__all__ = [
    "BadJson",
    "BadUtf8",
    "CallTool",
    "CloseConnection",
    "EndBody",
    "ErrorEvent",
    "Exchange",
    "Fail",
    "FaultServer",
    "FaultServerStatistics",
    "Finish",
    "Garbage",
    "Hang",
    "HeldResources",
    "InPieces",
    "LoopStalled",
    "NamedFault",
    "NotRecorded",
    "Page",
    "Pings",
    "Preamble",
    "Raw",
    "RecordingProvider",
    "ReplayingProvider",
    "Report",
    "ResetConnection",
    "Say",
    "Screen",
    "ScriptedProvider",
    "SeenRequest",
    "SendHeaders",
    "SimulatedPromptCache",
    "Stall",
    "StallWatch",
    "Status",
    "Think",
    "Wait",
    "cancel_everywhere",
    "check_channel",
    "no_stall",
    "nothing_left",
    "open_fault_server",
    "record",
    "refused_url",
    "renamed",
    "replay",
    "request_key",
    "say",
    "seeded_scheduler",
    "threadless",
]

_document_fields(__name__)
