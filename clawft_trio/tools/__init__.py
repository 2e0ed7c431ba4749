"""Tools: functions that a model may call, side by side, each call answered once."""

from clawft_trio.tools.answer import (
    Outcome as Outcome,
)
from clawft_trio.tools.answer import (
    ToolAnswer as ToolAnswer,
)
from clawft_trio.tools.call_ids import repair_ids as repair_ids
from clawft_trio.tools.fan_out import (
    ApprovalRequest as ApprovalRequest,
)
from clawft_trio.tools.fan_out import (
    Approve as Approve,
)
from clawft_trio.tools.fan_out import (
    FanOutPolicy as FanOutPolicy,
)
from clawft_trio.tools.fan_out import (
    ToolJournal as ToolJournal,
)
from clawft_trio.tools.path_locks import (
    Hold as Hold,
)
from clawft_trio.tools.path_locks import (
    LockMode as LockMode,
)
from clawft_trio.tools.path_locks import (
    LockStatistics as LockStatistics,
)
from clawft_trio.tools.path_locks import (
    PathLocks as PathLocks,
)
from clawft_trio.tools.registry import (
    ToolRegistry as ToolRegistry,
)
from clawft_trio.tools.registry import (
    ToolStatistics as ToolStatistics,
)
from clawft_trio.tools.schema import (
    Check as Check,
)
from clawft_trio.tools.schema import (
    check_schema as check_schema,
)
from clawft_trio.tools.threads import (
    ThreadPool as ThreadPool,
)
from clawft_trio.tools.threads import (
    ThreadStatistics as ThreadStatistics,
)
from clawft_trio.tools.tool import (
    Mode as Mode,
)
from clawft_trio.tools.tool import (
    Tool as Tool,
)
from clawft_trio.tools.tool import (
    ToolContext as ToolContext,
)
from clawft_trio.tools.tool import (
    ToolFunction as ToolFunction,
)
from clawft_trio.tools.tool import (
    ToolMetadata as ToolMetadata,
)
from clawft_trio.tools.tool import (
    tool as tool,
)
from clawft_trio.tools.truncate import (
    RESULT_LIMIT as RESULT_LIMIT,
)
from clawft_trio.tools.truncate import (
    answer_text as answer_text,
)
