"""The agent: sessions, turns, and the resources that they need, opened and closed together."""

from typing import TYPE_CHECKING

from clawft_trio.agent.agent import (
    Agent as Agent,
    AgentCallback as AgentCallback,
    AgentParts as AgentParts,
    TurnStream as TurnStream,
)
from clawft_trio.agent.answer_form import AnswerForm as AnswerForm
from clawft_trio.agent.bus_turn import BusTurn as BusTurn
from clawft_trio.agent.compaction import (
    CompactionPolicy as CompactionPolicy,
    Compactor as Compactor,
    Excess as Excess,
    SummaryCompactor as SummaryCompactor,
)
from clawft_trio.agent.journal import Journal as Journal
from clawft_trio.agent.loop import AgentLoop as AgentLoop, serve_sessions as serve_sessions
from clawft_trio.agent.open_agent import (
    open_agent as open_agent,
    serve_agent as serve_agent,
)
from clawft_trio.agent.options import AgentOptions as AgentOptions, AskOptions as AskOptions
from clawft_trio.agent.served import (
    agent_server as agent_server,
    ask_tool as ask_tool,
    skill_prompts as skill_prompts,
)
from clawft_trio.agent.sessions import MemorySessions as MemorySessions, Sessions as Sessions
from clawft_trio.agent.subagent import (
    AgentTool as AgentTool,
    SubAgent as SubAgent,
    SubAgentPolicy as SubAgentPolicy,
    subagent as subagent,
)
from clawft_trio.agent.tool_sets import DEFAULT_SETS as DEFAULT_SETS, TOOL_SETS as TOOL_SETS, ToolSet as ToolSet
from clawft_trio.agent.turn import Turns as Turns
from clawft_trio.agent.turn_context import (
    LoopPolicy as LoopPolicy,
    LoopStatistics as LoopStatistics,
    TurnContext as TurnContext,
)
from clawft_trio.agent.turn_types import (
    AgentEvent as AgentEvent,
    Instructions as Instructions,
    Reply as Reply,
    RoundStarted as RoundStarted,
    ToolsAnswered as ToolsAnswered,
    TurnPolicy as TurnPolicy,
    TurnRequest as TurnRequest,
)
from clawft_trio.deprecation import renamed
from clawft_trio.field_docs import document_fields as _document_fields

if not TYPE_CHECKING:
    __getattr__ = renamed(__name__, {"Answer": "TurnStream", "Question": "TurnRequest"})

__all__ = [
    "Agent",
    "AgentLoop",
    "AgentOptions",
    "AgentParts",
    "AgentTool",
    "AnswerForm",
    "AskOptions",
    "BusTurn",
    "CompactionPolicy",
    "Compactor",
    "Excess",
    "Journal",
    "LoopPolicy",
    "LoopStatistics",
    "MemorySessions",
    "Reply",
    "RoundStarted",
    "Sessions",
    "SubAgent",
    "SubAgentPolicy",
    "SummaryCompactor",
    "ToolSet",
    "ToolsAnswered",
    "TurnContext",
    "TurnPolicy",
    "TurnRequest",
    "TurnStream",
    "Turns",
    "agent_server",
    "ask_tool",
    "open_agent",
    "renamed",
    "serve_agent",
    "serve_sessions",
    "skill_prompts",
    "subagent",
]

_document_fields(__name__)
