"""Changes the options of a request for a target: refused options are left out, limited values are reduced."""

from __future__ import annotations

from collections import Counter
from typing import Any

from clawft_trio.chat import ChatRequest
from clawft_trio.llm.conform.rules import Rules

EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
"""Values of `reasoning_effort` of all vendors, weakest first."""

SMALLEST_BUDGET = 1024
"""Tokens: Anthropic refuses a smaller `budget_tokens`."""

_EFFORT_BUDGETS = {"minimal": 1024, "low": 2048, "medium": 8192, "high": 16_384, "xhigh": 32_768, "max": 32_768}


def legal_options(request: ChatRequest, rules: Rules, changes: Counter[str]) -> dict[str, Any]:
    """Return the fields of *request* that have to change for the target, with their new values."""
    new: dict[str, Any] = {}
    for option in rules.refuses:
        if option != "tools" and getattr(request, option) not in (None, ()):
            new[option] = () if option == "stop" else None
            changes["response_schema written in words" if option == "response_schema" else f"{option} left out"] += 1
    _limit_effort(request, rules, new, changes)
    if rules.thinking == "anthropic":
        _limit_anthropic_thinking(request, new, changes)
        if rules.adaptive_thinking:
            _cool_adaptive_thinking(request, new, changes)
    _limit_temperature(request, rules, new, changes)
    _limit_stops(request, rules, new, changes)
    _limit_choice(request, rules, new, changes)
    return new


def _now(request: ChatRequest, new: dict[str, Any], name: str) -> Any:
    return new[name] if name in new else getattr(request, name)


def _limit_effort(request: ChatRequest, rules: Rules, new: dict[str, Any], changes: Counter[str]) -> None:
    effort = _now(request, new, "reasoning_effort")
    if effort is None or rules.efforts is None or effort in rules.efforts:
        return
    if rules.thinking == "anthropic" and not rules.efforts and effort in _EFFORT_BUDGETS:
        new["reasoning_effort"] = None
        if request.thinking_budget is None and "thinking_budget" not in rules.refuses:
            new["thinking_budget"] = _EFFORT_BUDGETS[effort]
            changes["reasoning_effort sent as a thinking budget"] += 1
        return
    nearest = _nearest(effort, rules.efforts)
    new["reasoning_effort"] = nearest
    changes["reasoning_effort left out" if nearest is None else f"reasoning_effort set to {nearest}"] += 1


def _nearest(effort: str, known: tuple[str, ...]) -> str | None:
    """Return the value of *known* that is nearest to *effort*, the weaker of two; None when there is none."""
    if effort not in EFFORTS or effort == "none":
        return None
    wanted = EFFORTS.index(effort)
    ranked = [one for one in known if one in EFFORTS and one != "none"]
    return min(ranked, key=lambda one: (abs(EFFORTS.index(one) - wanted), EFFORTS.index(one)), default=None)


def _limit_temperature(request: ChatRequest, rules: Rules, new: dict[str, Any], changes: Counter[str]) -> None:
    temperature = _now(request, new, "temperature")
    if temperature is None:
        return
    effort = _now(request, new, "reasoning_effort") or ""
    reasons = rules.temperature_efforts is not None and effort not in rules.temperature_efforts
    if reasons or (rules.only_temperature is not None and temperature != rules.only_temperature):
        new["temperature"] = None
        changes["temperature left out"] += 1
    elif temperature > rules.hottest:
        new["temperature"] = rules.hottest
        changes["temperature lowered"] += 1


def _limit_stops(request: ChatRequest, rules: Rules, new: dict[str, Any], changes: Counter[str]) -> None:
    stops = _now(request, new, "stop")
    kept = tuple(stop for stop in stops if stop and (stop.strip() or not rules.visible_stops))[: rules.most_stops]
    if kept != stops:
        new["stop"] = kept
        changes["stop sequences left out"] += len(stops) - len(kept)


def _limit_choice(request: ChatRequest, rules: Rules, new: dict[str, Any], changes: Counter[str]) -> None:
    choice = request.tool_choice
    if not request.tools or choice == "auto" or choice in rules.tool_choices:
        return
    named = choice not in {"none", "required"}
    if named and rules.named_choice:
        return
    new["tool_choice"] = "required" if named and "required" in rules.tool_choices else "auto"
    if choice == "none":
        # The only remaining way to prevent tool calls.
        new["tools"] = ()
    changes[f"tool_choice set to {new['tool_choice']}"] += 1


def _limit_anthropic_thinking(request: ChatRequest, new: dict[str, Any], changes: Counter[str]) -> None:
    """Apply Anthropic's conditions for thinking: a budget below `max_tokens`, no forced tool, no temperature but 1."""
    budget = _now(request, new, "thinking_budget")
    if not budget:
        return
    limit = request.max_tokens
    if limit is not None and budget >= limit:
        # A quarter is left for the answer.
        budget = limit * 3 // 4
    why = ""
    if budget < SMALLEST_BUDGET:
        why = "the answer's limit leaves no room for it"
    elif request.tools and request.tool_choice not in {"auto", "none"}:
        why = "a tool is forced"
    elif _continues_without_thinking(request):
        why = "this turn was begun without it"
    if why:
        new["thinking_budget"] = None
        changes[f"thinking left out: {why}"] += 1
        return
    if budget != request.thinking_budget:
        new["thinking_budget"] = budget
    if _now(request, new, "temperature") not in (None, 1):
        new["temperature"] = None
        changes["temperature left out: the model thinks"] += 1


def _cool_adaptive_thinking(request: ChatRequest, new: dict[str, Any], changes: Counter[str]) -> None:
    """Remove the temperature while a model with adaptive thinking has an effort set: it then accepts none."""
    thinks = _now(request, new, "reasoning_effort") not in (None, "none")
    if thinks and _now(request, new, "temperature") not in (None, 1):
        new["temperature"] = None
        changes["temperature left out: the model thinks"] += 1


def _continues_without_thinking(request: ChatRequest) -> bool:
    """Return whether the answer continues the last assistant message or its results, which began without thinking."""
    messages = request.messages
    last = next((place for place in reversed(range(len(messages))) if messages[place].role == "assistant"), None)
    if last is None or not (last == len(messages) - 1 or any(message.role == "tool" for message in messages[last:])):
        return False
    calling = messages[last]
    first = next((part for part in calling.content if getattr(part, "dialect", "") == "anthropic"), None)
    return getattr(first, "block", {}).get("type") not in {"thinking", "redacted_thinking"}
