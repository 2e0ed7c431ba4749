"""The system prompt: bootstrap files, skills and memory, which are read again only when they change."""

from typing import TYPE_CHECKING

from clawft_trio.context.bootstrap import (
    BOOTSTRAP_FILES as BOOTSTRAP_FILES,
    Bootstrap as Bootstrap,
    BootstrapFile as BootstrapFile,
    read_bootstrap as read_bootstrap,
)
from clawft_trio.context.builder import ContextBuilder as ContextBuilder
from clawft_trio.context.memory import Memory as Memory, Remembered as Remembered
from clawft_trio.context.prompt import PromptPart as PromptPart, SystemPrompt as SystemPrompt
from clawft_trio.context.skill_format import Skill as Skill
from clawft_trio.context.skill_use import (
    LOAD_SKILL as LOAD_SKILL,
    Preapproval as Preapproval,
    preapproval as preapproval,
)
from clawft_trio.context.skills import (
    Shadowed as Shadowed,
    SkillReport as SkillReport,
    Skills as Skills,
    Skipped as Skipped,
    user_skill_folders as user_skill_folders,
    workspace_skill_folders as workspace_skill_folders,
)
from clawft_trio.context.tool_grants import ToolGrant as ToolGrant
from clawft_trio.context.tools import memory_tools as memory_tools, skill_tool as skill_tool
from clawft_trio.deprecation import renamed
from clawft_trio.field_docs import document_fields as _document_fields

if not TYPE_CHECKING:
    __getattr__ = renamed(__name__, {"Prompt": "SystemPrompt"})

__all__ = [
    "Bootstrap",
    "BootstrapFile",
    "ContextBuilder",
    "Memory",
    "Preapproval",
    "PromptPart",
    "Remembered",
    "Shadowed",
    "Skill",
    "SkillReport",
    "Skills",
    "Skipped",
    "SystemPrompt",
    "ToolGrant",
    "memory_tools",
    "preapproval",
    "read_bootstrap",
    "renamed",
    "skill_tool",
    "user_skill_folders",
    "workspace_skill_folders",
]

_document_fields(__name__)
