"""One conversation with many vendors: each turn goes to another one, and no request is refused."""

from contextlib import AsyncExitStack

from judged import open_fault_server
from llm.histories import TARGETS

from clawft_trio import Image, Message, TurnPolicy, open_agent, provider_named, tool
from clawft_trio.observe import Recorder, RequestConformed
from clawft_trio.testing import CallTool, Finish, Say, Status, Think

IDS = {"anthropic": "toolu_0{}", "mistral": "{:09d}", "moonshot": "functions.weather:{}", "gemini": "function-call-{}"}
PLACES = {"AWS_REGION": "eu-central-1", "GOOGLE_CLOUD_PROJECT": "p", "GOOGLE_CLOUD_LOCATION": "global"}


@tool(mode="read_only")
async def weather(city: str) -> str:
    """Weather in a city."""
    return f"rain in {city}"


@tool(mode="read_only")
async def screenshot() -> list:
    """Take a screenshot."""
    return ["the page:", Image(data=b"\x89PNG", media_type="image/png")]


def playing(name):
    """What a vendor's model answers: two calls in its own form, one of them odd in every third turn, then a text."""
    made = IDS.get(name, "call_{}")

    def choose(request):
        if request.number % 2:
            return [Say(f"It rains, says {name}."), Finish()]
        number = 10 * request.number
        odd = request.number % 3 == 2
        return [
            *([] if name in {"mistral", "perplexity"} else [Think("Let me look.")]),
            CallTool("weather", '{"city": "Os' if odd else {"city": "Oslo"}, id=made.format(number)),
            CallTool("no such tool" if odd else "screenshot", {}, id=made.format(number + 1)),
            Finish(),
        ]

    return choose


async def test_a_conversation_of_thirty_turns_that_changes_the_vendor_every_turn_is_never_refused():
    targets = [target for target in TARGETS if target[0] != "perplexity"]
    recorder = Recorder()
    async with AsyncExitStack() as stack:
        servers, providers = {}, {}
        for name, vendor in {name: vendor for name, _, vendor in targets}.items():
            server = await stack.enter_async_context(open_fault_server(choose=playing(name), accepts=vendor))
            servers[name] = server
            version = {"api_version": "2024-10-21"} if name == "azure" else {}
            providers[name] = provider_named(name, base_url=server.url, api_key="k", environ=PLACES, **version)
            await stack.enter_async_context(providers[name])
        models = [f"{name}/{model}" for name, model, _ in targets]
        agent = await stack.enter_async_context(
            open_agent(models, providers=providers, tools=[weather, screenshot], observers=[recorder])
        )
        for turn in range(30):
            name, model, _ = targets[(5 * turn) % len(targets)]
            question = Message.user(f"Turn {turn}?", *([Image(data=b"\x89PNG")] if turn % 4 == 0 else []))
            reply = await agent.ask(question, session="s", model=f"{name}/{model}")
            assert reply.text == f"It rains, says {name}."
            assert (reply.provider, len(reply.attempts)) == (name, 2)
        assert [complaint for server in servers.values() for _, complaint in server.refusals] == []
    assert any(isinstance(event, RequestConformed) for event in recorder.events)


async def test_a_refused_option_is_remembered_and_the_request_is_sent_once_more():
    def choose(request):
        if "temperature" in request.body:
            return [Status(400, "unsupported_value", "no", param="temperature")]
        return [Say("hi"), Finish()]

    recorder = Recorder()
    async with (
        open_fault_server(choose=choose) as server,
        provider_named("openai", base_url=server.url, api_key="k") as provider,
    ):
        async with open_agent(
            ["openai/my-own"], providers={"openai": provider}, turn=TurnPolicy(temperature=0.7), observers=[recorder]
        ) as agent:
            first = await agent.ask("q")
            await agent.ask("q")
        sent = ["temperature" in request.body for request in server.requests]
    assert first.text == "hi"
    assert sent == [True, False, False]
    noted = [event for event in recorder.events if getattr(event, "what", "") == "parameter refused"]
    assert [event.details["parameter"] for event in noted] == ["temperature"]
