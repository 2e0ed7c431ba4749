"""Fragments of tool calls, from servers that agree on nothing."""

import json

import pytest
from hypothesis import given, settings, strategies as st

from clawft_trio.chat import ToolCall, ToolCallReady
from clawft_trio.codec import is_json_object
from clawft_trio.llm.tool_calls import MAX_CALLS, ToolCallAssembler, TooManyCalls, as_text, ready


def fed(*fragments, taken=()):
    assembly = ToolCallAssembler(taken)
    deltas = [
        assembly.add(index=index, id=given, name=name, arguments=arguments)
        for index, given, name, arguments in fragments
    ]
    return assembly, deltas


def shape(assembly):
    return [(call.name, call.arguments) for call in assembly.calls(whole=True)]


TWO = [("read", '{"p":1}'), ("write", '{"p":2}')]
TWICE = [("read", '{"p":1}'), ("read", '{"p":2}')]

#  (index, id, name, arguments), as servers were seen to send them
STYLES = {
    "openai": ([(0, "a", "read", ""), (0, "", "", '{"p"'), (0, "", "", ":1}"), (1, "b", "write", ""), (1, "", "", '{"p":2}')], TWO),
    "openai, interleaved": ([(0, "a", "read", ""), (1, "b", "write", ""), (0, "", "", '{"p":1'), (1, "", "", '{"p":'), (0, "", "", "}"), (1, "", "", "2}")], TWO),
    "ollama: whole calls, all at index 0, with ids": ([(0, "a", "read", '{"p":1}'), (0, "b", "write", '{"p":2}')], TWO),
    "ollama: whole calls, all at index 0, no ids": ([(0, "", "read", '{"p":1}'), (0, "", "write", '{"p":2}')], TWO),
    "the same tool twice at index 0, no ids": ([(0, "", "read", '{"p":1}'), (0, "", "read", '{"p":2}')], TWICE),
    "the same tool twice at index 0, with ids": ([(0, "a", "read", '{"p":1}'), (0, "b", "read", '{"p":2}')], TWICE),
    "gemini: no index, whole calls": ([(None, "", "read", '{"p":1}'), (None, "", "write", '{"p":2}')], TWO),
    "gemini: no index, the same tool twice": ([(None, "", "read", '{"p":1}'), (None, "", "read", '{"p":2}')], TWICE),
    "no index, ids on every fragment": ([(None, "a", "read", '{"p"'), (None, "a", "", ":1}"), (None, "b", "write", '{"p":'), (None, "b", "", "2}")], TWO),
    "no index, ids interleaved": ([(None, "a", "read", '{"p"'), (None, "b", "write", '{"p":'), (None, "a", "", ":1}"), (None, "b", "", "2}")], TWO),
    "no index, ids on the first fragments": ([(None, "a", "read", '{"p"'), (None, "", "", ":1}"), (None, "b", "write", '{"p":'), (None, "", "", "2}")], TWO),
    "index and id, name repeated in every fragment": ([(0, "a", "read", '{"p"'), (0, "a", "read", ":1}"), (1, "b", "write", '{"p"'), (1, "b", "write", ":2}")], TWO),
    "name repeated with an empty last fragment": ([(0, "a", "read", '{"p":1}'), (0, "a", "read", ""), (1, "b", "write", '{"p":2}'), (1, "b", "write", "")], TWO),
    "an id of its own for every fragment": ([(0, "x1", "read", '{"p"'), (0, "x2", "", ":1}"), (1, "x3", "write", '{"p"'), (1, "x4", "", ":2}")], TWO),
    "the id comes late": ([(0, "", "read", '{"p"'), (0, "a", "", ":1}"), (1, "", "write", ""), (1, "b", "", '{"p":2}')], TWO),
    "the same id for both calls": ([(0, "call_x", "read", '{"p":1}'), (1, "call_x", "write", '{"p":2}')], TWO),
    "the same id for two calls of one tool": ([(0, "call_x", "read", '{"p":1}'), (0, "call_x", "read", '{"p":2}')], TWICE),
    "the index counts fragments": ([(0, "a", "read", '{"p"'), (1, "", "", ":1}"), (2, "b", "write", '{"p"'), (3, "", "", ":2}")], TWO),
    "indexes from one": ([(1, "a", "read", '{"p":1}'), (2, "b", "write", '{"p":'), (2, "", "", "2}")], TWO),
    "the name comes late": ([(0, "a", "", ""), (0, "", "read", '{"p":1}'), (1, "b", "", ""), (1, "", "write", '{"p":2}')], TWO),
    "a tool without arguments twice, all at index 0": ([(0, "a", "now", ""), (0, "b", "now", "")], [("now", "{}"), ("now", "{}")]),
    "a call without arguments before another": ([(0, "a", "read", ""), (0, "b", "write", '{"p":2}')], [("read", "{}"), ("write", '{"p":2}')]),
}  # fmt: skip


@pytest.mark.parametrize("style", STYLES)
def test_every_style_of_fragments_gives_the_same_calls(style):
    fragments, expected = STYLES[style]
    assembly, deltas = fed(*fragments)
    assert shape(assembly) == expected
    ids = [call.id for call in assembly.calls(whole=True)]
    assert all(ids)
    assert len(set(ids)) == len(ids)
    for position, call in enumerate(assembly.calls(whole=True)):
        assert "".join(delta.arguments for delta in deltas if delta.index == position) == call.arguments.replace(
            "{}", ""
        )


def test_ids_are_kept_where_there_are_any():
    assembly, _ = fed((0, "call_Ab", "read", "{}"), (1, "toolu_1", "write", "{}"))
    assert [call.id for call in assembly.calls(whole=True)] == ["call_Ab", "toolu_1"]


def test_made_up_ids_are_the_same_every_time_and_new_to_the_conversation():
    fragments = [(0, "", "read", "{}"), (1, "call_2", "write", "{}"), (2, "", "read", "{}"), (3, "call_2", "x", "{}")]
    first, again = (fed(*fragments, taken=["call_0"])[0].calls(whole=True) for _ in range(2))
    assert first == again
    assert [call.id for call in first] == ["call_1", "call_2", "call_3", "call_4"]


def test_an_id_of_an_earlier_turn_is_not_used_again():
    assembly, _ = fed((0, "call_0", "read", "{}"), taken=["call_0"])
    assert [call.id for call in assembly.calls(whole=True)] == ["call_1"]


NAMES = st.sampled_from(["read", "write", "list"])
CALLS = st.lists(
    st.tuples(NAMES, st.dictionaries(st.text(max_size=3), st.integers() | st.text(max_size=5), max_size=2)), max_size=5
)


@given(calls=CALLS, data=st.data())
@settings(deadline=None, max_examples=80)
def test_any_cutting_of_wellformed_calls_gives_them_back(calls, data):
    """With an index, an id or both on what opens a call, and interleaved where an index distinguishes them."""
    indexed = data.draw(st.booleans())
    named = data.draw(st.booleans()) or not indexed
    streams = []
    for position, (name, arguments) in enumerate(calls):
        text = json.dumps(arguments)
        cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=3)))
        pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        index = position if indexed else None
        opening = (index, f"id{position}" if named else "", name, pieces[0])
        streams.append([opening, *((index, "", "", piece) for piece in pieces[1:])])
    fragments = []
    while any(streams):
        alive = [stream for stream in streams if stream]
        # Without an index a server finishes one call before it opens the next.
        chosen = data.draw(st.sampled_from(alive)) if indexed and named else alive[0]
        fragments.append(chosen.pop(0))
    assembly, _ = fed(*fragments)
    opened = [calls[fragment[0]] for fragment in fragments if fragment[2]] if indexed else calls
    assert shape(assembly) == [(name, json.dumps(arguments)) for name, arguments in opened]


@given(
    st.lists(
        st.tuples(
            st.none() | st.integers(0, 2),
            st.sampled_from(["", "a", "b"]),
            st.sampled_from(["", "read", "write"]),
            st.sampled_from(["", "{", "}", '{"p":1}', '"x"']),
        ),
        max_size=12,
    )
)
@settings(deadline=None, max_examples=150)
def test_no_fragment_is_lost_or_doubled_and_every_id_is_unique(fragments):
    assembly, deltas = fed(*fragments)
    calls = assembly.calls(whole=False)
    assert len({call.id for call in calls}) == len(calls)
    assert all(call.id for call in calls)
    for position, call in enumerate(calls):
        mine = "".join(delta.arguments for delta in deltas if delta.index == position)
        # Blanks alone are none.
        assert call.arguments == mine
    for number, ((_, _, _, arguments), delta) in enumerate(zip(fragments, deltas, strict=True)):
        # Only complete arguments that come once more are left out.
        left_out = arguments == '{"p":1}' and bool(number)
        assert delta.arguments == arguments or (left_out and not delta.arguments)


def test_a_whole_call_that_comes_once_more_is_one_call():
    for pieces in (['{"p":1}'], ['{"p"', ":1}"]):
        fragments = [(0, "a", "read", pieces[0]), *((0, "", "", piece) for piece in pieces[1:])]
        for index in (0, None):
            assembly, _ = fed(*fragments, (index, "a", "read", '{"p":1}'))
            assert shape(assembly) == [("read", '{"p":1}')]
    assembly, _ = fed((0, "a", "read", '{"p":1}'), (0, "b", "read", '{"p":1}'))
    assert len(assembly.calls(whole=True)) == 2


def test_only_named_calls_with_a_whole_object_are_ready():
    whole = ToolCall(id="1", name="read", arguments='{"p": 1}')
    others = [
        ToolCall(id="2", name="read", arguments=text)
        for text in (
            '{"path": "/tmp',
            "",
            "[]",
            "null",
            '"x"',
            "{}{}",
            "{'a': 1}",
            '{"a": 1,}',
            "```{}```",
            '{"a": NaN}',
        )
    ]
    assert ready([whole, *others, ToolCall(id="3", name="", arguments="{}")]) == [ToolCallReady(whole)]


def test_blank_arguments_of_a_whole_answer_are_none_and_of_a_partial_one_unknown():
    assembly, _ = fed((0, "a", "now", ""), (1, "b", "then", " "))
    assert [call.arguments for call in assembly.calls(whole=True)] == ["{}", "{}"]
    assert [is_json_object(call.arguments) for call in assembly.calls(whole=False)] == [False, False]


def test_arguments_sent_as_an_object_become_its_text():
    assert json.loads(as_text({"path": "a", "n": [1, None]})) == {"path": "a", "n": [1, None]}
    assert as_text(None) == ""
    assert as_text('{"a"') == '{"a"'


def test_an_endless_row_of_calls_is_refused():
    assembly = ToolCallAssembler()
    for number in range(MAX_CALLS):
        assembly.add(index=number, id="", name="x", arguments="{}")
    with pytest.raises(TooManyCalls):
        assembly.add(index=MAX_CALLS, id="", name="x", arguments="{}")


def test_deep_nesting_is_not_an_object_and_no_crash():
    assert not is_json_object('{"a":' * 100_000 + "1" + "}" * 100_000)


def test_blank_pieces_belong_to_the_arguments_once_those_have_begun():
    assembly, _ = fed((0, "a", "read", "{}"), (0, "", "", '{"p":"x'), (0, "", "", " "), (0, "", "", 'y"}'))
    assert shape(assembly) == [("read", '{"p":"x y"}')]


@pytest.mark.parametrize(
    ("fragments", "expected"),
    [
        ([(0, "a", "read", "{}"), (0, "", "", '{"p":1}')], [("read", '{"p":1}')]),
        ([(0, "a", "read", " {} "), (0, "", "", " "), (0, "", "", '{"p":1}')], [("read", '{"p":1}')]),
        ([(0, "a", "read", "{}"), (0, "", "", "{}")], [("read", "{}")]),
        ([(0, "a", "read", "{}"), (0, "a", "read", '{"p":1}')], [("read", '{"p":1}')]),
        ([(0, "", "read", "{}"), (0, "", "read", '{"p":1}')], [("read", "{}"), ("read", '{"p":1}')]),
        ([(0, "a", "read", '{"p":1}'), (0, "", "", '{"p":1}')], [("read", '{"p":1}')]),
        ([(0, "a", "read", '{"p":1}'), (0, "a", "read", '{"p":1}')], [("read", '{"p":1}')]),
        ([(0, "a", "read", '{"p":1}'), (0, "a", "read", '{"p":2}')], [("read", '{"p":1}'), ("read", '{"p":2}')]),
        ([(0, "a", "re", ""), (0, "", "ad", ""), (0, "", "", '{"p":1}')], [("read", '{"p":1}')]),
        ([(0, "a", "re", ""), (0, "", "read", ""), (0, "", "", '{"p":1}')], [("read", '{"p":1}')]),
        ([(0, "a", "read", '{"p":'), (0, "", "more", "{}")], [("read", '{"p":'), ("more", "{}")]),
        ([(None, "", "re", ""), (None, "", "ad", "")], [("re", "{}"), ("ad", "{}")]),
        ([(0, "a", "read", '{"p"'), (7, "", "", ":1}")], [("read", '{"p":1}')]),
        ([(0, "a", "read", '{"p":1}'), (1, "b", "", ""), (1, "", "write", "{}")], [("read", '{"p":1}'), ("write", "{}")]),
        ([(0, "a", "read", ' {"p":1}'), (0, "", "", "\n")], [("read", ' {"p":1}\n')]),
        ([(0, "a", "read", " ")], [("read", "{}")]),
    ],
)  # fmt: skip
def test_a_fragment_continues_a_call_unless_it_begins_another(fragments, expected):
    assert shape(fed(*fragments)[0]) == expected


def test_the_events_of_a_repeated_call_show_it_once():
    _, deltas = fed((0, "a", "read", '{"p":1}'), (0, "a", "read", '{"p":1}'), (0, "", "", '{"p":1}'))
    assert [(one.index, one.id, one.name, one.arguments) for one in deltas] == [
        (0, "a", "read", '{"p":1}'),
        (0, "a", "read", ""),
        (0, "", "", ""),
    ]


def test_a_placeholder_is_shown_at_the_end_if_nothing_replaced_it():
    assembly, deltas = fed((0, "a", "read", "{}"), (1, "b", "write", "{}"), (1, "", "", '{"p":1}'), (2, "c", "x", ""))
    assert [one.arguments for one in deltas] == ["", "", '{"p":1}', ""]
    assert [(one.index, one.arguments) for one in assembly.late_fragments()] == [(0, "{}")]
    assert [one.call.name for one in assembly.seal_all()] == ["write"]


def test_a_call_is_sealed_once_when_the_server_has_passed_or_ended_it():
    assembly, _ = fed((0, "a", "read", '{"p":1}'), (1, "b", "write", "{"), (2, "c", "now", ""), (3, "d", "", "{}"))
    assert assembly.seal_before(0) == []
    (sealed,) = assembly.seal_before(2)
    assert (sealed.call, assembly.passed) == (ToolCall(id="a", name="read", arguments='{"p":1}'), 2)
    assert assembly.seal_before(2) == []
    assert assembly.seal_before(1) == []
    assert assembly.passed == 2
    assert assembly.seal_at(0) == []
    assert assembly.seal_at(9) == []
    assert [one.call.arguments for one in assembly.seal_at(2)] == ["{}"]
    # Without a name it cannot run; arguments that do not parse are not sealed later, either.
    assert assembly.seal_at(3) == []
    assembly.add(index=1, id="", name="", arguments="}")
    assert assembly.seal_all() == []


def test_whole_arguments_replace_those_that_do_not_parse_and_no_others():
    assembly, _ = fed((0, "a", "read", '{"p"'), (1, "b", "write", '{"p":1}'))
    size = assembly.size
    assert not assembly.correct(0, '{"q"')
    assert not assembly.correct(1, '{"q":2}')
    assert not assembly.correct(2, '{"q":2}')
    assert (assembly.text_of(0), assembly.text_of(2), assembly.size) == ('{"p"', "", size)
    assert assembly.correct(0, '{"q":2}')
    assert assembly.text_of(0) == '{"q":2}'
    assert assembly.size == size + 7
    assert shape(assembly) == [("read", '{"q":2}'), ("write", '{"p":1}')]
    assert size == len("areadbwrite") + len('{"p"{"p":1}')


def test_a_fragment_that_begins_a_call_begins_one_whatever_its_index():
    assembly, _ = fed((0, "a", "read", '{"p":1}'))
    delta = assembly.add(index=0, id="", name="", arguments="{}", begins=True)
    assert delta.index == 1
    assert bool(assembly)
    assert not ToolCallAssembler()
    assert [call.arguments for call in assembly.calls(whole=False)] == ['{"p":1}', "{}"]
    assert [call.arguments for call in fed((0, "a", "read", " "))[0].calls(whole=False)] == [""]


@pytest.mark.parametrize(
    ("arguments", "repeated"),
    [('{"p":"' + "x" * (65_536 - 8) + '"}', True), ('{"p":"' + "x" * (65_537 - 8) + '"}', False)],
)
def test_arguments_that_are_sent_again_are_recognized_up_to_64_kib(arguments, repeated):
    assembly, deltas = fed((0, "a", "read", arguments), (0, "", "", arguments))
    assert len(arguments) in (65_536, 65_537)
    assert (deltas[1].arguments == "") is repeated
    assert is_json_object(assembly.text_of(0)) is repeated


def test_the_calls_that_can_run_have_a_name_and_an_object():
    calls = [ToolCall(id="a", name=name, arguments=text) for name, text in [("x", "{}"), ("", "{}"), ("x", "[]")]]
    assert ready(calls) == [ToolCallReady(calls[0])]


@pytest.mark.parametrize(
    ("given_arguments", "text"), [(None, ""), ("x", "x"), ("", ""), ({"a": 1}, '{"a":1}'), ([], "[]"), (0, "0")]
)
def test_arguments_of_any_type_are_text(given_arguments, text):
    assert as_text(given_arguments) == text
