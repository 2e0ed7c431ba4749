"""Clouds that have their own addresses and keys: Azure's deployments, places in addresses, signed requests."""

import pytest

from clawft_trio.chat import Call, ChatRequest, Message
from clawft_trio.errors import NotConfigured
from clawft_trio.llm import find_url, known_provider, provider_named
from clawft_trio.llm.refused_options import RefusedOptions, refused_parameter
from clawft_trio.testing import Finish, Say, open_fault_server

ASK = ChatRequest([Message.user("q")], model="gpt-5")


async def test_azure_is_asked_by_deployment_version_and_key_header():
    async with open_fault_server([Say("hi"), Finish()]) as server:
        made = provider_named(
            "azure", base_url=server.origin, api_key="k", api_version="2024-10-21", deployments={"gpt-5": "my gpt"}
        )
        async with made as azure:
            await azure.complete(ASK, Call())
    (request,) = server.requests
    assert request.path == "/openai/deployments/my%20gpt/chat/completions"
    assert request.headers["api-key"] == "k"
    assert "authorization" not in request.headers
    assert request.body["model"] == "my gpt"


async def test_azures_v1_address_needs_no_version():
    async with open_fault_server([Say("hi"), Finish()]) as server:
        async with provider_named("azure", base_url=server.url, api_key="k", environ={}) as azure:
            await azure.complete(ASK, Call())
    assert server.requests[0].path == "/v1/chat/completions"
    with pytest.raises(NotConfigured, match="api_version"):
        provider_named("azure", base_url="https://x.openai.azure.com", api_key="k", environ={})


def test_places_in_addresses_come_from_the_environment():
    vertex = known_provider("vertex")
    where = {"GOOGLE_CLOUD_PROJECT": "p", "GOOGLE_CLOUD_LOCATION": "global"}
    assert find_url("vertex", vertex, where).startswith(
        "https://aiplatform.googleapis.com/v1/projects/p/locations/global/"
    )
    with pytest.raises(NotConfigured, match="AWS_REGION"):
        find_url("bedrock", known_provider("bedrock"), {})


async def test_a_signed_request_carries_the_headers_of_its_signature_and_needs_no_key():
    seen = []

    async def sign(method, url, body):
        seen.append((method, url, body))
        return {"authorization": "AWS4-HMAC-SHA256 …".replace("…", "x"), "x-amz-date": "now"}

    async with open_fault_server([Say("hi"), Finish()]) as server:
        made = provider_named("bedrock", base_url=server.url, environ={}, sign=sign)
        async with made as bedrock:
            await bedrock.complete(ASK, Call())
            assert "AWS4" not in repr(bedrock)
    ((method, url, body),) = seen
    assert (method, url) == ("POST", f"{server.url}/chat/completions")
    assert b'"gpt-5"' in body
    assert server.requests[0].headers["authorization"] == "AWS4-HMAC-SHA256 x"


@pytest.mark.parametrize(
    ("body", "parameter"),
    [
        ('{"error": {"message": "no temperature", "param": "temperature"}}', "temperature"),
        ('{"error": {"param": "reasoning.effort"}}', "reasoning.effort"),
        ('{"error": {"param": "text.format.schema"}}', "text.format"),
        ('{"error": {"param": "response_format.json_schema"}}', "response_format"),
        ('{"error": {"error": {"param": "top_p"}}}', "top_p"),
        ('{"error": {"code": 400, "metadata": {"raw": "{\\"error\\": {\\"param\\": \\"seed\\"}}"}}}', "seed"),
        ('{"object": "error", "message": {"detail": [{"loc": ["body", "seed"]}]}}', "seed"),
        ('{"message": [{"type": "extra_forbidden", "loc": ["body", "seed"]}]}', "seed"),
        ('{"detail": [{"loc": ["body", "seed"], "type": "extra_forbidden"}]}', "seed"),
        ('[{"error": {"details": [{"fieldViolations": [{"field": "stop"}]}]}}]', "stop"),
        ('{"error": {"message": "temperature is not supported", "param": null}}', ""),
        ('{"error": "temperature"}', ""),
        ("not json", ""),
        ("[]", ""),
    ],
)
def test_only_a_typed_field_names_a_parameter(body, parameter):
    assert refused_parameter(body) == parameter


def test_only_optional_parameters_of_the_body_are_left_out_and_a_limit_keeps_its_value():
    refused, body = RefusedOptions(), {"model": "m", "messages": [], "max_tokens": 5, "seed": 1}
    assert not refused.learn("m", "messages", body)
    assert not refused.learn("m", "top_p", body)
    assert refused.learn("m", "max_tokens", body)
    assert not refused.learn("m", "max_tokens", body)
    assert refused.without("m", body) == {"model": "m", "messages": [], "seed": 1, "max_completion_tokens": 5}
    assert refused.without("other", body) is body


def test_of_a_group_of_parameters_only_the_refused_one_is_left_out():
    refused = RefusedOptions()
    body = {"text": {"format": {}, "verbosity": "low"}, "reasoning": {"effort": "low"}}
    assert refused.learn("m", "text.verbosity", body)
    assert refused.learn("m", "reasoning.effort", body)
    assert not refused.learn("m", "text.verbosity", body)
    assert refused.without("m", body) == {"text": {"format": {}}}
