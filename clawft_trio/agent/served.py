"""An agent as an MCP server: itself as a tool, and its skills as prompts."""

from __future__ import annotations

from collections.abc import Mapping

import trio

from clawft_trio.agent.agent import Agent
from clawft_trio.context.skill_format import Skill
from clawft_trio.context.skill_use import presented
from clawft_trio.context.skills import SkillReport
from clawft_trio.mcp import McpServer, ServedPrompt
from clawft_trio.mcp.types import PromptArgument
from clawft_trio.tools.tool import Tool, ToolContext, tool

ADMIN_LEVEL = 2
"""`Agent.ask` runs as the local process, so only senders with its permissions may call the tool."""


def ask_tool(agent: Agent, *, name: str = "ask", description: str = "", total: float = 600.0) -> Tool:
    """Make a tool that asks *agent*; each `session` is a separate conversation.

    Args:
      agent: the agent to ask, as the local process with all permissions: the tool requires admin level.
      name: name of the tool.
      description: for the client's model; by default a description of the tool.
      total: seconds that one question may take.
    """

    @tool(name=name, description=description or None, total=total, required_level=ADMIN_LEVEL)
    async def ask(question: str, context: ToolContext, session: str = "") -> str:
        """Ask an agent with tools of its own, and wait for its whole answer.

        Args:
          question: what to ask or to do.
          session: names a conversation to continue; without one each question stands alone.
        """
        key = f"mcp:{context.auth.identity}:{session}" if session else None
        reply = await agent.ask(question, sender_id=context.auth.sender_id or "mcp", session=key)
        return reply.text

    return ask


def skill_prompts(report: SkillReport) -> tuple[ServedPrompt, ...]:
    """Return the skills that a user may start, as prompts; the text after the name is their argument."""
    return tuple(_prompt_of(skill) for skill in report.skills if skill.user_invocable)


def agent_server(agent: Agent, *, skills: SkillReport | None = None) -> McpServer:
    """Make a server that offers *agent* as the tool `ask`, and *skills* as prompts."""
    server = McpServer([ask_tool(agent)])
    for prompt in () if skills is None else skill_prompts(skills):
        server.add_prompt(prompt)
    return server


def _prompt_of(skill: Skill) -> ServedPrompt:
    async def fill(given: Mapping[str, str], _: ToolContext) -> object:
        await trio.lowlevel.checkpoint()
        return presented(skill, given.get("arguments", ""))

    hint = skill.argument_hint or "What the skill is applied to."
    return ServedPrompt(
        name=skill.name,
        fill=fill,
        description=skill.description,
        arguments=(PromptArgument(name="arguments", description=hint),),
    )
