"""JSON Schemas of tool arguments, in the form that a target accepts.

A schema of an MCP server or a user's own may lack what a vendor insists on, or hold what it refuses. Here it becomes
one that is accepted and describes the same arguments as closely as the target's keywords allow.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs

from clawft_trio.llm.conform.calls import digest, fits
from clawft_trio.llm.conform.rules import SchemaRules

_TYPES = frozenset({"object", "array", "string", "number", "integer", "boolean", "null"})
_MAPS = ("properties", "$defs", "definitions", "patternProperties", "dependentSchemas")
_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
_SINGLES = ("items", "additionalProperties", "not", "if", "then", "else", "contains", "propertyNames",
            "additionalItems", "unevaluatedProperties", "unevaluatedItems")  # fmt: skip
_NUMBERS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength",
            "minItems", "maxItems", "minProperties", "maxProperties")  # fmt: skip
_MOST_NODES = 20_000
"""Schemas inside one schema: more than any real one has, and few enough to walk without stopping the loop."""


class TooLarge(ValueError):
    """A schema that holds more schemas than `_MOST_NODES`."""


@attrs.frozen
class LegalSchema:
    """A schema that the target accepts, and the names of properties that had to change: new to old."""

    schema: Mapping[str, Any]
    keys: Mapping[str, str]


def legal_schema(schema: object, rules: SchemaRules) -> LegalSchema:
    """*schema* of a tool's arguments as *rules* accept it; the same object when nothing has to change.

    Raises:
      TooLarge: it holds too many schemas.
    """
    root = schema if isinstance(schema, Mapping) else {}
    walk = _Walk(root, rules)
    legal = walk.top(root)
    return LegalSchema(schema if legal == schema and isinstance(schema, Mapping) else legal, walk.renamed)


class _Walk:
    """One schema on its way to a legal form."""

    def __init__(self, root: Mapping[str, Any], rules: SchemaRules) -> None:
        self._root = root
        self._rules = rules
        self._nodes = 0
        #: legal names of properties, to the names that they stand for
        self.renamed: dict[str, str] = {}

    def top(self, root: Mapping[str, Any]) -> dict[str, Any]:
        merged = self._merged(root, depth=0)
        for keyword in self._rules.no_top_level:
            merged.pop(keyword, None)
        legal = self._legal(merged | {"type": "object"}, 0, ())
        legal.setdefault("properties", {})
        return legal

    # --- combinations at the top -------------------------------------------------------------------------

    def _merged(self, schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
        """*schema* with its combinations merged into its properties, where the top level must not have them."""
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
            _merge(merged, options, every=keyword == "allOf")
        return merged

    # --- one schema --------------------------------------------------------------------------------------

    def _legal(self, schema: object, depth: int, following: tuple[str, ...]) -> dict[str, Any]:
        self._nodes += 1
        if self._nodes > _MOST_NODES:
            raise TooLarge(f"more than {_MOST_NODES} schemas in one")
        if not isinstance(schema, Mapping) or depth > self._rules.depth:
            # `true` accepts everything; `false` accepts nothing, which no vendor can express.
            return {}
        own = dict(schema)
        reference = own.get("$ref")
        if isinstance(reference, str):
            if reference in following:
                return self._only_known({"type": "object"}) if not self._rules.refs else own
            target = self._resolve(reference)
            if not self._rules.refs or not target:
                own.pop("$ref")
                return self._legal({**target, **own}, depth + 1, (*following, reference))
        elif reference is not None:
            own.pop("$ref")
        _repair(own)
        self._limit(own)
        return self._only_known(self._inside(own, depth, following))

    def _inside(self, own: dict[str, Any], depth: int, following: tuple[str, ...]) -> dict[str, Any]:
        """*own* with the schemas in it made legal."""
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
        if legal.get("type") == "array" and not isinstance(legal.get("items"), Mapping):
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
        """Express in the target's keywords what *own* expresses in others."""
        rules = self._rules
        if rules.keywords is not None:
            _in_fewer_keywords(own, rules.keywords)
        if not rules.type_lists and isinstance(own.get("type"), list):
            _without_type_list(own)
        if rules.formats is not None and own.get("format") not in rules.formats:
            own.pop("format", None)
        if not rules.typed_alternatives and "type" in own and isinstance(own.get("anyOf"), list):
            kind = own.pop("type")
            own["anyOf"] = [{"type": kind, **one} if isinstance(one, Mapping) else one for one in own["anyOf"]]
        if not rules.mixed_enums and isinstance(own.get("enum"), list):
            _with_text_enum(own)

    def _only_known(self, legal: dict[str, Any]) -> dict[str, Any]:
        keywords = self._rules.keywords
        return legal if keywords is None else {key: value for key, value in legal.items() if key in keywords}

    # --- names and references ----------------------------------------------------------------------------

    def _key(self, name: str) -> str:
        if fits(name, self._rules.key_pattern):
            return name
        clean = "".join(one if one.isascii() and (one.isalnum() or one == "_") else "_" for one in name)
        new = f"{clean[:40].strip('_') or 'key'}_{digest(name, 8)}"
        new = new if fits(new, self._rules.key_pattern) else f"key_{digest(name, 8)}"
        self.renamed[new] = name
        return new

    def _resolve(self, reference: str) -> Mapping[str, Any]:
        """What *reference* leads to inside the schema; empty when it leads nowhere or out of it."""
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


def _steps(reference: str) -> Iterator[str]:
    for step in reference.removeprefix("#").split("/"):
        if step:
            yield step.replace("~1", "/").replace("~0", "~")


def _merge(merged: dict[str, Any], options: Sequence[Mapping[str, Any]], *, every: bool) -> None:
    """Put the properties of *options* into *merged*. Required is what each option requires, or with *every* any."""
    properties: dict[str, Any] = {}
    for option in options:
        inner = option.get("properties")
        for name, one in inner.items() if isinstance(inner, Mapping) else ():
            known = properties.get(name)
            properties[name] = one if known in (None, one) else _either(known, one)
    own = merged.get("properties")
    if properties:
        merged["properties"] = {**properties, **(own if isinstance(own, Mapping) else {})}
    lists = [[name for name in _list(option.get("required")) if isinstance(name, str)] for option in options]
    if every:
        required = [name for names in lists for name in names]
    else:
        required = [name for name in (lists[0] if lists else ()) if all(name in names for names in lists)]
    if required:
        merged["required"] = list(dict.fromkeys([*_list(merged.get("required")), *required]))


def _either(one: Any, other: Any) -> dict[str, Any]:
    options = one["anyOf"] if isinstance(one, dict) and set(one) == {"anyOf"} else [one]
    return {"anyOf": options if other in options else [*options, other]}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


# --- repairs for every target ------------------------------------------------------------------------


def _repair(own: dict[str, Any]) -> None:
    """Mend what no draft from 2019 on allows: draft-04's booleans, `items` as a list, types that do not exist."""
    own.pop("$schema", None)
    own.pop("$id", None)
    own.pop("id", None) if isinstance(own.get("id"), str) else None
    for limit, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if isinstance(own.get(exclusive), bool) and own.pop(exclusive) and limit in own:
            own[exclusive] = own.pop(limit)
    for keyword in _NUMBERS:
        if keyword in own and (isinstance(own[keyword], bool) or not isinstance(own[keyword], int | float)):
            del own[keyword]
    if isinstance(own.get("items"), list):
        own.setdefault("prefixItems", own.pop("items"))
        if isinstance(own.get("additionalItems"), Mapping | bool):
            extra = own.pop("additionalItems")
            own |= {"items": extra} if isinstance(extra, Mapping) else {}
    if "required" in own and not isinstance(own["required"], list):
        del own["required"]
    if "enum" in own and not (isinstance(own["enum"], list) and own["enum"]):
        del own["enum"]
    _repair_type(own)


def _repair_type(own: dict[str, Any]) -> None:
    kind = own.get("type")
    if isinstance(kind, list):
        kinds = [one for one in kind if one in _TYPES]
        own["type"] = kinds
        if len(kinds) < 2:
            own.pop("type")
            own |= {"type": kinds[0]} if kinds else {}
    elif kind is not None and kind not in _TYPES:
        del own["type"]
    if "type" not in own and not any(key in own for key in ("anyOf", "oneOf", "allOf", "$ref", "enum", "const")):
        if isinstance(own.get("properties"), Mapping):
            own["type"] = "object"
        elif "items" in own or "prefixItems" in own:
            own["type"] = "array"


# --- fewer keywords ----------------------------------------------------------------------------------


def _in_fewer_keywords(own: dict[str, Any], keywords: frozenset[str]) -> None:
    """Replace keywords that *keywords* does not have by equivalent ones that it has."""
    if "const" in own and "const" not in keywords:
        own["enum"] = [own.pop("const")]
    if "oneOf" in own and "oneOf" not in keywords:
        own["anyOf"] = [*_list(own.get("anyOf")), *_list(own.pop("oneOf"))]
    if "allOf" in own and "allOf" not in keywords:
        for option in _list(own.pop("allOf")):
            if isinstance(option, Mapping):
                _merge(own, [option], every=True)
                own |= {key: value for key, value in option.items() if key not in own}
    for exclusive, limit in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if exclusive in own and exclusive not in keywords:
            own.setdefault(limit, own.pop(exclusive))
    if isinstance(own.get("additionalProperties"), Mapping) and "additionalProperties" not in keywords:
        own.setdefault("type", "object")


def _without_type_list(own: dict[str, Any]) -> None:
    kinds = [kind for kind in own.pop("type") if kind != "null"]
    if len(kinds) == 1:
        own |= {"type": kinds[0], "nullable": True}
    elif kinds:
        own.setdefault("anyOf", [{"type": kind} for kind in kinds])
        own["nullable"] = True


def _with_text_enum(own: dict[str, Any]) -> None:
    values = own["enum"]
    texts = [value for value in values if isinstance(value, str)]
    if len(texts) < len(values) - values.count(None):
        # Numbers and objects: their type is more useful than their text.
        del own["enum"]
        if all(isinstance(value, int) and not isinstance(value, bool) for value in values):
            own.setdefault("type", "integer")
        return
    own["enum"] = texts or [""]
    own["type"] = "string"
    if None in values:
        own["nullable"] = True


# --- strict mode -------------------------------------------------------------------------------------

STRICT_KEYWORDS = frozenset(
    {"type", "properties", "required", "additionalProperties", "items", "anyOf", "enum", "const", "$ref", "$defs",
     "definitions", "description", "title", "pattern", "format", "minimum", "maximum", "exclusiveMinimum",
     "exclusiveMaximum", "multipleOf", "minItems", "maxItems", "minLength", "maxLength", "default"}
)  # fmt: skip
"""What OpenAI's structured outputs know (platform.openai.com, Structured outputs, "Supported schemas")."""


def fits_strict(schema: object) -> bool:
    """Whether OpenAI promises the shape of *schema* (`strict`); it refuses the promise for any other.

    Every object requires all its properties and forbids others; the outermost schema is an object and no combination.
    """
    if not isinstance(schema, Mapping) or schema.get("type") != "object" or "anyOf" in schema:
        return False
    return _is_closed(schema, 0)


def _is_closed(schema: object, depth: int) -> bool:
    if not isinstance(schema, Mapping):
        return False
    if depth > 10 or not schema.keys() <= STRICT_KEYWORDS:
        return False
    properties = schema.get("properties")
    if schema.get("type") == "object" or isinstance(properties, Mapping):
        required = schema.get("required") or ()
        if schema.get("additionalProperties") is not False or set(required) != set(properties or ()):
            return False
    inner = [*(properties or {}).values(), *_list(schema.get("anyOf"))]
    for keyword in ("$defs", "definitions"):
        inner += (schema.get(keyword) or {}).values()
    if "items" in schema:
        inner.append(schema["items"])
    return all(_is_closed(one, depth + 1) for one in inner)
