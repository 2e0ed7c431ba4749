"""Tools: functions that a model may call; concurrent calls, one result for each."""

from typing import TYPE_CHECKING

from clawft_trio.deprecation import renamed
from clawft_trio.field_docs import document_fields as _document_fields
from clawft_trio.tools.call_ids import repair_ids as repair_ids
from clawft_trio.tools.client import (
    ClientRequest as ClientRequest,
    ClientRoot as ClientRoot,
    Elicited as Elicited,
    Sampled as Sampled,
    ToolClient as ToolClient,
)
from clawft_trio.tools.fan_out import (
    ApprovalRequest as ApprovalRequest,
    Approve as Approve,
    FanOutPolicy as FanOutPolicy,
    ToolJournal as ToolJournal,
)
from clawft_trio.tools.path_locks import (
    HeldLock as HeldLock,
    LockMode as LockMode,
    LockStatistics as LockStatistics,
    PathLocks as PathLocks,
)
from clawft_trio.tools.registry import (
    ToolRegistry as ToolRegistry,
    ToolStatistics as ToolStatistics,
)
from clawft_trio.tools.result import (
    ToolOutcome as ToolOutcome,
    ToolResult as ToolResult,
    error_text as error_text,
    outcome_of as outcome_of,
)
from clawft_trio.tools.schema import (
    Check as Check,
    check_schema as check_schema,
)
from clawft_trio.tools.thread_pool import (
    ThreadPool as ThreadPool,
    ThreadStatistics as ThreadStatistics,
)
from clawft_trio.tools.tool import (
    Mode as Mode,
    NestedTurn as NestedTurn,
    Tool as Tool,
    ToolContext as ToolContext,
    ToolFunction as ToolFunction,
    ToolMetadata as ToolMetadata,
    tool as tool,
)
from clawft_trio.tools.truncate import (
    RESULT_LIMIT as RESULT_LIMIT,
    answer_text as answer_text,
)

if not TYPE_CHECKING:
    __getattr__ = renamed(__name__, {"Hold": "HeldLock", "ToolAnswer": "ToolResult"})

__all__ = [
    "ApprovalRequest",
    "ClientRequest",
    "ClientRoot",
    "Elicited",
    "FanOutPolicy",
    "HeldLock",
    "LockStatistics",
    "NestedTurn",
    "PathLocks",
    "Sampled",
    "ThreadPool",
    "ThreadStatistics",
    "Tool",
    "ToolClient",
    "ToolContext",
    "ToolJournal",
    "ToolMetadata",
    "ToolRegistry",
    "ToolResult",
    "ToolStatistics",
    "answer_text",
    "check_schema",
    "error_text",
    "outcome_of",
    "renamed",
    "repair_ids",
    "tool",
]

_document_fields(__name__)
