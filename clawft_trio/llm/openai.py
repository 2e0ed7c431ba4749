"""A provider for servers with an OpenAI-compatible API."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any, Unpack
from urllib.parse import quote

import attrs

from clawft_trio.chat import ChatRequest
from clawft_trio.llm.conform import Rules, VendorRules
from clawft_trio.llm.dialect import ProviderOptions
from clawft_trio.llm.http_provider import HttpProvider
from clawft_trio.llm.openai_extras import dialect_of
from clawft_trio.llm.openai_request import Quirks, request_body
from clawft_trio.llm.openai_response import OpenAIResponseReader
from clawft_trio.llm.response_builder import ResponseBuilder
from clawft_trio.llm.responses import ResponsesDialect
from clawft_trio.llm.responses_response import ResponsesResponseReader
from clawft_trio.llm.tool_calls import ids_in
from clawft_trio.llm.vendors import PLAIN
from clawft_trio.llm.vendors_large import OPENAI_FAMILIES, RESPONSES

_NO_QUIRKS = Quirks()


@attrs.frozen(kw_only=True)
class Azure:
    """Addresses of Azure OpenAI: the deployment is in the path, the key in the `api-key` header."""

    #: API version, for addresses of deployments; empty for the v1 address, which needs none
    api_version: str = ""
    #: deployment names by model; a model that is missing here is deployed under its own name
    deployments: Mapping[str, str] = attrs.field(factory=dict)

    def path(self, model: str) -> str:
        """Return the path of a request to *model*, below `https://{resource}.openai.azure.com` or its `/openai/v1`."""
        if not self.api_version:
            return "/chat/completions"
        deployment = quote(self.deployments.get(model, model), safe="")
        return f"/openai/deployments/{deployment}/chat/completions?api-version={quote(self.api_version, safe='')}"

    def headers(self, key: str) -> Mapping[str, str]:
        """Return the headers with *key*; an Entra ID token (a JWT) goes into `Authorization`."""
        if key.startswith("eyJ") and key.count(".") == 2:
            return {"authorization": f"Bearer {key}"}
        return {"api-key": key} if key else {}


@attrs.frozen(kw_only=True)
class _OpenAI:
    name: str
    quirks: Quirks
    vendor: VendorRules
    azure: Azure | None
    #: quirks by model, for models that differ from the server's other models
    model_quirks: Mapping[str, Quirks]
    #: patterns of the models that are called through the Responses API
    responses_models: tuple[str, ...] = ()

    @property
    def _responses(self) -> ResponsesDialect:
        return ResponsesDialect(name=self.name)

    def path(self, model: str) -> str:
        if _matches(model, self.responses_models):
            return self._responses.path(model)
        return "/chat/completions" if self.azure is None else self.azure.path(model)

    @property
    def listing(self) -> str:
        return "/models"

    def headers(self, key: str) -> Mapping[str, str]:
        if self.azure is not None:
            return self.azure.headers(key)
        return {"authorization": f"Bearer {key}"} if key else {}

    def body(self, request: ChatRequest, model: str, rules: Rules) -> Mapping[str, Any]:
        if _matches(model, self.responses_models):
            return self._responses.body(request, model, rules)
        named = model if self.azure is None else self.azure.deployments.get(model, model)
        return request_body(request, named, self._quirks(model), rules)

    def _quirks(self, model: str) -> Quirks:
        return self.model_quirks.get(model, self.quirks)

    def reading(self, request: ChatRequest, model: str) -> OpenAIResponseReader | ResponsesResponseReader:
        if _matches(model, self.responses_models):
            return self._responses.reading(request, model)
        answer = ResponseBuilder(provider=self.name, model=model, taken_ids=ids_in(request))
        quirks = self._quirks(model)
        return OpenAIResponseReader(
            answer, ends_with=quirks.ends_with, returns=quirks.returns, think_tags=quirks.think_tags
        )


def _returning(accepts: VendorRules, quirks: Quirks) -> VendorRules:
    """Return *accepts* with the fields that the server requires back according to *quirks*."""
    common = accepts.common
    opaque = tuple(dict.fromkeys((*common.opaque, *map(dialect_of, quirks.returns))))
    stand_in = common.reasoning_stand_in
    if "reasoning_content" in quirks.returns and stand_in is None:
        # A missing field is refused, and by some servers also an empty one.
        stand_in = " "
    if opaque == common.opaque and stand_in == common.reasoning_stand_in:
        return accepts
    return attrs.evolve(accepts, common=attrs.evolve(common, opaque=opaque, reasoning_stand_in=stand_in))


@attrs.frozen
class _ByApi(VendorRules):
    """Rules of a vendor that has models called through the Responses API."""

    responses_models: tuple[str, ...] = attrs.field(default=(), kw_only=True)

    def of(self, model: str) -> Rules:
        if not _matches(model, self.responses_models):
            return super().of(model)
        # The user's additions to the vendor's families apply here, too.
        own = tuple(family for family in self.families if family not in _OPENAI_FAMILIES)
        return VendorRules(RESPONSES.common, (*RESPONSES.families, *own)).of(model)


_OPENAI_FAMILIES = VendorRules(families=OPENAI_FAMILIES).families


def _matches(model: str, patterns: Iterable[str]) -> bool:
    """Return whether *patterns* include *model*: the first pattern that matches decides; a `!` prefix excludes."""
    found = next((pattern for pattern in patterns if fnmatchcase(model.lower(), pattern.removeprefix("!"))), "!")
    return not found.startswith("!")


class OpenAICompatible(HttpProvider):
    """A provider that sends `POST {base_url}/chat/completions`, streamed or not.

    An answer is complete when its finish reason has arrived; set `Quirks.ends_with` for servers that send none. The
    provider never retries; the caller may.

        async with OpenAICompatible("groq", base_url="https://api.groq.com/openai/v1", api_key=key) as groq:
            response = await groq.complete(ChatRequest([Message.user("Hi")], model="llama-3.3-70b"), Call())

    Args:
      name: the provider's name in logs, errors and targets.
      base_url: the URL up to and including the version (`https://api.openai.com/v1`).
      quirks: differences of this server from others.
      accepts: what the server's models accept; requests are conformed to it.
      azure: how deployments are addressed, for Azure OpenAI.
      model_quirks: quirks by model, for models that differ from the server's other models.
      responses_models: patterns of the models that are called through the Responses API (`gpt-5*-pro*`); the first
        pattern that matches decides, and one that begins with `!` excludes.
      options: the keys of `ProviderOptions`: `api_key`, `model`, `headers`, `clocks`, `proxy` and others.
    """

    def __init__(
        self,
        name: str,
        *,
        base_url: str,
        quirks: Quirks = _NO_QUIRKS,
        accepts: VendorRules = PLAIN,
        azure: Azure | None = None,
        model_quirks: Mapping[str, Quirks] | None = None,
        responses_models: Iterable[str] = (),
        **options: Unpack[ProviderOptions],
    ) -> None:
        vendor, by_responses = _returning(accepts, quirks), tuple(responses_models)
        super().__init__(
            name,
            _OpenAI(
                name=name,
                quirks=quirks,
                vendor=_ByApi(vendor.common, vendor.families, responses_models=by_responses),
                azure=azure,
                responses_models=by_responses,
                model_quirks=model_quirks or {},
            ),
            base_url=base_url,
            **options,
        )
