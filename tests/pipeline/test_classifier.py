"""What kind of task, and how hard: whole words, and complexity that grows with the task."""

from __future__ import annotations

import pytest
from hypothesis import given, settings, strategies as st

from clawft_trio.chat import ChatRequest, Message
from clawft_trio.pipeline import KeywordClassifier

judge = KeywordClassifier().judge


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Implement a function that parses dates", "code_generation"),
        ("Debugging this module takes for ever", "code_generation"),
        ("Fix the classes in here", "code_generation"),
        ("Review this pull request", "code_review"),
        ("Please audit our access rules", "code_review"),
        ("Search for papers on rain", "research"),
        ("Can you look this up: look up the height of the tower", "research"),
        ("Write a poem about Oslo", "creative"),
        ("Tell me stories", "creative"),
        ("Explain why the sky is blue", "analysis"),
        ("Compare these two offers", "analysis"),
        ("Execute the plan", "tool_use"),
        ("Run the tool again", "tool_use"),
        ("What do I wear today?", "chat"),
        ("Hallo, wie geht es dir?", "chat"),
        ("今日の天気はどうですか", "chat"),
        ("", "unknown"),
        ("  \n ", "unknown"),
    ],
)
def test_types(text, expected) -> None:
    assert judge(text).task_type == expected


@pytest.mark.parametrize(
    "text",
    [
        "Add a prefix to my name",
        "A classic evening",
        "Please encode happiness",
        "The prefixed and suffixed",
        "He is a barcode",
        "A fixture on the wall",
        "The storyline",
        "I underwrite it",
        "a non-class event",
        "Our classmates",
    ],
)
def test_words_are_matched_whole(text) -> None:
    assert judge(text).task_type == "chat"
    assert judge(text).keywords == ()


def test_words_in_quoted_code_say_nothing_about_the_task() -> None:
    assert judge("What is this?\n```\nclass Fix: ...\n```").task_type == "chat"


def test_the_keywords_are_told_once_each_in_any_case() -> None:
    assert judge("FIX it. Fix it, and write about the fix.").keywords == ("fix", "write")


def test_the_last_user_message_counts() -> None:
    request = ChatRequest(
        [
            Message.system("You write code"),
            Message.user("implement it"),
            Message.assistant("done, review it"),
            Message.user("thanks!"),
        ]
    )
    assert KeywordClassifier().classify(request).task_type == "chat"
    assert KeywordClassifier().classify(ChatRequest([Message.system("code")])).task_type == "unknown"


BRIEF = (
    "Design the architecture of a distributed job queue. It must survive the loss of any node; no job may run twice. "
    "Compare at least three approaches. Derive the complexity of each. "
    "1. Describe the protocol.\n2. Prove that it cannot deadlock.\n3. Explain the trade-offs.\n- Consider migrations.\n"
) * 3


@pytest.mark.parametrize(
    ("easier", "harder"),
    [
        ("hi", "Write a poem"),
        ("fix code", BRIEF),
        ("fix code", "Fix the race in this code. It must stay concurrent. Explain why it cannot deadlock."),
        ("Explain rain", "Explain rain. Then explain snow. Then explain hail; and compare all three."),
        ("Summarize this", "Summarize this thorough comparison of distributed architecture and formal security"),
        ("Why?", "Why? " + "Here is the background of the story that I would like you to consider. " * 20),
        ("Was ist das?", "Was ist das? " + "Das ist eine lange Geschichte mit vielen Fragen? " * 20),
        ("これは何", "これは何" * 200),
    ],
)
def test_complexity_grows_with_what_is_asked_for(easier, harder) -> None:
    assert judge(easier).complexity < judge(harder).complexity


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("hi", 0.0, 0.1),
        ("What time is it?", 0.0, 0.1),
        ("fix code", 0.1, 0.3),
        (BRIEF, 0.7, 1.0),
        ("x" * 40_000, 1.0, 1.0),
    ],
)
def test_the_scale_is_used_from_end_to_end(text, low, high) -> None:
    assert low <= judge(text).complexity <= high


words = st.sampled_from(
    "fix code review the a prove distributed. write; explain? search - ```\n 漢字 und design hello 1.\n".split(" ")
)


@given(st.lists(words, max_size=60), st.lists(words, max_size=20))
@settings(deadline=None, max_examples=300)
def test_more_words_never_make_a_task_easier(before, after) -> None:
    # Code fences aside: what is quoted stops being prose.
    shorter = " ".join(word for word in before if "```" not in word)
    longer = shorter + " " + " ".join(word for word in after if "```" not in word)
    assert 0 <= judge(shorter).complexity <= judge(longer).complexity <= 1


@given(st.text(max_size=300))
@settings(deadline=None, max_examples=200)
def test_any_text_can_be_judged(text) -> None:
    assert 0 <= judge(text).complexity <= 1


def test_a_huge_text_is_judged_in_linear_time() -> None:
    # Quadratic, this would take minutes; pytest's own limit is the judge.
    for text in ("look " * 2_000_000, "`" * 5_000_000, "a-" * 5_000_000, "\n" * 5_000_000):
        KeywordClassifier().classify(ChatRequest([Message.user(text)]))


@pytest.mark.parametrize(
    ("text", "complexity"),
    [
        ("hi there you", 0.0),
        ("hi there you two", 0.002326),
        ("Please look: ```x```", 0.1),
        ("Review the code", 0.2),
        ("Explain rain. Then snow. Then hail.", 0.213624),
        ("prove it", 0.118041),
        ("Prove it, prove the proof", 0.194272),
        ("漢" * 11, 0.00693),
        ("- a\n- b\n- c", 0.030704),
        ("a " * 153, 0.221242),
        ("a" * 32_000, 0.0),
        ("a" * 32_001, 1.0),
        # Every part at its largest.
        ("prove proof design migrate race derive theorem ```code``` review. " * 90, 1.0),
    ],
)
def test_the_complexity_of_a_text_is_the_same_in_every_version(text: str, complexity: float) -> None:
    # Tiers are chosen by it: another scale would send the same question to another model.
    assert judge(text).complexity == complexity


def test_a_type_is_the_first_of_its_groups_and_the_weight_that_of_the_heaviest() -> None:
    both = judge("search it, and summarize it")
    assert both.task_type == "research"
    assert both.complexity == pytest.approx(judge("summarize it, and stop it").complexity, abs=0.001)
    assert judge("search it, and stop it").complexity == pytest.approx(both.complexity - 0.05, abs=0.001)
