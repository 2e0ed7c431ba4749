"""JSON Schemas of tool arguments, in the form that a target accepts.

A schema of an MCP server or of the user may lack what a vendor requires, or contain what it refuses. It is converted
to an accepted schema that describes the same arguments as closely as the target's keywords allow.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import unquote

import attrs

from clawft_trio.llm.conform.calls import digest, fits
from clawft_trio.llm.conform.keywords import (
    TYPING,
    any_value,
    fits_patterns,
    in_fewer_keywords,
    merge,
    repair,
    tighten_properties,
    with_text_enum,
    without_conditions,
    without_null,
    without_type_list,
)
from clawft_trio.llm.conform.rules import SchemaRules

_MAPS = ("properties", "$defs", "definitions", "patternProperties", "dependentSchemas")
_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
_SINGLES = ("items", "additionalProperties", "not", "if", "then", "else", "contains", "propertyNames",
            "additionalItems", "unevaluatedProperties", "unevaluatedItems")  # fmt: skip

_MOST_NODES = 5000
"""Limit of schemas inside one schema: more than any real one has, and few enough not to block the event loop."""


class TooLarge(ValueError):
    """A schema contains more than `_MOST_NODES` schemas."""


@attrs.frozen
class LegalSchema:
    """A schema that the target accepts, and its renamed properties: new name to old name."""

    schema: Mapping[str, Any]
    keys: Mapping[str, str]


def legal_schema(schema: object, rules: SchemaRules) -> LegalSchema:
    """Return the arguments *schema* of a tool in a form that *rules* accept; the same object when nothing changes.

    Raises:
      TooLarge: it contains too many schemas.
    """
    root = schema if isinstance(schema, Mapping) else {}
    walk = _Walk(root, rules)
    legal = walk.top(root)
    return LegalSchema(schema if legal == schema and isinstance(schema, Mapping) else legal, walk.renamed)


class _Walk:
    """Converts one schema to a legal form."""

    def __init__(self, root: Mapping[str, Any], rules: SchemaRules) -> None:
        self._root = root
        self._rules = rules
        self._nodes = 0
        #: renamed properties: legal name to original name
        self.renamed: dict[str, str] = {}

    def top(self, root: Mapping[str, Any]) -> dict[str, Any]:
        merged = self._merged(root, depth=0)
        for keyword in (*self._rules.no_top_level, "items", "prefixItems", "nullable"):
            merged.pop(keyword, None)
        legal = self._legal(merged | {"type": "object"}, 0, ())
        legal.setdefault("properties", {})
        return legal

    def _merged(self, schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
        """Return *schema* with the combinations that the top level must not have merged into its properties."""
        merged = dict(schema)
        if depth >= 8:
            return merged
        if "$ref" in self._rules.no_top_level and isinstance(merged.get("$ref"), str):
            target = self._resolve(merged.pop("$ref"))
            merged = {**target, **merged}
        for keyword in ("allOf", "anyOf", "oneOf"):
            branches = merged.get(keyword)
            if keyword not in self._rules.no_top_level or not isinstance(branches, Sequence):
                continue
            options = [self._merged(one, depth + 1) for one in branches if isinstance(one, Mapping)]
            merge(merged, options, every=keyword == "allOf")
        return merged

    def _legal(self, schema: object, depth: int, following: tuple[str, ...]) -> dict[str, Any]:
        self._nodes += 1
        if self._nodes > _MOST_NODES:
            raise TooLarge(f"more than {_MOST_NODES} schemas in one")
        if not isinstance(schema, Mapping) or depth > self._rules.depth:
            # `true` accepts everything; `false` accepts nothing, which no vendor can express.
            return any_value() if self._rules.typed else {}
        own = dict(schema)
        reference = own.get("$ref")
        if isinstance(reference, str):
            if reference in following:
                return {"type": "object"} if not self._rules.refs else own
            target = self._resolve(reference)
            own["$ref"] = unquote(reference)
            if not self._rules.refs or not target:
                own.pop("$ref")
                return self._legal({**target, **own}, depth + 1, (*following, reference))
        elif reference is not None:
            own.pop("$ref")
        if not self._rules.refs:
            own.pop("$defs", None)
            own.pop("definitions", None)
        repair(own)
        following = self._open_all(own, following)
        self._limit(own)
        return self._finished(self._inside(own, depth, following))

    def _open_all(self, own: dict[str, Any], following: tuple[str, ...]) -> tuple[str, ...]:
        """Replace references inside `allOf` by what they refer to, for targets that accept neither."""
        if self._rules.refs or not isinstance(own.get("allOf"), list):
            return following
        opened: list[Any] = []
        waiting = [*own["allOf"]]
        while waiting:
            option = waiting.pop(0)
            reference = option.get("$ref") if isinstance(option, Mapping) else None
            if isinstance(reference, str):
                if reference in following:
                    continue
                following = (*following, reference)
                rest = {key: value for key, value in option.items() if key != "$ref"}
                option = {**self._resolve(reference), **rest}
            if isinstance(option, Mapping) and isinstance(option.get("allOf"), list):
                waiting[:0] = option["allOf"]
                option = {key: value for key, value in option.items() if key != "allOf"}
            opened.append(option)
            self._nodes += 1
            if self._nodes > _MOST_NODES:
                raise TooLarge(f"more than {_MOST_NODES} schemas in one")
        own["allOf"] = opened
        return following

    def _inside(self, own: dict[str, Any], depth: int, following: tuple[str, ...]) -> dict[str, Any]:
        """Return *own* with legal inner schemas."""
        legal = dict(own)
        for keyword in _MAPS:
            if isinstance(own.get(keyword), Mapping):
                named = keyword == "properties"
                legal[keyword] = {
                    self._key(name) if named else name: self._legal(one, depth + 1, following)
                    for name, one in own[keyword].items()
                }
            elif keyword in own:
                del legal[keyword]
        for keyword in _LISTS:
            if isinstance(own.get(keyword), list) and own[keyword]:
                legal[keyword] = [self._legal(one, depth + 1, following) for one in own[keyword]]
            elif keyword in own:
                del legal[keyword]
        for keyword in _SINGLES:
            if isinstance(own.get(keyword), Mapping):
                legal[keyword] = self._legal(own[keyword], depth + 1, following)
        if isinstance(own.get("required"), list):
            required = [self._key(name) for name in own["required"] if name in own.get("properties", {})]
            legal["required"] = list(dict.fromkeys(required))
            if not legal["required"]:
                del legal["required"]
        if _may_be(legal, "array") and not isinstance(legal.get("items"), Mapping):
            legal["items"] = self._items(legal)
        return legal

    def _items(self, array: Mapping[str, Any]) -> dict[str, Any]:
        prefix = array.get("prefixItems")
        options = [one for one in prefix if isinstance(one, dict)] if isinstance(prefix, list) else []
        unlike = [one for number, one in enumerate(options) if one not in options[:number]]
        if not unlike or {} in unlike:
            return dict(self._rules.items)
        return unlike[0] if len(unlike) == 1 else {"anyOf": unlike}

    def _limit(self, own: dict[str, Any]) -> None:
        """Replace keywords that the target does not accept by equivalent ones that it accepts."""
        rules = self._rules
        if rules.keywords is not None:
            in_fewer_keywords(own, rules.keywords)
        if not rules.type_lists:
            if isinstance(own.get("type"), list):
                without_type_list(own)
            without_null(own)
        if rules.formats is not None and own.get("format") not in rules.formats:
            own.pop("format", None)
        if not fits_patterns(own.get("pattern"), rules.patterns):
            own.pop("pattern", None)
        if rules.typed:
            without_conditions(own)
        if not rules.typed_alternatives and "type" in own and isinstance(own.get("anyOf"), list):
            kind = own.pop("type")
            own["anyOf"] = [{"type": kind, **one} if isinstance(one, Mapping) else one for one in own["anyOf"]]
        if not rules.mixed_enums and isinstance(own.get("enum"), list):
            with_text_enum(own)

    def _finished(self, legal: dict[str, Any]) -> dict[str, Any]:
        """Return *legal* without refused keywords, and with a type where one is required."""
        rules = self._rules
        if rules.keywords is not None:
            legal = {key: value for key, value in legal.items() if key in rules.keywords}
        for keyword in rules.drops:
            legal.pop(keyword, None)
        if not rules.loose_properties:
            tighten_properties(legal)
        if rules.typed and not any(key in legal for key in TYPING):
            # At this point it has at most a description: everything else implied a type.
            legal |= any_value()
        return legal

    def _key(self, name: str) -> str:
        if fits(name, self._rules.key_pattern):
            return name
        clean = "".join(one if one.isascii() and (one.isalnum() or one == "_") else "_" for one in name)
        new = f"{clean[:40].strip('_') or 'key'}_{digest(name, 8)}"
        new = new if fits(new, self._rules.key_pattern) else f"key_{digest(name, 8)}"
        self.renamed[new] = name
        return new

    def _resolve(self, reference: str) -> Mapping[str, Any]:
        """Return what *reference* refers to inside the schema; empty when it refers to nothing or outside."""
        if not reference.startswith("#"):
            return {}
        found: Any = self._root
        for step in _steps(reference):
            if isinstance(found, Mapping) and step in found:
                found = found[step]
            elif isinstance(found, list) and step.isdecimal() and int(step) < len(found):
                found = found[int(step)]
            else:
                return {}
        return found if isinstance(found, Mapping) else {}


def _may_be(schema: Mapping[str, Any], kind: str) -> bool:
    given = schema.get("type")
    return kind in given if isinstance(given, list) else given == kind


def _steps(reference: str) -> Iterator[str]:
    for step in unquote(reference.removeprefix("#")).split("/"):
        if step:
            yield step.replace("~1", "/").replace("~0", "~")
