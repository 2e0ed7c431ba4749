"""What a target accepts, as data: one frozen record per dialect, vendor and model family.

The catalog has a `VendorRules` for each vendor: the rules of all its models and, by patterns of model names, the
differences of model families. `overlay` applies a user's own changes, from code or from config.json.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

import attrs

from clawft_trio.errors import InvalidData, Problem

Option: TypeAlias = Literal[
    "temperature",
    "stop",
    "seed",
    "reasoning_effort",
    "thinking_budget",
    "verbosity",
    "response_schema",
    "tools",
]
"""Options of a `ChatRequest` that a target may refuse."""

ThinkingForm: TypeAlias = Literal[
    "none", "effort", "anthropic", "openrouter", "google", "enable_thinking", "type", "type_and_effort"
]
"""How a thinking budget or effort is sent: not at all; `reasoning_effort`; Anthropic's `thinking` and
`output_config`; OpenRouter's `reasoning`; Google's `thinking_config`; DashScope's `enable_thinking`;
`thinking: {"type": …}` (Moonshot, Zhipu); or that together with `reasoning_effort` (DeepSeek)."""

Patterns: TypeAlias = Literal["any", "plain", "none"]
"""Regular expressions accepted in `pattern`: any; only plain ones (no lookaround, no `\\p{…}`); none."""

COMMON_IMAGES = ("image/png", "image/jpeg", "image/gif", "image/webp")
"""Image formats that OpenAI and Anthropic both document."""


def _texts(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(values)


def _set(values: Iterable[str]) -> frozenset[str]:
    return frozenset(values)


def _optional_set(values: Iterable[str] | None) -> frozenset[str] | None:
    return None if values is None else frozenset(values)


def _optional_texts(values: Iterable[str] | None) -> tuple[str, ...] | None:
    return None if values is None else tuple(values)


def _is_pattern(_: object, attribute: attrs.Attribute[Any], value: str) -> None:
    try:
        re.compile(value)
    except re.error as exc:
        raise ValueError(f"{attribute.name} is no regular expression: {exc}") from exc


def _pattern(default: str) -> Any:
    return attrs.field(default=default, validator=_is_pattern)


@attrs.frozen(kw_only=True)
class SchemaRules:
    """JSON Schemas of tool arguments that a target accepts."""

    #: keywords that are refused in the outermost schema; they are merged into its properties
    no_top_level: frozenset[str] = attrs.field(
        default=frozenset({"anyOf", "oneOf", "allOf", "enum", "const", "not", "if", "then", "else", "$ref"}),
        converter=_set,
    )
    #: the only accepted keywords; None: every keyword
    keywords: frozenset[str] | None = attrs.field(default=None, converter=_optional_set)
    #: the only accepted values of `format`; None: every value
    formats: frozenset[str] | None = attrs.field(default=None, converter=_optional_set)
    #: keywords that are refused in every schema; they are removed
    drops: frozenset[str] = attrs.field(default=frozenset(), converter=_set)
    #: regular expressions accepted in `pattern`; others are removed
    patterns: Patterns = "plain"
    #: whether every schema needs a type; a schema without one then accepts the usual types
    typed: bool = False
    #: whether `properties` and `required` may occur with a type other than object, and `properties` may be empty
    loose_properties: bool = True
    #: whether `$ref` is accepted; otherwise it is replaced by its definition
    refs: bool = True
    #: whether `type` may be a list; otherwise `null` becomes `nullable` and the other types become `anyOf`
    type_lists: bool = True
    #: whether an `enum` may contain values other than strings
    mixed_enums: bool = True
    #: items of an array whose schema does not describe them
    items: Mapping[str, Any] = attrs.field(factory=dict)
    #: pattern of property names
    key_pattern: str = _pattern(r"[\s\S]{1,256}")
    #: whether `type` may occur beside `anyOf`; otherwise it is moved into each alternative
    typed_alternatives: bool = True
    #: levels of nesting; deeper schemas are replaced by one that accepts anything
    depth: int = 32


@attrs.frozen(kw_only=True)
class Rules:
    """What one target accepts. The defaults are those of a tolerant OpenAI-compatible server."""

    #: pattern of call ids
    id_pattern: str = _pattern(r"[\s\S]{1,256}")
    #: prefix of an id that replaces an invalid one
    id_prefix: str = "call_"
    #: length of such an id in characters, prefix included
    id_length: int = 29
    #: pattern of tool names
    name_pattern: str = _pattern(r"[a-zA-Z0-9_-]{1,64}")
    #: longest tool name in characters
    name_length: int = 64
    #: longest tool description in characters; None: no limit
    description_length: int | None = None
    #: largest number of tools in one request; None: no limit
    most_tools: int | None = None
    #: JSON Schemas of tool arguments that are accepted
    schemas: SchemaRules = SchemaRules()

    #: whether the first message after the system messages must be the user's
    first_user: bool = False
    #: whether the last message must not be the assistant's
    last_user: bool = False
    #: whether a last assistant message may end with whitespace
    blank_end: bool = True
    #: whether two consecutive messages of the user or of the assistant are refused
    alternate: bool = False
    #: whether calls are accepted only right after a user message or a tool result, not after an assistant message
    calls_after_user: bool = False
    #: whether a user message may follow a tool result
    user_after_tool: bool = True
    #: whether system messages are accepted only at the beginning
    system_first: bool = False
    #: role that system messages are sent with
    system_role: Literal["system", "developer", "user"] = "system"
    #: text of a tool result without text; empty: such results are accepted
    blank_result: str = ""
    #: whether the content of a message with calls and without text may be null; otherwise it is an empty text
    null_content: bool = True

    #: dialects of the opaque blocks that are accepted from the model that created them
    opaque: tuple[str, ...] = attrs.field(default=(), converter=_texts)
    #: types of opaque blocks that are accepted from every model of the same provider
    shared_blocks: frozenset[str] = attrs.field(default=frozenset(), converter=_set)
    #: `reasoning_content` of a message with calls where it is missing or empty; None: it may be missing
    reasoning_stand_in: str | None = None
    #: `thought_signature` of the first call of a message where it is missing; None: it may be missing
    signature_stand_in: str | None = None

    #: accepted media types of images; empty: no images
    image_types: tuple[str, ...] = attrs.field(default=COMMON_IMAGES, converter=_texts)
    #: whether images may be given by URL
    image_urls: bool = True
    #: whether a tool result may contain images and files; otherwise they follow it in a user message
    media_in_results: bool = False
    #: accepted media types of documents and audio; `audio/*` accepts all audio types
    file_types: tuple[str, ...] = attrs.field(default=(), converter=_texts)
    #: accepted URL schemes
    url_schemes: tuple[str, ...] = attrs.field(default=("https", "http"), converter=_texts)
    #: whether documents may be given by URL
    file_urls: bool = False
    #: whether audio is a `data:` URL in the OpenAI dialect, instead of plain base64
    audio_addresses: bool = False
    #: form of documents in the OpenAI dialect
    file_form: Literal["file", "document_url"] = "file"

    #: options that are refused and left out
    refuses: frozenset[str] = attrs.field(default=frozenset(), converter=_set)
    #: highest temperature
    hottest: float = 2.0
    #: the only accepted temperature besides none; None: every temperature
    only_temperature: float | None = None
    #: efforts with which a temperature is accepted, an empty string for no effort; None: all
    temperature_efforts: tuple[str, ...] | None = attrs.field(default=None, converter=_optional_texts)
    #: accepted values of `reasoning_effort`, weakest first; None: unknown, any value is sent
    efforts: tuple[str, ...] | None = attrs.field(default=None, converter=_optional_texts)
    #: accepted answer schemas: any; or only closed objects without limits (Anthropic)
    answer_schemas: Literal["any", "closed"] = "any"
    #: whether the models accept `thinking: {"type": "adaptive"}` and choose their own thinking budget (Anthropic)
    adaptive_thinking: bool = False
    #: form in which a thinking budget or effort is sent
    thinking: ThinkingForm = "effort"
    #: largest number of stop sequences; None: no limit
    most_stops: int | None = None
    #: whether stop sequences without visible characters are refused
    visible_stops: bool = False
    #: accepted values of `tool_choice` besides tool names; any other value becomes `auto`
    tool_choices: tuple[str, ...] = attrs.field(default=("auto", "none", "required"), converter=_texts)
    #: whether `tool_choice` may name a tool
    named_choice: bool = True


Family: TypeAlias = tuple[str, Mapping[str, Any]]
"""A pattern of lower-case model names (`gpt-5*`), and the fields of `Rules` that differ for these models."""


def _families(families: Iterable[Family]) -> tuple[Family, ...]:
    return tuple((pattern, MappingProxyType(dict(changes))) for pattern, changes in families)


@attrs.frozen
class VendorRules:
    """The rules of a vendor, and the differences of its model families; later families override earlier ones."""

    common: Rules = Rules()
    families: tuple[Family, ...] = attrs.field(default=(), converter=_families)

    def of(self, model: str) -> Rules:
        """Return the rules for *model*."""
        rules, name = self.common, model.lower()
        for pattern, changes in self.families:
            if fnmatchcase(name, pattern):
                rules = overlay(rules, changes)
        return rules

    def with_family(self, pattern: str, **changes: Any) -> VendorRules:
        """Return these rules with one more family.

        Raises:
          InvalidData: *changes* has a key that is not a rule, or an unacceptable value.
        """
        overlay(self.common, changes)
        return VendorRules(self.common, (*self.families, (pattern, changes)))


def overlay(rules: Rules, changes: Mapping[str, Any]) -> Rules:
    """Return *rules* with *changes*: fields in snake or camel case; `schemas` holds fields of `SchemaRules`.

    Raises:
      InvalidData: names each key that is not a rule and each value that does not fit.
    """
    new: Rules = overlaid(rules, changes, "$")
    return new


def overlaid(record: Any, changes: Mapping[str, Any], place: str) -> Any:
    """Return a frozen *record* with *changes* of its fields, each checked; *place* is the path of the changes.

    Raises:
      InvalidData: names each key that is not a field and each value that does not fit.
    """
    fields = {field.name: field for field in attrs.fields(type(record))}
    values: dict[str, Any] = {}
    problems: list[Problem] = []
    for key, value in changes.items():
        name, here = _snake(key), f"{place}.{key}"
        if name not in fields:
            problems.append(Problem(here, "unknown key; known: " + ", ".join(fields)))
            continue
        own = getattr(record, name)
        if isinstance(own, SchemaRules) and isinstance(value, Mapping):
            values[name] = overlaid(own, value, here)
            continue
        values[name] = value
        if wrong := _misfit(value, str(fields[name].type)):
            problems.append(Problem(here, wrong))
    if problems:
        raise InvalidData(problems, source="rules")
    try:
        return attrs.evolve(record, **values)
    except (TypeError, ValueError) as exc:
        raise InvalidData([Problem(place, str(exc))], source="rules") from exc


def _misfit(value: object, annotation: str) -> str:
    """Return what is wrong with *value* for a field with this *annotation*; empty when nothing is wrong."""
    if value is None:
        return "" if "None" in annotation else "must not be null"
    expected = _KINDS.get(annotation.removesuffix(" | None").partition("[")[0])
    if expected is None:
        return ""
    kinds, noun = expected
    right = isinstance(value, kinds) and not (isinstance(value, bool) and bool not in kinds)
    if right and noun.endswith("texts"):
        assert isinstance(value, Iterable)
        right = all(isinstance(one, str) for one in value)
    if right and annotation.startswith("Literal"):
        right = repr(value).replace("'", '"') in annotation.replace("'", '"')
    return (
        ""
        if right
        else f"expected {noun}, got {type(value).__name__}"
        + (f"; one of {annotation}" if annotation.startswith("Literal") else "")
    )


_KINDS: Mapping[str, tuple[tuple[type, ...], str]] = MappingProxyType(
    {
        "bool": ((bool,), "true or false"),
        "int": ((int,), "a whole number"),
        "float": ((int, float), "a number"),
        "str": ((str,), "a text"),
        "Literal": ((str,), "a text"),
        "tuple": ((list, tuple), "a list of texts"),
        "frozenset": ((list, tuple, set, frozenset), "a list of texts"),
        "Mapping": ((Mapping,), "an object"),
        "SchemaRules": ((SchemaRules,), "an object"),
    }
)


def _snake(key: str) -> str:
    return re.sub(r"(?<=[a-z0-9])([A-Z])", lambda found: "_" + found[1].lower(), key)
