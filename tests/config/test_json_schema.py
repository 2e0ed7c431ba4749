"""The schema accepts what the loader accepts, and refuses what it refuses."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import attrs
import pytest
from hypothesis import example, given, strategies as st
from jsonschema import Draft202012Validator

from clawft_trio.config import Config, parse_config
from clawft_trio.config.json_schema import Schema, config_schema, spellings
from clawft_trio.config.resilience_sections import RetryConfig
from clawft_trio.config.structuring import structure_config
from clawft_trio.errors import ConfigError

VALIDATOR = Draft202012Validator(config_schema())
ORIGINAL = json.loads((Path(__file__).parent / "original.json").read_text())

# Whatever else stands in a file of everything: what the original does not have.
EVERYTHING = {
    **ORIGINAL,
    "prices": {"openai/gpt-5-mini": {"input": "0.25", "output": 2, "cached": None}},
    "skills": {"user": None, "trustWorkspace": True},
    "memory": {"per_sender": True},
    "pipeline": {"scorer": "fitness", "learner": "noop"},
    "channels": {"telegram": {"token": "x"}},
    "routing": {
        **ORIGINAL["routing"],
        "selection_strategy": "least_latency",
        "fallbackModel": "openai/gpt-5-mini",
        "escalation": {"enabled": True, "threshold": 0.5},
        "cost_budgets": {"globalDailyLimitUsd": 5, "reset_hour_utc": 3},
        "rate_limiting": {"strategy": "token_bucket", "window_seconds": 30},
        "permissions": {
            "zero_trust": {"toolAccess": []},
            "users": {"telegram:U1": {"level": 1, "custom_permissions": {"x": [1]}}},
            "allow_from": {"telegram": ["1"]},
        },
    },
}

# What only the whole can tell is the loader's alone.
BEYOND = ("complexity_range", "complexityRange", ".users[", ".channels[", ".allow_from[", "$.routing.permissions: ")


@pytest.fixture
def schema() -> Schema:
    return config_schema()


def loads(document: object) -> list[str]:
    try:
        structure_config(document, Config)
    except ConfigError as exc:
        return [str(problem) for problem in exc.problems]
    return []


def test_it_is_a_schema_of_its_draft(schema: Schema) -> None:
    Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == Draft202012Validator.META_SCHEMA["$id"]


@pytest.mark.parametrize("document", [{}, ORIGINAL, EVERYTHING], ids=["empty", "original", "everything"])
def test_it_accepts_whole_files(schema: Schema, document: object) -> None:
    assert loads(document) == []
    assert [error.message for error in Draft202012Validator(schema).iter_errors(document)] == []


def test_the_loader_lets_be_what_tells_an_editor_the_schema() -> None:
    document = {"$schema": "config.schema.json", "failover": ["openai/x"]}
    assert parse_config(json.dumps(document)).failover == ("openai/x",)
    VALIDATOR.validate(document)


def places(document: object, path: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
    inner = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    return [path, *(place for key, value in inner for place in places(value, (*path, key)))]


def changed(document: object, place: tuple[object, ...], value: object) -> object:
    if not place:
        return value
    document = copy.deepcopy(document)
    at = document
    for step in place[:-1]:
        at = at[step]
    at[place[-1]] = value
    return document


# A whole number with a point is an integer to JSON Schema and none to the loader; numbers as text may be money.
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 200)
    | st.sampled_from([-0.5, 0.5, 0.25, 1.5, 100.5])
    | st.sampled_from(["", "x", "block", "tiered", "random", "fitness", "0.5", "-1", "openai/x"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["name", "retry", "count", "x", "maxRetries", "max_retries", "input"]), inner)
    ),
    max_leaves=4,
)


@given(st.sampled_from(places(EVERYTHING)), VALUES)
@example(("retry", "maxRetries"), 3)
@example(("retry", "count"), 3)
@example(("timeouts", "gap_ms"), 0)
@example(("routing", "tiers", 0, "complexityRange"), [0.1])
@example(("prices", "openai/gpt-5-mini"), {"input": 1})
def test_schema_and_loader_agree_on_any_one_change(place: tuple[object, ...], value: object) -> None:
    document = changed(EVERYTHING, place, value)
    refused = loads(document)
    accepted = VALIDATOR.is_valid(document)
    if accepted:
        assert [problem for problem in refused if not any(part in problem for part in BEYOND)] == []
    else:
        assert refused, next(VALIDATOR.iter_errors(document)).message


def classes(cls: type, found: dict[str, type]) -> dict[str, type]:
    """Every class of the schema by its name."""
    for one in (field for field in attrs.resolve_types(cls).__attrs_attrs__ if field.init):
        for kind in (one.type, *getattr(one.type, "__args__", ())):
            if isinstance(kind, type) and attrs.has(kind) and kind.__name__ not in found:
                found[kind.__name__] = kind
                classes(kind, found)
    return found


def test_every_field_is_there_in_every_spelling_that_is_written(schema: Schema) -> None:
    known = classes(Config, {})
    assert set(known) == set(schema["$defs"])
    for name, cls in known.items():
        names = [spelling for field in attrs.fields(cls) for spelling in spellings(field)]
        assert list(schema["$defs"][name]["properties"]) == names
    assert {"maxRetries", "max_retries", "count", "initialBackoffMs"} <= set(
        schema["$defs"]["RetryConfig"]["properties"]
    )


def test_the_schema_describes_each_key_and_its_default(schema: Schema) -> None:
    assert schema["$defs"]["RetryConfig"]["description"] == RetryConfig.__doc__.partition("\n")[0]
    # Defaults that are no text or number, and empty ones, are left to the guide.
    assert "default" not in property_of(schema, "AgentDefaults", "workspace")
    assert "default" not in property_of(schema, "AgentDefaults", "model")
    assert property_of(schema, "ToolsConfig", "unapproved")["default"] is False
    shown = schema["$defs"]["ToolsConfig"]["properties"]["concurrency"]
    assert shown == {
        "type": "integer",
        "minimum": 1,
        "description": "largest number of concurrent tool calls",
        "default": 16,
    }


def property_of(schema: Schema, section: str, name: str) -> dict[str, object]:
    return schema["$defs"][section]["properties"][name]


def test_a_list_has_items_and_a_pair_two_of_them(schema: Schema) -> None:
    assert property_of(schema, "ToolsConfig", "sets")["items"] == {"type": "string"}
    fixed = [
        one
        for section in schema["$defs"].values()
        for one in section["properties"].values()
        if one.get("type") == "array" and "minItems" in one
    ]
    assert fixed
    assert {(one["minItems"], one["maxItems"]) for one in fixed} == {(2, 2)}


def test_a_description_of_several_lines_is_one_text(schema: Schema) -> None:
    shown = property_of(schema, "SkillsConfig", "trust_workspace")
    assert shown["description"].startswith("whether the workspace's skills are read, too")
    for name, section in schema["$defs"].items():
        for key, one in section["properties"].items():
            text = one.get("description", "x")
            assert text == " ".join(text.split()), (name, key)
            assert "#" not in text[:2], (name, key)


def test_every_section_describes_itself_and_refuses_unknown_keys(schema: Schema) -> None:
    assert list(schema["$defs"]) == sorted(schema["$defs"])
    for section in (schema, *schema["$defs"].values()):
        assert section["type"] == "object"
        assert section["additionalProperties"] is False
        assert section["description"].endswith(".")


def test_every_default_that_is_shown_may_be_written(schema: Schema) -> None:
    defaults = [
        (f"{name}.{key}", one["default"], Draft202012Validator(one))
        for name, section in schema["$defs"].items()
        for key, one in section["properties"].items()
        if "default" in one
    ]
    assert len(defaults) > 50
    assert [place for place, default, validator in defaults if not validator.is_valid(default)] == []
    # A clock that is left out is that of the provider: no number that stands for it is shown.
    assert [place for place, default, _ in defaults if isinstance(default, float) and default < 0] == []
