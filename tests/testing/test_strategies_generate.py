"""Each strategy generates every kind that it promises, at its bounds, and nothing outside of them."""

from __future__ import annotations

from itertools import chain

from hypothesis import HealthCheck, Phase, given, settings

from clawft_trio.chat import Image, Opaque, Text
from clawft_trio.codec import decode_json
from clawft_trio.errors import ProviderError, ProviderTimeout
from clawft_trio.testing import strategies
from clawft_trio.testing.script import (
    BadJson,
    BadUtf8,
    CallTool,
    CloseConnection,
    EndBody,
    ErrorEvent,
    Fail,
    Finish,
    Garbage,
    Hang,
    InPieces,
    Page,
    Pings,
    Preamble,
    Report,
    ResetConnection,
    Say,
    SendHeaders,
    Status,
    Think,
    Wait,
)

COUNTS = (20, 80, 400)
"""Examples of a sample: the next larger one only when chance has left something out of the smaller one."""


def sample(strategy, count):
    drawn = []

    @settings(
        max_examples=count,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def collect(value):
        drawn.append(value)

    collect()
    return drawn


def sampled(strategies_of):
    """Make a test of a sample of each strategy; they are made inside the test."""

    def decorate(test):
        def run():
            for count in COUNTS:
                try:
                    return test(*(sample(one, count) for one in strategies_of()))
                except (AssertionError, ValueError):
                    if count == COUNTS[-1]:
                        raise

        run.__name__ = test.__name__
        return run

    return decorate


def sizes(many):
    found = {len(one) for one in many}
    return min(found), max(found)


def bounds(numbers):
    found = [number for number in numbers if number is not None]
    return min(found), max(found)


def kinds(steps):
    return {type(step) for step in steps}


def flat(lists):
    return list(chain.from_iterable(lists))


@sampled(lambda: [strategies.texts(), strategies.texts(min_size=1, max_size=3)])
def test_texts_have_the_sizes_that_are_asked_for(found, short):
    assert "" in found and sizes(found)[1] <= 40
    assert sizes(short) == (1, 3)
    assert not any(0xD800 <= ord(char) <= 0xDFFF for char in "".join(found))


@sampled(lambda: [strategies.arguments()])
def test_arguments_are_small_json_objects(found):
    assert sizes(found) == (0, 4)
    assert sizes(flat(found)) == (0, 10)
    values = flat(one.values() for one in found)
    leaves = [*values, *flat(value for value in values if isinstance(value, list))]
    assert {bool, int, str, list, type(None)} <= kinds(values) <= {bool, int, str, list, type(None)}
    assert max(len(value) for value in values if isinstance(value, list)) <= 3
    assert max(abs(leaf) for leaf in leaves if type(leaf) is int) <= 2**53
    assert sizes(leaf for leaf in leaves if isinstance(leaf, str)) == (0, 10)


@sampled(lambda: [strategies.usages()])
def test_usage_has_every_part_from_nothing_on(found):
    for name in ("input_tokens", "output_tokens", "cached_tokens", "cache_write_tokens", "reasoning_tokens"):
        least, most = bounds(getattr(one, name) for one in found)
        assert least == 0 < 1000 < most <= 1_000_000


@sampled(lambda: [strategies.tool_calls()])
def test_tool_calls_have_names_that_every_dialect_accepts(found):
    names = {call.name for call in found}
    assert all(name[0].isalpha() or name[0] == "_" for name in names) and sizes(names)[1] <= 21
    assert len({call.id for call in found}) > 5
    assert all(isinstance(decode_json(call.arguments), dict) for call in found)


@sampled(lambda: [strategies.parts()])
def test_parts_are_texts_images_and_blocks_of_a_provider(found):
    assert kinds(found) == {Text, Image, Opaque}
    assert sizes(part.text for part in found if isinstance(part, Text))[0] == 1
    images = [part for part in found if isinstance(part, Image)]
    least, most = sizes(image.data for image in images if image.data)
    assert least == 1 < most <= 20 and any(image.url for image in images)
    opaque = [part for part in found if isinstance(part, Opaque)]
    assert {part.dialect for part in opaque} == {"anthropic", "openai"}
    assert sizes(part.block["signature"] for part in opaque)[0] == 1


@sampled(lambda: [strategies.turns()])
def test_turns_are_a_question_an_answer_and_a_result_for_each_call(found):
    assert {tuple(message.role for message in turn) for turn in found} == {
        ("user", "assistant", *["tool"] * calls) for calls in range(3)
    }
    assert sizes(turn[0].content for turn in found) == (1, 2)
    assert kinds(flat(turn[0].content for turn in found)) == {Text, Image}
    assert sizes(turn[1].text for turn in found)[0] == 1
    assert sizes(turn[1].tool_calls for turn in found) == (0, 2)


@sampled(lambda: [strategies.conversations()])
def test_conversations_begin_with_at_most_one_system_message_and_have_up_to_two_turns(found):
    assert {[message.role for message in one].count("system") for one in found} == {0, 1}
    assert {message.role for one in found for message in one[1:]} <= {"user", "assistant", "tool"}
    assert {[message.role for message in one].count("assistant") for one in found} == {0, 1, 2}
    assert sizes(one[-1].text for one in found)[0] == 1
    systems = [one[0].text for one in found if one[0].role == "system"]
    assert sizes(systems)[0] == 1


@sampled(lambda: [strategies.requests()])
def test_requests_have_every_option_within_its_range(found):
    assert {request.model for request in found} == {"", "m"}
    assert {request.stream for request in found} == {True, False}
    assert sizes(request.tools for request in found) == (0, 3)
    assert all(len({spec.name for spec in request.tools}) == len(request.tools) for request in found)
    assert sizes(request.stop for request in found) == (0, 2)
    assert sizes(flat(request.stop for request in found)) == (1, 5)
    assert None in {request.max_tokens for request in found} and None in {request.temperature for request in found}
    least, most = bounds(request.max_tokens for request in found)
    assert 1 <= least < 100 < most <= 100_000
    least, most = bounds(request.temperature for request in found)
    assert 0 <= least < 1 < most <= 2


@sampled(lambda: [strategies.provider_errors()])
def test_failures_are_of_every_kind(found):
    timeouts = [error for error in found if isinstance(error, ProviderTimeout)]
    assert {error.clock for error in timeouts} == {"connect", "first_byte", "first_content", "gap", "total"}
    made = kinds(found)
    assert {kind.__name__ for kind in made} >= {"RateLimited", "StreamTruncated", "AuthFailed", "ProviderTimeout"}
    assert len(made) == 12 and all(issubclass(kind, ProviderError) for kind in made)
    waits = {error.retry_after for error in found if not isinstance(error, ProviderTimeout)}
    assert None in waits
    least, most = bounds(waits)
    assert 0 <= least < 1 < most <= 120
    assert {error.retryable for error in found} == {True, False}


@sampled(lambda: [strategies.provider_errors(retryable=True), strategies.provider_errors(retryable=False)])
def test_failures_may_be_only_those_that_are_retried_or_not(retried, others):
    assert {error.retryable for error in retried} == {True}
    assert {error.retryable for error in others} == {False}


@sampled(lambda: [strategies.pauses(longest=1.5), strategies.pauses()])
def test_pauses_are_eighths_of_a_second_up_to_the_longest(short, found):
    waits = {pause.seconds for pause in short}
    assert waits == {eighths / 8 for eighths in range(13)}
    assert bounds(pause.seconds for pause in found) == (0, 5)


@sampled(lambda: [strategies.contents()])
def test_contents_are_all_steps_before_the_end(found):
    steps = flat(found)
    assert sizes(found) == (0, 8)
    assert kinds(steps) == {Say, Think, CallTool, Wait, Report}
    assert sizes(step.text for step in steps if isinstance(step, Say))[0] == 1
    assert sizes(step.text for step in steps if isinstance(step, Think))[0] == 1
    assert {step.fragments for step in steps if isinstance(step, CallTool)} == {1, 2, 3, 4}


@sampled(lambda: [strategies.healthy_scripts(), strategies.healthy_scripts(longest_wait=0.25)])
def test_a_healthy_script_ends_with_its_only_finish(found, short):
    assert kinds(steps[-1] for steps in found) == {Finish} and Finish not in kinds(flat(steps[:-1] for steps in found))
    assert {steps[-1].reason for steps in found} == {None, "stop", "length"}
    assert {steps[-1].usage is None for steps in found} == {True, False}
    assert {step.seconds for step in flat(short) if isinstance(step, Wait)} == {0, 0.125, 0.25}


@sampled(lambda: [strategies.failing_scripts(), strategies.failing_scripts(hang=True)])
def test_a_failing_script_has_no_finish_and_hangs_only_when_asked_to(found, hanging):
    assert Finish not in kinds(flat(found)) and Hang not in kinds(flat(found))
    assert Fail in kinds(steps[-1] for steps in found if steps)
    assert any(steps and steps[-1] == CallTool("f", '{"a": ') for steps in found)
    assert any(not steps or type(steps[-1]) in {Say, Think, Report, Wait} for steps in found)
    assert Hang in kinds(flat(hanging))


@sampled(lambda: [strategies.scripts(), strategies.scripts(hang=True)])
def test_scripts_are_healthy_and_failing_and_hang_only_when_asked_to(found, hanging):
    ends = kinds(steps[-1] for steps in found if steps)
    assert {Finish, Fail} <= ends and Hang not in ends
    assert Hang in kinds(flat(hanging))


@sampled(lambda: [strategies.pieces()])
def test_pieces_are_up_to_six_sizes_of_up_to_forty_bytes(found):
    cuts = [pieces.sizes for pieces in found]
    assert sizes(cuts) == (1, 6)
    assert bounds(flat(cuts)) == (1, 40)


@sampled(lambda: [strategies.statuses()])
def test_statuses_are_errors_with_and_without_a_time_to_wait(found):
    numbers = {status.status for status in found}
    assert len(numbers) == 15 and {400, 401, 429, 500, 529} <= numbers
    assert all(400 <= number < 600 for number in numbers)
    assert {status.retry_after for status in found} == {None, 0.0, 1.0, 2.0, 3.0}


CUTS = {EndBody, CloseConnection, ResetConnection}


@sampled(lambda: [strategies.breaks(), strategies.breaks(hang=True)])
def test_breaks_end_a_stream_in_every_irregular_way_and_hang_only_when_asked_to(found, hanging):
    assert [] in found
    assert kinds(flat(found)) == {ErrorEvent, BadUtf8, BadJson, CallTool, *CUTS}
    assert kinds(steps[1] for steps in found if len(steps) > 1) == CUTS
    assert {step.status for step in flat(found) if isinstance(step, ErrorEvent)} == {500, 529}
    assert {Hang, Pings} <= kinds(flat(hanging))
    assert {step.times for step in flat(hanging) if isinstance(step, Pings)} == {None}


@sampled(lambda: [strategies.fault_scripts()])
def test_fault_scripts_open_cut_say_and_break_in_every_way(found):
    steps = flat(found)
    openings = {SendHeaders, Preamble, Pings}
    contents = {Say, Think, CallTool, Report, Finish}
    refusals = {Status, Page, Garbage}
    assert kinds(steps) == openings | contents | refusals | CUTS | {InPieces, ErrorEvent, BadUtf8, BadJson}
    assert {(step.every, step.times) for step in steps if isinstance(step, Pings)} == {(0.0, 2)}
    assert {step.status for step in steps if isinstance(step, Page)} == {200, 502}
    assert all(len(one) == 1 for one in found if kinds(one) & refusals)
    assert {sum(isinstance(step, InPieces) for step in one) for one in found} == {0, 1}
    assert {sum(type(step) in openings for step in one) for one in found} == {0, 1, 2}
    complete = [one for one in found if Finish in kinds(one)]
    assert {type(one[-1]) for one in complete} == {Finish, EndBody}


@sampled(lambda: [strategies.fault_scripts(longest_wait=0.25)])
def test_fault_scripts_wait_only_when_asked_to(found):
    waits = {step.seconds for step in flat(found) if isinstance(step, Wait)}
    assert waits and waits <= {0.125, 0.25}
