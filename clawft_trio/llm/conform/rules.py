"""What a target accepts, as data: one frozen record per dialect, vendor and model family.

`VendorRules` is what the catalog holds for a vendor: the rules of all its models and, by patterns of model names, what
is different for a family. `overlay` puts a user's own changes over them, from code or from config.json.
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
"""The options of a `ChatRequest` that a target may refuse."""

ThinkingForm: TypeAlias = Literal[
    "none", "effort", "anthropic", "openrouter", "google", "enable_thinking", "type", "type_and_effort"
]
"""How a thinking budget or effort is written: not at all; `reasoning_effort`; Anthropic's `thinking` and
`output_config`; OpenRouter's `reasoning`; Google's `thinking_config`; DashScope's `enable_thinking`;
`thinking: {"type": …}` as Moonshot and Zhipu have it; or that with `reasoning_effort`, as DeepSeek has it."""

Patterns: TypeAlias = Literal["any", "plain", "none"]
"""Which regular expressions a `pattern` may have: any; only plain ones (no lookaround, no `\\p{…}`); none at all."""

COMMON_IMAGES = ("image/png", "image/jpeg", "image/gif", "image/webp")
"""The image formats that OpenAI and Anthropic document."""


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
    """Which JSON Schemas of tool arguments a target accepts."""

    #: keywords of the outermost schema that are refused, and merged into its properties
    no_top_level: frozenset[str] = attrs.field(
        default=frozenset({"anyOf", "oneOf", "allOf", "enum", "const", "not", "if", "then", "else", "$ref"}),
        converter=_set,
    )
    #: the only keywords that are accepted; None: every keyword
    keywords: frozenset[str] | None = attrs.field(default=None, converter=_optional_set)
    #: the only values of `format` that are accepted; None: every value
    formats: frozenset[str] | None = attrs.field(default=None, converter=_optional_set)
    #: keywords that are refused in every schema, and left out
    drops: frozenset[str] = attrs.field(default=frozenset(), converter=_set)
    #: the regular expressions that are accepted in `pattern`; others are left out
    patterns: Patterns = "plain"
    #: whether every schema needs a type; one without any accepts the usual types
    typed: bool = False
    #: whether `properties` and `required` may stand beside a type that is no object, and `properties` may be empty
    loose_properties: bool = True
    #: whether `$ref` is accepted; otherwise definitions are put in its place
    refs: bool = True
    #: whether `type` may be a list; otherwise `null` becomes `nullable` and the others become `anyOf`
    type_lists: bool = True
    #: whether an `enum` may hold other values than strings
    mixed_enums: bool = True
    #: what stands for the items of an array that does not describe them
    items: Mapping[str, Any] = attrs.field(factory=dict)
    #: names of properties
    key_pattern: str = _pattern(r"[\s\S]{1,256}")
    #: whether `type` may stand beside `anyOf`; otherwise it goes into each of the alternatives
    typed_alternatives: bool = True
    #: levels of nesting; what is deeper accepts anything
    depth: int = 32


@attrs.frozen(kw_only=True)
class Rules:
    """What one target accepts. The defaults are those of a tolerant OpenAI-compatible server."""

    # --- tool calls
    #: ids of calls
    id_pattern: str = _pattern(r"[\s\S]{1,256}")
    #: how an id begins that replaces one of another form, and how many characters it has in all
    id_prefix: str = "call_"
    #: characters of such an id in all
    id_length: int = 29
    #: names of tools
    name_pattern: str = _pattern(r"[a-zA-Z0-9_-]{1,64}")
    #: characters of a name
    name_length: int = 64
    #: characters of a tool's description; None: no limit
    description_length: int | None = None
    #: tools in one request; None: no limit
    most_tools: int | None = None
    #: which JSON Schemas of arguments are accepted
    schemas: SchemaRules = SchemaRules()

    # --- order
    #: the first message after the system's has to be the user's
    first_user: bool = False
    #: the last message must not be the assistant's
    last_user: bool = False
    #: the last message may end with blanks where it is the assistant's
    blank_end: bool = True
    #: two messages of the user or of the assistant in a row are refused
    alternate: bool = False
    #: calls are accepted only right after a user's message or a result: not after another message of the assistant
    calls_after_user: bool = False
    #: a user's message may follow a tool's result
    user_after_tool: bool = True
    #: system messages are accepted at the beginning only
    system_first: bool = False
    #: the role that system messages are sent as
    system_role: Literal["system", "developer", "user"] = "system"
    #: stands for a tool's result without text; empty: such results are accepted
    blank_result: str = ""
    #: the content of a message with calls and without text may be null; otherwise it is an empty text
    null_content: bool = True

    # --- reasoning
    #: the dialects of the opaque blocks that are accepted, from the model that made them
    opaque: tuple[str, ...] = attrs.field(default=(), converter=_texts)
    #: types of opaque blocks that are accepted from every model of the same provider
    shared_blocks: frozenset[str] = attrs.field(default=frozenset(), converter=_set)
    #: the `reasoning_content` of a message with calls that has none, or an empty one; None: none is needed
    reasoning_stand_in: str | None = None
    #: the `thought_signature` of the first call of a message that has none; None: none is needed
    signature_stand_in: str | None = None

    # --- images and files
    #: media types of images; none: no images
    image_types: tuple[str, ...] = attrs.field(default=COMMON_IMAGES, converter=_texts)
    #: images may be given by web address
    image_urls: bool = True
    #: images and files may stand in a tool's result; otherwise they follow it as the user's
    media_in_results: bool = False
    #: media types of documents and audio; a type ending in `/*` stands for all of its kind
    file_types: tuple[str, ...] = attrs.field(default=(), converter=_texts)
    #: the schemes of web addresses
    url_schemes: tuple[str, ...] = attrs.field(default=("https", "http"), converter=_texts)
    #: documents may be given by web address
    file_urls: bool = False
    #: audio is written with a `data:` address in the OpenAI dialect, instead of base64 alone
    audio_addresses: bool = False
    #: how documents are written in the OpenAI dialect
    file_form: Literal["file", "document_url"] = "file"

    # --- options
    #: options that are left out
    refuses: frozenset[str] = attrs.field(default=frozenset(), converter=_set)
    #: the highest temperature
    hottest: float = 2.0
    #: the only temperature that is accepted besides none at all; None: every one
    only_temperature: float | None = None
    #: the values of `reasoning_effort` with which a temperature is accepted, the empty text for none set; None: all
    temperature_efforts: tuple[str, ...] | None = attrs.field(default=None, converter=_optional_texts)
    #: the values of `reasoning_effort`, weakest first; None: not known, sent as it is
    efforts: tuple[str, ...] | None = attrs.field(default=None, converter=_optional_texts)
    #: which schemas of answers are taken: any; or only closed objects without limits, as Anthropic's are
    answer_schemas: Literal["any", "closed"] = "any"
    #: models that decide by themselves how long they think take `thinking: {"type": "adaptive"}` (Anthropic)
    adaptive_thinking: bool = False
    #: how a thinking budget or effort is written
    thinking: ThinkingForm = "effort"
    #: sequences in `stop`; None: no limit
    most_stops: int | None = None
    #: stop sequences without visible characters are refused
    visible_stops: bool = False
    #: the values of `tool_choice` besides the name of a tool; a missing one becomes `auto`
    tool_choices: tuple[str, ...] = attrs.field(default=("auto", "none", "required"), converter=_texts)
    #: a tool may be named in `tool_choice`
    named_choice: bool = True


Family: TypeAlias = tuple[str, Mapping[str, Any]]
"""A pattern of lower-case model names (`gpt-5*`), and the fields of `Rules` that differ for them."""


def _families(families: Iterable[Family]) -> tuple[Family, ...]:
    return tuple((pattern, MappingProxyType(dict(changes))) for pattern, changes in families)


@attrs.frozen
class VendorRules:
    """The rules of a vendor, and what is different for families of its models; later families win."""

    common: Rules = Rules()
    families: tuple[Family, ...] = attrs.field(default=(), converter=_families)

    def of(self, model: str) -> Rules:
        """The rules for *model*."""
        rules, name = self.common, model.lower()
        for pattern, changes in self.families:
            if fnmatchcase(name, pattern):
                rules = overlay(rules, changes)
        return rules

    def with_family(self, pattern: str, **changes: Any) -> VendorRules:
        """These rules with one more family.

        Raises:
          InvalidData: *changes* names what is no rule, or gives it no acceptable value.
        """
        overlay(self.common, changes)
        return VendorRules(self.common, (*self.families, (pattern, changes)))


def overlay(rules: Rules, changes: Mapping[str, Any]) -> Rules:
    """*rules* with *changes*: fields in snake or camel case; `schemas` holds fields of `SchemaRules`.

    Raises:
      InvalidData: with the place of each key that is no rule and each value that does not fit.
    """
    new: Rules = overlaid(rules, changes, "$")
    return new


def overlaid(record: Any, changes: Mapping[str, Any], place: str) -> Any:
    """A frozen *record* with *changes* of its fields, each checked; *place* is where they stand.

    Raises:
      InvalidData: with the place of each key that is no field and each value that does not fit.
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
    """What is wrong with *value* for a field with this *annotation*; empty when nothing is."""
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
