"""The check of a provider, in this process: which are checked, what is found, and what is advised."""

from __future__ import annotations

import json

import pytest
from net.servers import answering, open_server, response

from clawft_trio.cli.check_provider import check_provider, key_origin, models_of, neighbours, providers_of
from clawft_trio.cli.options import Chosen
from clawft_trio.config import Config, parse_config
from clawft_trio.llm import KNOWN
from clawft_trio.testing import Finish, Say, Status, open_fault_server
from clawft_trio.testing.fault_server import refused_url

SERVER = Chosen(base_url="http://127.0.0.1:9/v1")
ERROR = b'{"error": {"message": "no", "code": "%s"}}'


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for known in KNOWN.values():
        for variable in known.key_variables:
            monkeypatch.delenv(variable, raising=False)


def listing(*names: str) -> bytes:
    return response(json.dumps({"data": [{"id": name} for name in names]}).encode())


def config(**sections: object) -> Config:
    return parse_config(json.dumps(sections))


def test_every_model_that_is_named_is_checked_once() -> None:
    given = config(
        agents={"defaults": {"model": "openai/a"}},
        failover=["openai/b", "openai/a"],
        routing={
            "tiers": [{"name": "free", "models": ["openai/c"], "complexity_range": [0, 1]}],
            "fallback_model": "openai/d",
        },
    )
    assert models_of(Chosen(models=("groq/x",)), given) == (
        *("groq/x", "openai/a", "openai/b", "openai/c", "openai/d"),
    )
    assert models_of(Chosen(models=("m", "server/n"), base_url="http://x"), given) == ("server/m", "server/n")
    assert models_of(Chosen(), Config()) == ()


def test_providers_are_those_that_are_named_or_else_those_with_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    assert providers_of(SERVER, Config()) == ("server",)
    assert providers_of(Chosen(), Config()) == ()
    monkeypatch.setenv("GROQ_API_KEY", "k")
    monkeypatch.setenv("OPENAI_API_KEY", "  ")
    assert providers_of(Chosen(), Config()) == ("groq",)
    given = config(providers={"mine": {"api_base": "http://localhost/v1"}})
    assert providers_of(Chosen(models=("openai/a", "openai/b")), given) == ("openai", "mine")


@pytest.mark.parametrize(
    ("chosen", "sections", "name", "origin"),
    [
        (Chosen(api_key_env="MINE"), {}, "openai", "key from MINE"),
        (Chosen(), {"openai": {"api_key": "${A}${B}"}}, "openai", "key from A and B, as configured"),
        (Chosen(), {"openai": {"api_key": "text"}}, "openai", "key from the configuration file"),
        (Chosen(), {}, "openai", "key from OPENAI_API_KEY"),
        (Chosen(), {}, "groq", "without a key"),
        (Chosen(), {}, "unknown", "without a key"),
        (SERVER, {"openai": {"api_key": "text"}}, "openai", "without a key"),
    ],
)
def test_the_origin_of_a_key_is_named(
    chosen: Chosen, sections: dict[str, object], name: str, origin: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("A", "B", "OPENAI_API_KEY"):
        monkeypatch.setenv(variable, "k")
    assert key_origin(name, chosen, config(providers=sections)) == origin


@pytest.mark.parametrize(
    ("url", "near"),
    [
        ("http://h", ["http://h/v1", "http://h/api/v1", "http://h/openai/v1"]),
        ("http://h/v1/", ["http://h", "http://h/api/v1", "http://h/openai/v1"]),
        ("http://h/v1/models", ["http://h/v1", "http://h", "http://h/api/v1", "http://h/openai/v1"]),
        ("http://h/chat/completions", ["http://h", "http://h/v1", "http://h/api/v1", "http://h/openai/v1"]),
    ],
)
def test_addresses_nearby_are_without_the_path_of_a_request(url: str, near: list[str]) -> None:
    assert list(neighbours(url)) == near


@pytest.mark.parametrize(
    ("listed", "models", "outcome", "message", "advice"),
    [
        (["m"], ["m"], "ok", "1 model; without a key", ""),
        (["m-20260101", "n:latest"], ["m", "n"], "ok", "2 models; without a key", ""),
        (["m"], [], "ok", "1 model; without a key", ""),
        (["mx", "gpt-5"], ["gpt-6", "zz"], "problem", "2 models; without a key; not on its list: gpt-6, zz", "Did you mean gpt-5?"),
        (["alpha", "beta"], ["xyz"], "problem", "2 models; without a key; not on its list: xyz", "Its models are: alpha, beta"),
        ([f"alpha{n}" for n in range(8)], ["xyz"], "problem", "8 models; without a key; not on its list: xyz", "Its models are: " + ", ".join(f"alpha{n}" for n in range(8))),
        ([f"alpha{n}" for n in range(9)], ["xyz"], "problem", "9 models; without a key; not on its list: xyz", "Look the name up with the provider."),
    ],
)  # fmt: skip
async def test_models_are_looked_up_on_the_list(
    listed: list[str], models: list[str], outcome: str, message: str, advice: str
) -> None:
    async with open_server(answering(listing(*listed))) as server:
        found = await check_provider("server", Chosen(base_url=f"{server.url}/v1", models=tuple(models)), Config())
    assert (found.check, found.subject, found.outcome) == ("provider", "server", outcome)
    assert (found.message, found.advice) == (message, advice)


@pytest.mark.parametrize(
    ("status", "code", "outcome", "kind", "advice"),
    [
        ("401 No", b"invalid_api_key", "problem", "AuthFailed", "--api-key-env"),
        ("402 No", b"insufficient_quota", "problem", "QuotaExhausted", "no credit left"),
        ("429 No", b"rate_limit_exceeded", "warning", "RateLimited", "try again later"),
        ("500 No", b"server_error", "warning", "ServerError", "try again later"),
        ("400 No", b"invalid_request_error", "problem", "RequestRejected", "the address of an API"),
    ],
)
async def test_an_error_of_the_server_has_its_advice(
    status: str, code: bytes, outcome: str, kind: str, advice: str
) -> None:
    async with open_server(answering(response(ERROR % code, status=status))) as server:
        found = await check_provider("server", Chosen(base_url=f"{server.url}/v1"), Config())
    assert (found.outcome, found.message.partition(":")[0]) == (outcome, kind)
    assert advice in found.advice


async def test_a_key_that_is_refused_is_named_with_its_origin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINE", "k")
    async with open_server(answering(response(ERROR % b"invalid_api_key", status="401 No"))) as server:
        found = await check_provider("server", Chosen(base_url=f"{server.url}/v1", api_key_env="MINE"), Config())
    assert found.advice == "The key from MINE is refused: make a new one there, and set it."


async def test_a_server_that_is_not_there_may_not_run_or_the_network_may_be_down(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    with refused_url() as url:
        for name, advice in (("server", "Is it running"), ("ollama", "Is it running"), ("openai", "Is the network up")):
            given = config(providers={name: {"api_base": url}})
            found = await check_provider(name, Chosen(models=(f"{name}/m",)), given)
            assert (found.outcome, found.message.partition(":")[0]) == ("problem", "TransportFailed")
            assert found.advice.startswith(advice)


async def test_without_a_key_the_variables_that_may_hold_one_are_named() -> None:
    found = await check_provider("openai", Chosen(), Config())
    assert found.outcome == "problem"
    assert found.advice == "Set OPENAI_API_KEY, or name another variable in the configuration: ${VARIABLE}."


async def test_a_server_without_a_list_of_models_is_a_warning_and_one_that_redirects_a_problem() -> None:
    for raw, outcome in (
        (response(b"{}", status="404 No"), "warning"),
        (response(b"", status="302 Found", headers="location: https://x.example/login\r\n"), "problem"),
        (response(b"", status="300 Many", headers="location: https://x.example/login\r\n"), "problem"),
        (response(b"<html>"), "problem"),
    ):
        async with open_server(answering(raw)) as server:
            found = await check_provider("server", Chosen(base_url=f"{server.url}/v1"), Config())
        assert found.outcome == outcome
        assert f"what answers at {server.url}/v1 does not look like a model server" in found.message


async def test_a_probe_asks_each_model_for_one_token_and_names_those_that_fail() -> None:
    fine, broken = [Say("ok"), Finish()], [Status(400, message="no such thing")]
    async with open_fault_server(models={"a": [fine], "b": [broken], "default": [fine]}) as server:

        async def probed(*models: str) -> tuple[str, str, str]:
            chosen = Chosen(base_url=server.url, models=models)
            found = await check_provider("server", chosen, Config(), probe=True)
            return found.outcome, found.message, found.advice

        outcome, message, _ = await probed("a")
        assert (outcome, message.endswith("; a answered")) == ("ok", True)
        assert (await probed())[1].endswith("; default answered")
        outcome, message, advice = await probed("a", "b")
        assert (outcome, "b: RequestRejected" in message) == ("problem", True)
        assert "a: " not in message and advice == "Is the name right, and does the key allow that model?"
        assert {request.body["max_tokens"] for request in server.requests} == {1}
        asked = len(server.requests)
        found = await check_provider("server", Chosen(base_url=server.url), Config())
        assert (found.outcome, found.message) == ("ok", "reached; it has no list of models; without a key")
        assert len(server.requests) == asked


async def test_an_address_of_a_variable_is_shown_without_its_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    async with open_server(answering(listing("m"))) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", f" {server.url}/v1 ")
        found = await check_provider("openai", Chosen(models=("openai/m",)), Config())
        assert found.message == f"1 model; key from OPENAI_API_KEY; address from OPENAI_BASE_URL: {server.url}/v1"
        given = config(providers={"openai": {"api_base": f"{server.url}/v1"}})
        found = await check_provider("openai", Chosen(models=("openai/m",)), given)
        assert found.message == "1 model; key from OPENAI_API_KEY"
