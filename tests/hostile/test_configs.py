"""Any bytes as a configuration are a configuration or a `ConfigError` of bounded size, which names places."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hostile.loop_time import bounded_loop
from hypothesis import given, settings, strategies as st

from clawft_trio.config import Config, load_config, parse_config
from clawft_trio.config.json_schema import config_schema
from clawft_trio.errors import ConfigError

LONGEST_ERROR = 200_000
"""Characters: 50 problems for each object, each with a place and a few words."""

ENVIRON = {"A": "${A}", "B": "${C}", "C": "${B}${B}", "LONG": "x" * 100_000, "SURROGATE": "\udcff", "NUL": "a\tb"}

VALUES: list[Any] = [
    *(
        None,
        True,
        -1,
        0,
        2**63,
        10**400,
        -1e308,
        1.5,
        "",
        "x",
        "x" * 10_000,
        "\ud800",
        "\ufeff",
        "a\0b",
        "\x1b[2J\u202e",
    ),
    *([], [[]], [None], {}, {"": {}}, {"\ud800": 1}, {"a": {"b": {"c": []}}}, [{}] * 100),
    *(
        "${A}",
        "${B}",
        "${missing}",
        "${",
        "${A:-${B}}",
        "${SURROGATE}",
        "~nobody-of-this-name/x",
        "~",
        "file:///dev/zero",
    ),
    *(
        "provider/model",
        "/",
        "//",
        "*",
        "http://[::1",
        "http://x:y@z:99999/",
        "postgresql://",
        "1e999",
        "NaN",
        "-Infinity",
    ),
]


def parsed(data: bytes | str) -> Config | None:
    """Parse *data*; anything but a `Config` and a `ConfigError` fails the test."""
    try:
        config = parse_config(data, environ=ENVIRON)
    except ConfigError as error:
        assert 0 < len(str(error)) <= LONGEST_ERROR
        assert all(problem.path.startswith("$") and problem.message for problem in error.problems)
        str(error).encode(errors="strict")
        return None
    assert len(repr(config)) < 2_000_000
    return config


def places(
    schema: dict[str, Any], node: dict[str, Any], path: tuple[str | int, ...] = ()
) -> Iterator[tuple[str | int, ...]]:
    """Yield the path of every setting; `x` stands for a name that the file chooses."""
    if path:
        yield path
    if len(path) > 8:
        return
    for one in (node, *node.get("anyOf", ()), *node.get("oneOf", ()), *node.get("allOf", ())):
        while "$ref" in one:
            one = schema["$defs"][one["$ref"].rpartition("/")[2]]
        for name, inner in one.get("properties", {}).items():
            yield from places(schema, inner, (*path, name))
        if isinstance(inner := one.get("additionalProperties"), dict):
            yield from places(schema, inner, (*path, "x"))
        if isinstance(inner := one.get("items"), dict):
            yield from places(schema, inner, (*path, 0))


def at(path: tuple[str | int, ...], value: Any) -> Any:
    for step in reversed(path):
        value = [value] if step == 0 else {step: value}
    return value


SCHEMA = config_schema()
PLACES = sorted(set(places(SCHEMA, SCHEMA)), key=str)


def test_the_schema_names_the_places_of_settings() -> None:
    assert len(PLACES) > 200
    assert ("providers", "x", "apiKey") in PLACES or ("providers", "x", "api_key") in PLACES


@pytest.mark.parametrize("section", sorted({str(path[0]) for path in PLACES}))
def test_any_value_at_any_place_is_taken_or_refused_with_its_place(section: str) -> None:
    # Neighbours are of one type mostly, so each takes a part of the values.
    for number, path in enumerate(path for path in PLACES if path[0] == section):
        for value in VALUES[number % 6 :: 6]:
            parsed(json.dumps(at(path, value)))


JSON = st.recursive(
    st.sampled_from(VALUES) | st.integers() | st.floats() | st.text(st.characters(categories=None), max_size=10),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([str(step) for path in PLACES for step in path]), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(JSON)
def test_any_json_is_taken_or_refused(value: object) -> None:
    parsed(json.dumps(value))


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200) | st.text(st.characters(categories=None), max_size=100))
def test_any_bytes_are_taken_or_refused(data: bytes | str) -> None:
    parsed(data)


DEEP = 100_000
WHOLE = {
    "an array": "[" * DEEP + "]" * DEEP,
    "objects": '{"agents":' * DEEP + "1" + "}" * DEEP,
    "objects in a map": '{"providers":' + '{"a":' * DEEP + "1" + "}" * (DEEP + 1),
    "objects without an end": '{"a":' * DEEP,
    "a number": "9" * 1_000_000,
    "an exponent": '{"retry":{"maxRetries":1e' + "9" * 1000 + "}}",
    "digits": '{"retry":{"maxRetries":' + "9" * 5000 + "}}",
    "equal keys": '{"providers":{' + ",".join(['"a":{"apiKey":"x"}'] * 30_000) + "}}",
    "different keys": '{"retry":{' + ",".join(f'"k{number}":{number}' for number in range(60_000)) + "}}",
    "near misses": '{"retry":{' + ",".join(f'"maxRetrie{number}":1' for number in range(40_000)) + "}}",
    "models": json.dumps({"agents": {"defaults": {"model": "x"}}, "failover": [f"p{n}/m" for n in range(40_000)]}),
    "a string": json.dumps({"store": "x" * 1_000_000}),
    "variables": json.dumps({"providers": {"a": {"apiKey": "${A}" * 200_000}}}),
    "variables without a value": json.dumps(
        {"providers": {"a": {"apiKey": "".join(f"${{V{n}}}" for n in range(90_000))}}}
    ),
    "long variables": json.dumps({"providers": {"a": {"apiKey": "${LONG}" * 100_000}}}),
    "two byte order marks": "\ufeff\ufeff{}",
    "NUL": "\0",
    "nothing": "",
    "a byte order mark": "\ufeff",
    "UTF-16": "{}".encode("utf-16"),
    "half a character": b'{"store": "\xe2\x82"}',
    "comments": "//" * 500_000,
}


@pytest.mark.parametrize("kind", WHOLE)
async def test_a_hostile_file_is_refused_or_read_within_the_bound_of_the_loop(tmp_path: Path, kind: str) -> None:
    data = WHOLE[kind]
    (tmp_path / "c.json").write_bytes(data if isinstance(data, bytes) else data.encode(errors="surrogatepass"))
    async with bounded_loop():
        try:
            config = await load_config(tmp_path / "c.json", environ=ENVIRON)
        except ConfigError as error:
            assert len(str(error)) <= LONGEST_ERROR
        else:
            assert len(repr(config)) < 2_000_000


def test_a_variable_is_replaced_once() -> None:
    for name, value in (("A", "${A}"), ("B", "${C}"), ("C", "${B}${B}")):
        config = parse_config(json.dumps({"agents": {"defaults": {"instructions": f"<${{{name}}}>"}}}), environ=ENVIRON)
        assert config.agents.defaults.instructions == f"<{value}>"


@pytest.mark.parametrize(
    "place", ["store", "agents.defaults.instructions", "providers.a.apiKey", "agents.defaults.workspace"]
)
def test_a_text_is_bounded_with_its_variables(place: str) -> None:
    path = tuple(place.split("."))
    parse_config(json.dumps(at(path, "${LONG}" * 10)), environ=ENVIRON)
    with pytest.raises(ConfigError, match=r"longer than 1048576 characters with its variables"):
        parse_config(json.dumps(at(path, "${LONG}" * 11)), environ=ENVIRON)


@pytest.mark.parametrize("kind", ["folder", "socket", "/dev/zero", "/dev/null", "link to a device", "link to itself"])
async def test_what_is_no_file_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "c.json"
    if kind == "folder":
        path.mkdir()
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(os.fspath(path))
    elif kind.startswith("/"):
        path = Path(kind)
    else:
        path.symlink_to("/dev/zero" if kind == "link to a device" else path)
    async with bounded_loop():
        with pytest.raises(ConfigError) as caught:
            await load_config(path)
    assert caught.value.source == str(path)
