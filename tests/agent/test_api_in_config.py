"""config.json chooses OpenAI's API and the quirks for a provider and for a model of it."""

import json

import pytest
from judged import open_fault_server

from clawft_trio import open_agent, parse_config
from clawft_trio.agent.from_config import provider_maker
from clawft_trio.errors import ConfigError, NotConfigured
from clawft_trio.testing import Finish, Say

HI = (Say("hi"), Finish())


async def asked(model, provider=None, models=None, script=HI):
    """The path of the request to *model*, and the reply."""
    name = model.partition("/")[0]
    async with open_fault_server(list(script)) as server:
        section = {"apiKey": "k", "apiBase": server.url, **(provider or {})}
        config = parse_config(json.dumps({"providers": {name: section}, "models": models or {}}))
        async with open_agent([model], config=config) as agent:
            reply = await agent.ask("q")
        return server.requests[0].path, reply


@pytest.mark.parametrize(
    ("provider", "model", "path"),
    [
        (None, None, "/v1/chat/completions"),
        ("responses", None, "/v1/responses"),
        (None, "responses", "/v1/responses"),
        ("responses", "chat", "/v1/chat/completions"),
        ("chat", "responses", "/v1/responses"),
        ("chat", None, "/v1/chat/completions"),
    ],
)
@pytest.mark.parametrize("name", ["openai/gpt-4o", "own/m", "openrouter/Vendor/Model"])
async def test_api_of_the_model_goes_before_that_of_its_provider(name, provider, model, path):
    models = {name: {"api": model}} if model else {}
    assert (await asked(name, {"api": provider} if provider else {}, models))[0] == path


async def test_without_api_the_catalog_decides():
    assert (await asked("openai/gpt-5-pro"))[0] == "/v1/responses"
    assert (await asked("openai/gpt-5-pro", {"api": "chat"}))[0] == "/v1/chat/completions"


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ({"providers": {"anthropic": {"apiKey": "k", "api": "responses"}}}, "providers['anthropic'].api"),
        (
            {"models": {"anthropic/m": {"api": "responses"}}, "providers": {"anthropic": {"apiKey": "k"}}},
            "['anthropic/m'].api",
        ),
        ({"providers": {"anthropic": {"api": "soap"}}}, "$.providers['anthropic'].api"),
    ],
    ids=str,
)
async def test_an_api_that_cannot_be_is_refused_with_its_place(text, place):
    with pytest.raises(ConfigError) as caught:
        async with open_agent(["anthropic/m"], config=parse_config(json.dumps(text))):
            pass
    assert place in str(caught.value)


TAGGED = [Say("<think>hm</think>Hi"), Finish()]


@pytest.mark.parametrize(
    ("provider", "model", "text"),
    [
        (None, None, "<think>hm</think>Hi"),
        ({"think_tags": True}, None, "Hi"),
        (None, {"thinkTags": True}, "Hi"),
        ({"thinkTags": True}, {"thinkTags": False}, "<think>hm</think>Hi"),
    ],
    ids=str,
)
async def test_think_tags_are_reasoning_where_config_has_the_quirk(provider, model, text):
    models = {"own/m": {"quirks": model}} if model else {}
    _, reply = await asked("own/m", {"quirks": provider} if provider else {}, models, TAGGED)
    assert reply.text == text


def test_an_api_of_a_provider_that_is_not_known_is_not_what_is_reported():
    make = provider_maker(parse_config(json.dumps({"models": {"nowhere/x": {"api": "responses"}}})), environ={})
    with pytest.raises(NotConfigured, match="nowhere"):
        make("nowhere")
