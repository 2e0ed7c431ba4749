"""Providers by name."""

import pytest
import trio

from clawft_trio.chat import Call, ChatRequest, Message
from clawft_trio.errors import NotConfigured
from clawft_trio.llm import (
    KNOWN,
    Anthropic,
    KnownProvider,
    OpenAICompatible,
    OpenAIResponses,
    find_key,
    known_provider,
    provider_named,
    split_target,
)
from clawft_trio.llm.catalog import find_url, vendor_at, vendor_of, with_version
from clawft_trio.llm.openai import Azure
from clawft_trio.testing import Finish, Say, open_fault_server

HI = ChatRequest([Message.user("Hi")], model="m")


def test_the_first_slash_divides_provider_and_model():
    assert split_target("openai/gpt-5-mini") == ("openai", "gpt-5-mini")
    assert split_target("openrouter/anthropic/claude-sonnet-4.5") == ("openrouter", "anthropic/claude-sonnet-4.5")


@pytest.mark.parametrize("target", ["gpt-5", "", "/", "openai/", "/gpt-5"])
def test_a_target_without_both_is_refused(target):
    with pytest.raises(NotConfigured, match="provider/model"):
        split_target(target)


def test_an_unknown_provider_is_never_taken_for_another():
    with pytest.raises(NotConfigured, match="unknown provider 'kimi': known are .*openai"):
        known_provider("kimi")
    with pytest.raises(NotConfigured, match="did you mean 'anthropic'"):
        provider_named("antropic", environ={})


def test_a_missing_key_names_the_variable_to_set():
    with pytest.raises(NotConfigured, match="set GROQ_API_KEY") as caught:
        provider_named("groq", environ={"OPENAI_API_KEY": "sk"})
    assert caught.value.provider == "groq"
    with pytest.raises(NotConfigured, match="set GEMINI_API_KEY or GOOGLE_API_KEY"):
        provider_named("gemini", environ={"GEMINI_API_KEY": "  "})


def test_keys_are_found_in_order():
    spec = KNOWN["gemini"]
    assert find_key("gemini", spec, {"GOOGLE_API_KEY": "b", "GEMINI_API_KEY": "a"}) == "a"
    assert find_key("gemini", spec, {"GOOGLE_GEMINI_API_KEY": " c\n"}) == "c"


PLACES = {
    "AZURE_OPENAI_BASE_URL": "https://x.openai.azure.com/openai/v1",
    "AWS_REGION": "eu-central-1",
    "GOOGLE_CLOUD_LOCATION": "europe-west4",
    "GOOGLE_CLOUD_PROJECT": "p",
}


@pytest.mark.parametrize("name", KNOWN)
async def test_every_known_provider_can_be_made(name):
    environ = dict.fromkeys(KNOWN[name].key_variables, "sk-x") | PLACES
    async with provider_named(name, environ=environ) as provider:
        assert provider.name == name
        assert isinstance(provider, Anthropic if KNOWN[name].dialect == "anthropic" else OpenAICompatible)
        assert "sk-x" not in repr(provider)
    spec = KNOWN[name]
    local = spec.base_url.startswith("http://localhost:")
    assert local or spec.azure or spec.base_url.startswith("https://")
    assert local is spec.local


@pytest.mark.parametrize("name", ["ollama", "lmstudio", "llamacpp", "vllm", "local"])
async def test_local_servers_need_no_key_and_get_none(name):
    async with open_fault_server([Say("Hi"), Finish()]) as server:
        async with provider_named(name, base_url=server.url, environ={}) as provider:
            assert (await provider.complete(HI, Call())).text == "Hi"
        assert "authorization" not in server.requests[0].headers


async def test_the_dialect_of_the_catalog_is_spoken():
    async with open_fault_server([Say("Hi"), Finish()]) as server:
        async with (
            provider_named("anthropic", base_url=server.url, environ={"ANTHROPIC_API_KEY": "sk-a"}) as claude,
            provider_named("openai", base_url=server.url, api_key="sk-o", model="gpt-5") as gpt,
        ):
            await claude.complete(HI, Call())
            await gpt.complete(ChatRequest([Message.user("Hi")], max_tokens=9), Call())
        first, second = server.requests
        assert (first.dialect, first.headers["x-api-key"], first.headers["anthropic-version"]) == (
            "anthropic",
            "sk-a",
            "2023-06-01",
        )
        assert (second.dialect, second.headers["authorization"], second.model) == ("openai", "Bearer sk-o", "gpt-5")
        assert second.body["max_completion_tokens"] == 9


async def test_mistral_is_not_asked_for_usage_in_streams():
    async with open_fault_server([Say("Hi"), Finish()]) as server:
        async with provider_named("mistral", base_url=server.url, api_key="k") as mistral:
            await mistral.complete(HI, Call())
        assert "stream_options" not in server.requests[0].body


def test_a_variable_that_holds_no_url_is_named():
    for value in ("nonsense", "localhost:8080/v1", "ftp://x/v1"):
        with pytest.raises(NotConfigured, match="OPENAI_BASE_URL must be a URL"):
            provider_named("openai", environ={"OPENAI_API_KEY": "sk-x", "OPENAI_BASE_URL": value})


def test_the_newer_of_two_variables_goes_first():
    both = {"OPENAI_API_BASE": "http://old.example/v1", "OPENAI_BASE_URL": "http://new.example/v1"}
    assert find_url("openai", KNOWN["openai"], both) == "http://new.example/v1"


async def test_nothing_is_opened_before_the_first_request():
    before = trio.lowlevel.current_statistics().tasks_living
    async with provider_named("openai", api_key="k"):
        assert trio.lowlevel.current_statistics().tasks_living == before


@pytest.mark.parametrize(
    ("name", "variable"),
    [
        ("openai", "OPENAI_BASE_URL"),
        ("anthropic", "ANTHROPIC_BASE_URL"),
        ("azure", "AZURE_OPENAI_BASE_URL"),
        ("azure", "AZURE_OPENAI_ENDPOINT"),
        ("openai", "OPENAI_API_BASE"),
        ("anthropic", "ANTHROPIC_API_BASE"),
        ("groq", "GROQ_BASE_URL"),
        ("ollama", "OLLAMA_BASE_URL"),
        ("lmstudio", "LMSTUDIO_BASE_URL"),
        ("vertex", "VERTEX_BASE_URL"),
    ],
)
async def test_the_base_url_of_a_provider_may_stand_in_its_variable(name, variable):
    async with open_fault_server([Say("Hi"), Finish()]) as server:
        environ = dict.fromkeys(KNOWN[name].key_variables, "sk-x") | {variable: f" {server.url} "}
        async with provider_named(name, environ=environ, model="m") as provider:
            assert provider.base_url.rstrip("/") == server.url.rstrip("/")
            assert (await provider.complete(HI, Call())).text == "Hi"
        # What is given in code goes first, and an empty variable is none.
        async with provider_named(
            name, environ=environ | {variable: "http://127.0.0.1:9"}, base_url=server.url
        ) as other:
            assert other.base_url.rstrip("/") == server.url.rstrip("/")
    if name in {"anthropic", "ollama", "lmstudio"}:
        root = server.url.removesuffix("/v1")
        for given in (root, f"{root}/", f"{root}/v1"):
            assert find_url(name, KNOWN[name], {variable: given}).rstrip("/") == f"{root}/v1"
    if KNOWN[name].base_url and "{" not in KNOWN[name].base_url:
        assert find_url(name, KNOWN[name], {variable: " "}) == KNOWN[name].base_url


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("https://a.example", "https://a.example/v1"),
        ("https://a.example/", "https://a.example/v1"),
        ("https://a.example/api", "https://a.example/api/v1"),
        ("https://a.example/v1", "https://a.example/v1"),
        ("https://a.example/v2beta/", "https://a.example/v2beta/"),
        ("https://a.example/v1/proxy", "https://a.example/v1/proxy"),
        ("https://a.example/very", "https://a.example/very/v1"),
    ],
)
def test_a_version_is_added_to_an_address_without_one(given, found):
    assert with_version(given) == found


@pytest.mark.parametrize("name", ["anthropic", "azure"])
def test_the_responses_api_is_refused_where_it_is_not_spoken(name):
    with pytest.raises(NotConfigured, match="not asked through the Responses API") as caught:
        provider_named(name, api_key="k", base_url="https://a.example/v1", api="responses", environ={})
    assert caught.value.provider == name


def test_a_vendor_is_found_through_wrappers_and_by_its_address():
    class Wrapper:
        def __init__(self, provider):
            self.provider = provider

    assert vendor_of(Wrapper(Wrapper(provider_named("groq", api_key="k", environ={})))) == "groq"
    elsewhere = OpenAICompatible("mine", base_url="https://api.mistral.ai/v1")
    assert vendor_of(elsewhere) == "mistral"
    assert vendor_of(OpenAICompatible("groq", base_url="https://a.example/v1")) == ""
    assert vendor_of(Wrapper(None)) == ""
    assert vendor_of(object()) == ""


@pytest.mark.parametrize(
    ("version", "path"),
    [
        ("", "/chat/completions"),
        ("2024-10-21", "/openai/deployments/a%2Fb/chat/completions?api-version=2024-10-21"),
        ("2024/10", "/openai/deployments/a%2Fb/chat/completions?api-version=2024%2F10"),
    ],
)
def test_the_path_of_azure_has_the_deployment_where_a_version_is_given(version, path):
    assert Azure(api_version=version).path("a/b") == path
    named = Azure(api_version=version, deployments={"m": "a/b"})
    assert (named.path("m"), named.path("a/b")) == (path, path)


@pytest.mark.parametrize(
    ("key", "headers"),
    [
        ("k", {"api-key": "k"}),
        ("eyJ.b.c", {"authorization": "Bearer eyJ.b.c"}),
        ("eyJ.b", {"api-key": "eyJ.b"}),
        ("x.b.c", {"api-key": "x.b.c"}),
        ("", {}),
    ],
)
def test_a_token_of_entra_is_sent_as_one(key, headers):
    assert Azure(api_version="1").headers(key) == headers


@pytest.mark.parametrize(
    ("url", "vendor"),
    [
        ("https://api.openai.com/v1", "openai"),
        (" https://api.openai.com/v1/ ", "openai"),
        ("https://api.openai.com/v1/chat", ""),
        ("https://proxy.example/https://api.openai.com/v1", ""),
        ("https://mine.openai.azure.com/openai/v1", "azure"),
        ("https://mine.cognitiveservices.azure.com", "azure"),
        ("https://mine.services.ai.azure.com/x", "azure"),
        ("https://openai.azure.com.example/v1", ""),
        ("https://bedrock-runtime.eu-west-1.amazonaws.com/openai/v1", "bedrock"),
        ("https://bedrock-runtime.a/b.amazonaws.com/openai/v1", ""),
        (
            "https://us-aiplatform.googleapis.com/v1/projects/p/locations/us/endpoints/openapi",
            "vertex",
        ),
        ("http://localhost:11434/v1", ""),
        ("", ""),
    ],
)
def test_an_address_belongs_to_a_vendor_as_a_whole_or_to_none(url, vendor):
    assert vendor_at(url) == vendor


@pytest.mark.parametrize(
    ("name", "api", "kind"),
    [
        ("openai", "responses", OpenAIResponses),
        ("openai", "chat", OpenAICompatible),
        ("groq", "responses", OpenAIResponses),
    ],
)
def test_one_api_may_be_chosen_for_all_models(name, api, kind):
    assert type(provider_named(name, api_key="k", api=api, environ={})) is kind


@pytest.mark.parametrize(("dialect", "efforts"), [("anthropic", True), ("openai", False)])
async def test_a_provider_that_is_not_known_has_the_rules_of_its_dialect(dialect, efforts):
    """The larger Claude models take an effort; of an unknown server nothing is assumed."""
    async with open_fault_server([Say("Hi"), Finish()]) as server:
        known = {"mine": KnownProvider(base_url=server.url, dialect=dialect)}
        async with provider_named("mine", known=known, environ={}) as provider:
            request = ChatRequest([Message.user("Hi")], model="claude-opus-4-6", reasoning_effort="low")
            await provider.complete(request, Call())
        assert ("output_config" in server.requests[0].body) is efforts


def test_the_version_of_azure_is_that_of_the_environment(monkeypatch):
    monkeypatch.setenv("OPENAI_API_VERSION", "2024-10-21")
    options = {"api_key": "k", "base_url": "https://mine.openai.azure.com"}
    assert provider_named("azure", **options)._dialect.path("m").endswith("?api-version=2024-10-21")
    with pytest.raises(NotConfigured, match="api_version"):
        provider_named("azure", **options, environ={})
