"""An agent as a tool and its skills as prompts, for MCP clients."""

from __future__ import annotations

from judged import ScriptedProvider
from mcp_http_drivers import Driver

from clawft_trio.agent import agent_server, open_agent
from clawft_trio.auth import USER, AuthContext
from clawft_trio.context.skill_format import Skill
from clawft_trio.context.skills import SkillReport
from clawft_trio.mcp import ServeOptions, open_mcp_app
from clawft_trio.testing import Finish, Say


async def ask(driver, question, **more):
    answer = await driver.stateless("tools/call", {"name": "ask", "arguments": {"question": question, **more}})
    return answer.json()


async def test_an_agent_is_a_tool_and_sessions_are_its_conversations():
    model = ScriptedProvider(*([Say(f"answer {n}"), Finish()] for n in range(3)))
    skills = SkillReport(
        skills=(
            Skill(
                name="review", description="Reviews.", instructions="Review $ARGUMENTS", source="x", user_invocable=True
            ),
            Skill(name="inner", instructions="secret", source="x", user_invocable=False),
        )
    )
    async with open_agent(["p/m"], providers={"p": model}) as agent:
        server = agent_server(agent, skills=skills)
        async with open_mcp_app(server) as app:
            driver = Driver(app)
            assert (await ask(driver, "one", session="s"))["result"]["content"][0]["text"] == "answer 0"
            await ask(driver, "two", session="s")
            await ask(driver, "three")
            lengths = [sum(m.role == "user" for m in request.messages) for request in model.requests]
            assert lengths == [1, 2, 1]
            listed = (await driver.stateless("prompts/list")).json()["result"]["prompts"]
            assert [one["name"] for one in listed] == ["review"]
            filled = await driver.stateless("prompts/get", {"name": "review", "arguments": {"arguments": "this"}})
            assert "Review this" in filled.json()["result"]["messages"][0]["content"]["text"]


async def test_only_senders_with_the_permissions_of_the_local_process_may_ask():
    model = ScriptedProvider([Say("no"), Finish()])
    async with open_agent(["p/m"], providers={"p": model}) as agent:
        user = ServeOptions(auth=AuthContext(sender_id="u", channel="mcp", permissions=USER))
        async with open_mcp_app(agent_server(agent), options=user) as app:
            driver = Driver(app)
            assert (await driver.stateless("tools/list")).json()["result"]["tools"] == []
            assert (await ask(driver, "one"))["result"]["isError"]
    assert model.requests == []
