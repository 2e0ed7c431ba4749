"""The problems that a check by a JSON Schema finds: how many, how long, and with which names."""

from __future__ import annotations

from pathlib import Path, PurePath, PurePosixPath

import msgspec
import pytest

from clawft_trio.errors import InvalidData, Problem
from clawft_trio.tools.json_schema import SchemaCheck, bounded, path_schema, problem_of, to_path

CLOSED = {"type": "object", "additionalProperties": False}


def texts(schema, value, **more):
    return [str(problem) for problem in SchemaCheck(schema, **more).problems(value)]


@pytest.mark.parametrize("trusted", [True, False])
def test_at_most_eight_problems_are_reported_with_their_places(trusted):
    schema = {"type": "array", "items": {"type": "string"}}
    found = SchemaCheck(schema, trusted=trusted).problems(list(range(20)))
    assert [problem.path for problem in found] == [f"$[{number}]" for number in range(8)]
    assert SchemaCheck(schema, trusted=trusted).problems(["a"] * 20) == []


def test_an_unknown_name_gets_a_similar_one_or_the_list_of_those_that_are_known():
    schema = {**CLOSED, "properties": {"city": {}, "days": {}}}
    assert texts(schema, {"citty": 1}, noun="argument") == ["$.citty: unknown argument; did you mean 'city'?"]
    assert texts(schema, {"zzzzzz": 1}) == ["$.zzzzzz: unknown key; known: city, days"]
    assert texts(CLOSED, {"x": 1}) == ["$.x: unknown key; known: none"]
    assert texts(schema, {"z" * 100: 1})[0].startswith("$." + "z" * 59 + "…:")


def test_two_unknown_names_get_suggestions_and_eight_are_reported():
    schema = {**CLOSED, "properties": {"city": {}}}
    found = texts(schema, {f"city{number}": 1 for number in range(12)})
    assert ["did you mean" in text for text in found] == [True, True, *[False] * 6]


def test_forty_known_names_are_listed_in_300_characters():
    def known(names):
        return texts({**CLOSED, "properties": dict.fromkeys(names, {})}, {"?": 1})[0].partition("known: ")[2]

    assert known([f"{number:02}" for number in range(50)]) == ", ".join(f"{number:02}" for number in range(40))
    assert known(["a" * 300]) == "a" * 300
    assert known(["a" * 301]) == "a" * 299 + "…"


def test_an_unknown_name_further_inside_is_a_problem_at_its_place():
    [text] = texts({"properties": {"x": CLOSED}}, {"x": {"y": 1}})
    assert text.startswith("$.x: ") and "unknown key" not in text


def test_a_message_keeps_its_end():
    [problem] = SchemaCheck({"enum": ["wanted"]}).problems("x" * 1000)
    assert len(problem.message) == 301 and problem.message.startswith("…x")
    assert problem.message.endswith("is not one of ['wanted']")
    many = [Problem(f"$[{number}]", "a" * (299 + number)) for number in range(10)]
    assert bounded(many) == [
        Problem("$[0]", "a" * 299),
        Problem("$[1]", "a" * 300),
        *(Problem(f"$[{number}]", "…" + "a" * 300) for number in range(2, 8)),
    ]


@pytest.mark.parametrize("trusted", [True, False])
def test_a_schema_with_an_unusable_draft_or_id_is_refused(trusted):
    with pytest.raises(InvalidData, match="draft"):
        SchemaCheck({"$schema": 1}, trusted=trusted)
    with pytest.raises(InvalidData, match="no JSON Schema"):
        SchemaCheck({"$id": 1}, trusted=trusted)


@pytest.mark.parametrize("trusted", [True, False])
def test_a_schema_is_checked_itself_and_its_fault_is_short(trusted):
    SchemaCheck({"type": "object"}, trusted=trusted).check_schema("s")
    with pytest.raises(InvalidData, match=r"^s: ") as caught:
        SchemaCheck({"type": "x" * 500}, trusted=trusted).check_schema("s")
    assert len(caught.value.problems[0].message) == 300


def test_an_untrusted_schema_counts_as_valid_when_its_check_takes_too_many_steps():
    SchemaCheck({"type": "nothing"}, trusted=False).check_schema("s", steps=1)


@pytest.mark.parametrize("trusted", [True, False])
def test_a_reference_that_leads_nowhere_or_in_a_circle_is_a_problem(trusted):
    for reference in ("#/$defs/no", "https://example.org/x.json"):
        [text] = texts({"$ref": reference}, 1, trusted=trusted)
        assert "the schema cannot be followed" in text


def test_an_unusable_schema_is_a_problem_when_it_is_untrusted_and_an_error_when_it_is_ours():
    schema = {"type": "nothing"}
    assert "the schema cannot be used: UnknownType" in texts(schema, 1, trusted=False)[0]
    with pytest.raises(Exception, match="nothing"):
        SchemaCheck(schema).problems(1)


async def test_a_long_check_is_finished_in_a_thread():
    schema = {"type": "array", "items": {"type": "string"}}
    check = SchemaCheck(schema, trusted=False)
    assert await check.find_problems(["a"] * 2000) == []
    [problem] = await check.find_problems([*["a"] * 2000, 1])
    assert problem.path == "$[2000]"


def test_paths_are_texts_in_json():
    assert path_schema(Path) == path_schema(PurePosixPath) == {"type": "string"}
    assert to_path(PurePath, "a/b") == Path("a/b")
    with pytest.raises(TypeError):
        path_schema(int)
    for kind, value in ((Path, 1), (int, "1")):
        with pytest.raises(msgspec.ValidationError, match="expected `str`"):
            to_path(kind, value)


@pytest.mark.parametrize(
    ("kind", "text", "place"),
    [
        (dict[str, list[int]], '{"a":[1,"x"]}', "$[...][1]"),
        (dict[int, int], '{"a":1}', "$"),
        (int, '"x"', "$"),
    ],
)
def test_an_error_of_the_decoder_has_its_place(kind, text, place):
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.json.decode(text, type=kind)
    problem = problem_of(caught.value)
    assert (problem.path, problem.message) == (place, "Expected `int`, got `str`")
