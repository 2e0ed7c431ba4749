"""What happens exactly at a limit: attachments, summaries, and durations in replies."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from clawft_trio.agent import CompactionPolicy
from clawft_trio.agent.compaction import within
from clawft_trio.agent.error_replies import duration, failure_reply
from clawft_trio.agent.media import LARGEST, MOST, media_parts
from clawft_trio.chat import File, Image, Part, Text
from clawft_trio.errors import BudgetExceeded, ProviderError, RateLimitExceeded
from clawft_trio.messages import InboundMessage
from clawft_trio.net import AddressPolicy
from clawft_trio.observe import Recorder
from clawft_trio.pipeline.tokens import count_tokens

MESSAGE = InboundMessage(channel="c", sender_id="ana", chat_id="1", content="hi")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "1 second"),
        (1, "1 second"),
        (1.1, "2 seconds"),
        (99.5, "100 seconds"),
        (100, "2 minutes"),
        (120.5, "3 minutes"),
        (5999, "100 minutes"),
        (6000, "2 hours"),
        (48 * 3600 - 1, "48 hours"),
        (48 * 3600, "2 days"),
        (48 * 3600 + 1, "3 days"),
    ],
)
def test_a_duration_is_rounded_up_to_the_unit_that_people_use(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_a_reply_names_the_wait_if_it_is_known_and_finite() -> None:
    def content(error: Exception) -> str:
        return failure_reply(MESSAGE, error).content

    assert content(RateLimitExceeded("x", retry_after=5)).endswith("Please try again in 5 seconds.")
    assert (
        content(ProviderError("x", retry_after=5)) == "No model could answer just now. Please try again in 5 seconds."
    )
    assert content(ProviderError("x")) == "No model could answer just now. Please try again."
    endless = failure_reply(MESSAGE, RateLimitExceeded("x", retry_after=float("inf")))
    assert ("again in" in endless.content, "retry_after" in endless.metadata) == (False, False)
    assert failure_reply(MESSAGE, RateLimitExceeded("x", retry_after=0)).metadata["retry_after"] == 0


SPENT, NOT_COVERED = "The budget for your questions is spent.", "What is left of the budget for your questions does not"


@pytest.mark.parametrize(
    ("spent", "estimate", "unit", "begin", "figures"),
    [
        ("1", "0.25", "usd", SPENT, "Limit $1.00, spent $1.00, reserved $0.00; this needs up to $0.25."),
        ("0.5", "0.0005", "usd", NOT_COVERED, "Limit $1.00, spent $0.50, reserved $0.00; this needs up to $0.0005."),
        ("0.5", "1.2345", "usd", NOT_COVERED, "Limit $1.00, spent $0.50, reserved $0.00; this needs up to $1.2345."),
        ("1", None, "turns", SPENT, "Limit 1 turn, spent 1 turn, reserved 0 turns; what this costs is not known."),
    ],
)
def test_a_reply_about_a_budget_has_its_figures(
    spent: str, estimate: str | None, unit: str, begin: str, figures: str
) -> None:
    error = BudgetExceeded(
        "x",
        spent=Decimal(spent),
        limit=Decimal(1),
        reserved=Decimal(0),
        estimate=None if estimate is None else Decimal(estimate),
        unit=unit,
    )
    content = failure_reply(MESSAGE, error).content
    assert content.startswith(begin)
    assert content.endswith(f". {figures}")


async def parts(*media: str, workspace: Path | None = None) -> tuple[tuple[Part, ...], int]:
    """The parts, and the number of attachments that were reported as left out."""
    recorder = Recorder()
    made = await media_parts(media, workspace=workspace, policy=AddressPolicy(), observer=recorder)
    return made, len(recorder.events)


async def test_twenty_attachments_are_attached_and_the_next_one_is_left_out() -> None:
    made, left_out = await parts(*["data:image/png;base64,AAAA"] * MOST)
    assert (len(made), left_out, {type(part) for part in made}) == (MOST, 0, {Image})
    made, left_out = await parts(*["data:image/png;base64,AAAA"] * (MOST + 1))
    assert (len(made), left_out) == (MOST + 1, 1)
    assert isinstance(made[-1], Text)
    assert f"more than {MOST} attachments" in made[-1].text


@pytest.mark.parametrize(("size", "left_out"), [(LARGEST, 0), (LARGEST + 1, 1)])
async def test_a_file_of_exactly_the_largest_size_is_attached(size: int, left_out: int, tmp_path: Path) -> None:
    with (tmp_path / "a.bin").open("wb") as file:
        file.truncate(size)
    made, told = await parts("a.bin", workspace=tmp_path)
    assert (told, isinstance(made[0], File)) == (left_out, not left_out)


@pytest.mark.parametrize(("length", "end"), [(100_000, "a"), (100_001, "\n[1 characters left out]")])
async def test_a_long_text_is_cut_with_a_note(length: int, end: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a" * length)
    (made,), _ = await parts("a.txt", workspace=tmp_path)
    assert isinstance(made, Text)
    assert made.text == "[attachment a.txt]\n" + "a" * 100_000 + ("" if length == 100_000 else end)


@pytest.mark.parametrize(
    "refused",
    [
        "data:image/png;base64,A",
        "data:image/png;base64,AA!!AA",
        "data:image/png;base64,",
        "data:image/png",
        "http://example.org/a.png",
        "https://ana@example.org/a.png",
        "https://:secret@example.org/a.png",
        "https:///a.png",
        "https://127.0.0.1/a.png",
        "https://[::1]/a.png",
        "a.png",
    ],
)
async def test_what_may_not_be_attached_is_a_line_of_text(refused: str) -> None:
    (made,), left_out = await parts(refused)
    assert left_out == 1
    assert isinstance(made, Text)
    shown = refused.replace("ana@", "***@").replace(":secret@", "***@")
    assert made.text.startswith(f"[attachment {shown[:60]} left out: ")


async def test_attachments_keep_their_type_and_name() -> None:
    given = (
        "https://example.org/x/a.pdf?b=c",
        "https://example.org/a",
        "data:,hello%20you",
        "data:application/pdf,%00",
    )
    made, left_out = await parts(*given)
    assert left_out == 0
    assert made == (
        File(url=given[0], media_type="application/pdf", name="a.pdf"),
        Image(url=given[1], media_type="image/*"),
        Text("[attachment text/plain]\nhello you"),
        File(data=b"\0", media_type="application/pdf", name=""),
    )


@pytest.mark.parametrize(
    ("window", "budget"), [(1, 1), (15, 1), (16, 2), (15_992, 1999), (16_000, 2000), (10**6, 2000)]
)
def test_a_summary_has_an_eighth_of_the_window_and_two_thousand_tokens_at_most(window: int, budget: int) -> None:
    assert CompactionPolicy().summary_budget(window) == budget


@pytest.mark.parametrize("wrong", [{"start": 0}, {"start": 1.01}, {"goal": 0}, {"kept_results": -1}, {"total": 0},
                                   {"longest_summary": 0}, {"longest_result": 0}])  # fmt: skip
def test_a_compaction_that_makes_no_sense_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        CompactionPolicy(**wrong)  # type: ignore[arg-type]


def test_the_least_values_of_a_compaction_are_accepted() -> None:
    policy = CompactionPolicy(start=1, goal=1, kept_results=0, total=None, longest_summary=1, longest_result=1)
    assert policy.kept_results == 0
    defaults = CompactionPolicy()
    assert (defaults.start, defaults.goal, defaults.kept_results, defaults.longest_result) == (0.75, 0.5, 2, 0.25)
    assert (defaults.longest_summary, defaults.total) == (2000, 120.0)


def test_a_text_that_fits_exactly_stays_and_a_longer_one_loses_its_middle() -> None:
    text = "word " * 200
    tokens = count_tokens(text)
    assert within(text, tokens) == text
    cut = within(text, tokens - 1)
    assert count_tokens(cut) <= tokens - 1
    first, _, last = cut.partition("\n[...]\n")
    assert text.startswith(first)
    assert text.endswith(last)
    assert first
    assert abs(len(first) - len(last)) <= 1
    assert len(cut) > len(text) // 2
    long = within("BEGIN " + "word " * 20_000 + "END", 100)
    assert (long.startswith("BEGIN word"), long.endswith("word END"), 80 < count_tokens(long) <= 100) == (True,) * 3
    assert within(text, 0) == within(text, -5) == "[...]"
    assert within("", 0) == ""
