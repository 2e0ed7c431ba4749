"""The conform step: takes a request and the target's rules, and returns a request that the target accepts."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import attrs

from clawft_trio.chat import (
    ChatRequest,
    ChatResponse,
    JsonObject,
    Message,
    StreamEvent,
    ToolCall,
    ToolCallDelta,
    ToolCallReady,
    ToolCallSealed,
    ToolSpec,
)
from clawft_trio.errors import RequestRejected
from clawft_trio.llm.conform.answers import closed_schema
from clawft_trio.llm.conform.calls import CallIds, legal_call, wire_name, with_renamed_keys
from clawft_trio.llm.conform.content import legal_content, with_new_call_ids, with_stand_ins
from clawft_trio.llm.conform.options import legal_options
from clawft_trio.llm.conform.order import is_blank, legal_order
from clawft_trio.llm.conform.pairing import mend
from clawft_trio.llm.conform.rules import Rules, VendorRules
from clawft_trio.llm.conform.schemas import LegalSchema, TooLarge, legal_schema
from clawft_trio.llm.conform.words import schema_in_words, with_words

_NOTHING: Mapping[str, Any] = MappingProxyType({})

_REMEMBERED = 512
"""Largest number of schemas cached in their legal form: as many as a large agent has tools."""


@attrs.frozen(kw_only=True)
class Conformed:
    """A request that its target accepts, and the data to restore the tool calls of its answer."""

    request: ChatRequest
    #: changes by name, with their number; empty when *request* is unchanged
    changes: Mapping[str, int] = _NOTHING
    #: renamed tools: the name that was sent, to the tool's own name
    names: Mapping[str, str] = _NOTHING
    #: renamed properties by the sent name of their tool: new name to old name
    keys: Mapping[str, Mapping[str, str]] = _NOTHING
    #: tools that are not offered, with the reason
    left_out: Mapping[str, str] = _NOTHING

    @property
    def restores(self) -> bool:
        """Whether tool calls in the answer have to be restored."""
        return bool(self.names or self.keys)

    def restored_call(self, call: ToolCall) -> ToolCall:
        """Return *call* of the answer with the tool's own names."""
        arguments = with_renamed_keys(call.arguments, self.keys.get(call.name, _NOTHING))
        return attrs.evolve(call, name=self.names.get(call.name, call.name), arguments=arguments)

    def restored_event(self, event: StreamEvent) -> StreamEvent:
        """Return *event* of the answer with the tool's own names; arguments are restored when they are complete."""
        if isinstance(event, ToolCallDelta) and event.name in self.names:
            return attrs.evolve(event, name=self.names[event.name])
        if isinstance(event, ToolCallSealed | ToolCallReady):
            return type(event)(self.restored_call(event.call))
        return event

    def restored(self, response: ChatResponse) -> ChatResponse:
        """Return *response* with the tools' own names in its calls."""
        calls = tuple(map(self.restored_call, response.tool_calls))
        return response if calls == response.tool_calls else attrs.evolve(response, tool_calls=calls)


@attrs.define
class _Offer:
    """The tools that one request offers."""

    tools: tuple[ToolSpec, ...]
    names: dict[str, str] = attrs.field(factory=dict)
    keys: dict[str, Mapping[str, str]] = attrs.field(factory=dict)
    left_out: dict[str, str] = attrs.field(factory=dict)
    #: names as they are sent
    taken: set[str] = attrs.field(factory=set)

    def leave_out(self, tool: ToolSpec, why: str, changes: Counter[str]) -> None:
        self.left_out[tool.name] = why
        changes[f"tool {tool.name[:64]} left out: {why}"] += 1


class Conformer:
    """Conforms requests to the models of one vendor, and caches the legal forms of schemas.

    The result depends on the arguments alone; the cache saves time and is bounded.
    """

    def __init__(self, vendor: VendorRules) -> None:
        self._vendor = vendor
        self._rules: dict[str, Rules] = {}
        self._schemas: OrderedDict[tuple[int, int], tuple[object, object, LegalSchema | None]] = OrderedDict()

    def __repr__(self) -> str:
        return f"<Conformer: {len(self._rules)} models, {len(self._schemas)} schemas>"

    def rules(self, model: str) -> Rules:
        """Return the vendor's rules for *model*; the same object every time."""
        if model not in self._rules:
            if len(self._rules) >= _REMEMBERED:
                self._rules.clear()
            self._rules[model] = self._vendor.of(model)
        return self._rules[model]

    def conform(self, request: ChatRequest, rules: Rules, *, origin: str = "") -> Conformed:
        """Return *request* changed so that a target with *rules* accepts it.

        Args:
          request: the request; the result has the same object when it is acceptable.
          rules: the target's rules, as returned by `rules`.
          origin: `provider/model` of the target: reasoning is sent only to the model that produced it.

        Raises:
          RequestRejected: there is no message, or the last one is blank: nothing is sent.
        """
        _refuse_blank(request)
        changes: Counter[str] = Counter()
        offer = self._tools(request.tools, rules, changes)
        tools, names, keys = offer.tools, offer.names, offer.keys
        messages = _history(request.messages, rules, origin, keys, changes)
        new: dict[str, Any] = {}
        if messages is not request.messages:
            new["messages"] = tuple(messages)
        if tools is not request.tools:
            new["tools"] = tools
            if request.tool_choice not in {"auto", "none", "required"}:
                choice = wire_name(request.tool_choice, rules.name_pattern, rules.name_length)
                offered = any(tool.name == choice for tool in tools)
                new["tool_choice"] = choice if offered else "auto"
        adjusted = attrs.evolve(request, **new) if new else request
        options = legal_options(adjusted, rules, changes)
        if request.response_schema is not None:
            _limit_answer(adjusted, request.response_schema, rules, options, changes)
        if options:
            adjusted = attrs.evolve(adjusted, **options)
        return Conformed(request=adjusted, changes=changes, names=names, keys=keys, left_out=offer.left_out)

    def _tools(self, tools: tuple[ToolSpec, ...], rules: Rules, changes: Counter[str]) -> _Offer:
        """Return the tools to offer, each in its legal form."""
        if not tools:
            return _Offer(tools)
        if "tools" in rules.refuses:
            changes["tools left out: the model takes none"] += len(tools)
            return _Offer((), left_out={tool.name: "the model takes no tools" for tool in tools})
        offer = _Offer(tools)
        legal: list[ToolSpec] = []
        for tool in tools:
            name = wire_name(tool.name, rules.name_pattern, rules.name_length)
            try:
                schema = self._schema(tool.parameters, rules)
            except TooLarge:
                offer.leave_out(tool, "its schema is too large", changes)
                continue
            if name in offer.taken:
                offer.leave_out(tool, "there are two of this name", changes)
                continue
            if len(legal) == rules.most_tools:
                offer.left_out.setdefault(tool.name, f"more than {rules.most_tools} tools")
                changes["tools left out: too many for the model"] += 1
                continue
            offer.taken.add(name)
            if name != tool.name:
                offer.names[name] = tool.name
            if schema.keys:
                offer.keys[name] = schema.keys
            legal.append(_with(tool, name, schema.schema, rules, changes))
        if len(legal) < len(tools) or any(one is not other for one, other in zip(legal, tools, strict=True)):
            offer.tools = tuple(legal)
        return offer

    def _schema(self, parameters: object, rules: Rules) -> LegalSchema:
        # By identity, because receivers of a request do not change its contents. The cache keeps both objects alive, so
        # that their ids stay unique. It also remembers that a schema is too large.
        known = self._schemas.get((id(parameters), id(rules.schemas)))
        if known is None:
            try:
                legal = legal_schema(parameters, rules.schemas)
            except TooLarge:
                legal = None
            known = (parameters, rules.schemas, legal)
            self._schemas[id(parameters), id(rules.schemas)] = known
            if len(self._schemas) > _REMEMBERED:
                self._schemas.popitem(last=False)
        if known[2] is None:
            raise TooLarge
        return known[2]


def conform(request: ChatRequest, rules: Rules, *, origin: str = "") -> Conformed:
    """Change *request* so that a target with *rules* accepts it; see `Conformer.conform`.

    Raises:
      RequestRejected: there is no message, or the last one is blank: nothing is sent.
    """
    return Conformer(VendorRules(rules)).conform(request, rules, origin=origin)


def _limit_answer(
    request: ChatRequest, schema: JsonObject, rules: Rules, new: dict[str, Any], changes: Counter[str]
) -> None:
    """Convert the answer *schema* to a form that the target accepts, or write it into the prompt."""
    if "response_schema" not in rules.refuses:
        if rules.answer_schemas == "any":
            return
        legal = closed_schema(schema)
        if legal is not None:
            if legal != schema:
                new["response_schema"] = legal
                changes["response_schema adapted"] += 1
            return
        changes["response_schema written in words"] += 1
    new["response_schema"] = None
    new["messages"] = with_words(request.messages, schema_in_words(schema))


def _refuse_blank(request: ChatRequest) -> None:
    messages = request.messages
    if not messages:
        raise RequestRejected("a request without messages; not sent", curable_elsewhere=False)
    last = messages[-1]
    if last.role == "user" and is_blank(last):
        raise RequestRejected("a question without text, image or file; not sent", curable_elsewhere=False)


def _with(tool: ToolSpec, name: str, schema: Mapping[str, Any], rules: Rules, changes: Counter[str]) -> ToolSpec:
    description = tool.description
    if rules.description_length is not None and len(description) > rules.description_length:
        description = description[: rules.description_length - 1] + "…"
        changes["tool descriptions cut"] += 1
    if schema is not tool.parameters:
        changes["tool schemas adapted"] += 1
    if name != tool.name:
        changes["tools renamed"] += 1
    if name == tool.name and schema is tool.parameters and description is tool.description:
        return tool
    return ToolSpec(name=name, description=description, parameters=schema)


def _history(
    messages: tuple[Message, ...],
    rules: Rules,
    origin: str,
    keys: Mapping[str, Mapping[str, str]],
    changes: Counter[str],
) -> Sequence[Message]:
    paired = mend(messages)
    if paired is not messages:
        changes["calls and results paired"] += 1
    legal = _legal_messages(paired, rules, origin, _old_to_new(keys), changes)
    ordered = legal_order(legal, rules, changes)
    return messages if ordered is legal and legal is paired and paired is messages else ordered


def _old_to_new(keys: Mapping[str, Mapping[str, str]]) -> Mapping[str, Mapping[str, str]]:
    if not keys:
        return _NOTHING
    return {tool: {old: new for new, old in renamed.items()} for tool, renamed in keys.items()}


def _legal_messages(
    messages: tuple[Message, ...],
    rules: Rules,
    origin: str,
    keys: Mapping[str, Mapping[str, str]],
    changes: Counter[str],
) -> tuple[Message, ...]:
    """Return the messages with legal contents, calls and ids; the same tuple when nothing changes."""
    ids = CallIds(rules)
    legal: list[Message] = []
    changed = False
    # Ids of the calls whose results come next, in call order: `mend` has ensured this order.
    following: list[str] = []
    for message in messages:
        fresh = legal_content(message, rules, origin, changes)
        if fresh.tool_calls:
            fresh, following = _legal_calls(fresh, ids, rules, keys, changes)
        elif fresh.role == "tool":
            new = following.pop(0)
            if new != fresh.tool_call_id:
                fresh = attrs.evolve(fresh, tool_call_id=new)
        changed = changed or fresh is not message
        legal.append(fresh)
    return tuple(legal) if changed else messages


def _legal_calls(
    message: Message, ids: CallIds, rules: Rules, keys: Mapping[str, Mapping[str, str]], changes: Counter[str]
) -> tuple[Message, list[str]]:
    calls: list[ToolCall] = []
    renamed: dict[str, str] = {}
    for call in message.tool_calls:
        id_ = ids.place(call.id)
        name = wire_name(call.name, rules.name_pattern, rules.name_length)
        fresh = legal_call(call, id_, rules, keys.get(name, _NOTHING) if keys else _NOTHING)
        if fresh is not call:
            renamed |= {call.id: id_} if call.id and id_ != call.id else {}
            _count_changes(call, fresh, changes)
        calls.append(fresh)
    if any(one is not other for one, other in zip(calls, message.tool_calls, strict=True)):
        message = attrs.evolve(message, tool_calls=tuple(calls))
        if renamed:
            message = with_new_call_ids(message, renamed)
    stood_in = with_stand_ins(message, rules)
    if stood_in is not message:
        changes["stand-ins for missing reasoning put in"] += 1
    return stood_in, [call.id for call in calls]


def _count_changes(call: ToolCall, fresh: ToolCall, changes: Counter[str]) -> None:
    changes["call ids rewritten"] += fresh.id != call.id
    changes["tool names of calls rewritten"] += fresh.name != call.name
    changes["arguments of calls rewritten"] += fresh.arguments != call.arguments
