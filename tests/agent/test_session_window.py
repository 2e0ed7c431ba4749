"""A turn's window onto its session: the room of results, and when the session is compacted."""

from __future__ import annotations

import attrs
import pytest
import trio
from agent.test_compaction import tail

from clawft_trio.agent import CompactionPolicy
from clawft_trio.agent.background import open_background
from clawft_trio.agent.session_view import Compaction, SessionTail, StoredMessage
from clawft_trio.agent.session_window import SessionWindow
from clawft_trio.auth import AuthContext
from clawft_trio.chat import Call, ChatRequest, Message
from clawft_trio.observe import Recorder, SessionCompacted
from clawft_trio.pipeline import RoutingDecision, Target
from clawft_trio.pipeline.tokens import count_tokens, request_tokens
from clawft_trio.tools import ToolResult
from clawft_trio.tools.truncate import RESULT_LIMIT

DECISION = RoutingDecision(targets=(Target.parse("p/m"),))
NO_SUMMARY = CompactionPolicy(compactor=None, goal=0.5, start=0.75, longest_result=0.25)


@attrs.define(kw_only=True)
class Models:
    limit: int

    def input_limit(self, request: ChatRequest, decision: RoutingDecision) -> int:
        return self.limit


@attrs.define
class Store:
    """The store of one session. It refuses a compaction, as when another process has just stored one."""

    stored: SessionTail
    refuses: bool = False
    asked: list[int] = attrs.field(factory=list)
    results: dict[str, str] = attrs.field(factory=dict)

    async def tail(self, session: str, limit: int) -> SessionTail:
        await trio.lowlevel.checkpoint()
        self.asked.append(limit)
        return attrs.evolve(self.stored, rows=self.stored.rows[-limit:] if limit else ())

    async def compact(self, session: str, compaction: Compaction, *, version: int) -> bool:
        await trio.lowlevel.checkpoint()
        if self.refuses:
            return False
        rows = tuple(row for row in self.stored.rows if row.place > compaction.cut)
        self.stored = SessionTail(compaction=compaction, version=version + 1, rows=rows)
        return True

    async def keep_result(self, session: str, reference: str, text: str) -> None:
        await trio.lowlevel.checkpoint()
        self.results[reference] = text


def window(store: Store | None = None, *, limit: int = 4000, memory_window: int = 100, **more: object) -> SessionWindow:
    return SessionWindow(
        session="s",
        auth=AuthContext.local(),
        history=store,
        models=Models(limit=limit),
        call=Call(id="c", turn_id="t", observer=Recorder()),
        store=store,
        memory_window=memory_window,
        **{"policy": NO_SUMMARY, **more},
    )


async def sizes_of_cut(limit: int | None, *texts: str) -> list[int]:
    """The bytes that results of one round have afterwards."""
    own = window()
    own.limit = limit
    answers = [ToolResult(f"c{number}", name="look", text=text) for number, text in enumerate(texts)]
    cut = await own.cut(answers, 1)
    assert [answer.call_id for answer in cut] == [answer.call_id for answer in answers]
    return [len(answer.text.encode()) for answer in cut]


async def test_without_a_known_window_a_result_has_the_length_that_every_result_may_have() -> None:
    small, exact, large = "r" * 10, "r" * RESULT_LIMIT, "é" * RESULT_LIMIT
    assert (await sizes_of_cut(None, small, exact))[:2] == [10, RESULT_LIMIT]
    (cut,) = await sizes_of_cut(None, large)
    assert RESULT_LIMIT - 300 < cut <= RESULT_LIMIT


# The text has a token for every five characters.
@pytest.mark.parametrize(
    ("tokens", "most"),
    [
        pytest.param([1000], [1000], id="a quarter of the window"),
        pytest.param([1001], [1000], id="more than a quarter"),
        pytest.param([1000, 1000], [1000, 1000], id="together the half"),
        pytest.param([1000, 1000, 1000], [666, 667, 667], id="more than the half together"),
        pytest.param([100, 5000, 5000], [100, 950, 950], id="what one does not need the others get"),
        pytest.param([5000] * 40, [None] * 40, id="never less than a few lines"),
    ],
)
async def test_the_results_of_a_round_share_the_half_of_the_window(tokens: list[int], most: list[int | None]) -> None:
    texts = ["abcd " * number for number in tokens]
    assert [count_tokens(text) for text in texts] == tokens
    for text, size, room in zip(texts, await sizes_of_cut(4000, *texts), most, strict=True):
        bytes_ = 512 if room is None else 5 * room
        assert (size == bytes_) if bytes_ == len(text) else (0.8 * bytes_ < size <= bytes_)


async def test_a_cut_result_is_stored_whole_for_the_tool_that_reads_it() -> None:
    store = Store(SessionTail())
    own = window(store, readable=True)
    own.limit = 4000
    small, large = ToolResult("a", name="look", text="r"), ToolResult("b", name="look", text="abcd " * 5000)
    kept, cut = await own.cut([small, large], 1)
    assert kept is small
    ((reference, whole),) = store.results.items()
    assert whole == large.text
    assert cut.text.endswith(
        f'[This is a part. The whole has 25000 characters; read more of it with read_result(id="{reference}", start=...).]'
    )
    await own.cut([large], 2)
    assert len(store.results) == 2


QUESTION = Message.user("And now?")


async def fitted(own: SessionWindow, limit: int) -> bool:
    own.models.limit = limit
    return await own.fit(ChatRequest([*own.messages, QUESTION], model="m"), DECISION)


def of_six_turns(**more: object) -> tuple[SessionWindow, int]:
    """A window onto six turns, and the tokens of a request with them."""
    store = Store(tail([(0, 400)] * 6))
    own = window(store, **more)
    own.tail = store.stored
    return own, request_tokens(ChatRequest([*own.messages, QUESTION], model="m"))


async def test_a_request_up_to_the_limit_is_sent_as_it_is() -> None:
    policy = attrs.evolve(NO_SUMMARY, start=1)
    own, everything = of_six_turns(policy=policy)
    assert not await fitted(own, everything)
    assert len(own.messages) == 12
    assert await fitted(own, everything - 1)
    assert 0 < len(own.messages) < 12
    (event,) = own.call.observer.of(SessionCompacted)
    assert (event.session, event.messages, event.summarized, event.turn_id) == ("s", 12 - len(own.messages), False, "t")


async def test_without_the_background_a_session_is_compacted_from_its_start() -> None:
    own, everything = of_six_turns()
    limit = int(everything / 0.75) + 1
    assert not await fitted(own, limit + 8)
    assert await fitted(own, limit - 8)


async def test_with_the_background_a_session_is_compacted_when_it_does_not_fit() -> None:
    async with open_background() as background:
        own, everything = of_six_turns(background=background)
        assert not await fitted(own, everything)
        assert await fitted(own, everything - 1)


async def test_a_compaction_that_the_store_refuses_shortens_the_request_of_this_turn() -> None:
    """Another process has stored one since the session was loaded, so this request has to be made anew, too."""
    own, everything = of_six_turns()
    own.store.refuses = True
    assert await fitted(own, everything - 1)
    assert 0 < len(own.messages) < 12
    assert own.tail.version == own.store.stored.version
    assert own.call.observer.of(SessionCompacted) == []


async def test_what_cannot_be_compacted_is_sent_as_it_is() -> None:
    own, _ = of_six_turns()
    own.tail = SessionTail()
    assert not await fitted(own, 1)


async def test_a_history_that_stores_no_compactions_is_never_compacted() -> None:
    own, everything = of_six_turns()
    own.store = None
    assert not await fitted(own, everything - 1)


@pytest.mark.parametrize(("added", "compacted"), [(0, False), (2, True)])
async def test_after_a_turn_the_session_is_compacted_in_the_background_from_its_start(
    added: int, compacted: bool
) -> None:
    async with open_background() as background:
        own, everything = of_six_turns(background=background)
        assert not await fitted(own, everything)
        own.models.limit = int(everything / 0.75) + 1
        own.compact_later([Message.assistant("a" * 40)] * added, ChatRequest([QUESTION]), DECISION)
        await background.wait("s")
    assert (own.store.stored.version == 1) is compacted


async def test_without_a_background_or_a_store_nothing_is_compacted_after_a_turn() -> None:
    async with open_background() as background:
        for more in ({}, {"background": background}):
            own, _ = of_six_turns(**more)
            stored, own.models.limit = own.store, 100
            if more:
                own.store = None
            own.compact_later([QUESTION], ChatRequest([QUESTION]), DECISION)
            await background.wait("s")
            assert (stored.stored.version, len(own.messages)) == (0, 12)


async def test_a_summary_counts_as_a_part_of_the_window() -> None:
    async with open_background() as background:
        own, everything = of_six_turns(background=background)
        own.models.limit = int(everything / 0.75) + 8
        own.tail = attrs.evolve(own.tail, compaction=Compaction(summary="s" * 400))
        own.store.stored = own.tail
        own.compact_later([QUESTION], ChatRequest([QUESTION]), DECISION)
        await background.wait("s")
    assert own.store.stored.version == 1


async def test_what_a_request_has_beside_the_session_is_counted_once() -> None:
    own, _ = of_six_turns()
    own.tail = attrs.evolve(own.tail, compaction=Compaction(summary="s" * 400))
    assert not await own.fit(ChatRequest(own.complete((Message.system("x" * 400),), QUESTION), model="m"), DECISION)
    beside = request_tokens(ChatRequest([Message.system("x" * 400), QUESTION], model="m"))
    # The frame around the summary is not counted with it.
    assert beside <= own.overhead < beside + 40


async def test_a_history_that_only_lists_its_messages_is_cut_in_every_turn() -> None:
    class History:
        async def history(self, session: str, limit: int | None = None) -> tuple[Message, ...]:
            await trio.lowlevel.checkpoint()
            return tail([(0, 40)] * 6).messages[-limit:] if limit else tail([(0, 40)] * 6).messages

    own = window(memory_window=4)
    own.history = History()
    assert await own.load() == tail([(0, 40)] * 6).messages[-4:] == own.messages


@pytest.mark.parametrize(("memory_window", "asked"), [(0, 0), (4, 9)])
async def test_twice_the_messages_that_are_sent_are_loaded(memory_window: int, asked: int) -> None:
    store = Store(tail([(0, 40)] * 6))
    own = window(store, memory_window=memory_window)
    messages = await own.load()
    assert store.asked == [asked]
    assert 0 <= len(messages) <= memory_window
    assert [message.role for message in messages[:1]] == ["user"] * (memory_window > 0)
    # A cut that moves is stored, so that the next turn begins with the same messages.
    assert (store.stored.version == 1) is bool(memory_window)
    again = window(store, memory_window=memory_window)
    assert await again.load() == messages
    assert store.stored.version == bool(memory_window)


async def test_a_loaded_part_begins_with_a_turn() -> None:
    """Else the first question, whose turn was loaded in part, would be answered by calls without a question."""
    rows = tail([(300, 40)] * 4).rows
    store = Store(SessionTail(rows=rows))
    own = window(store, memory_window=5)
    assert (await own.load())[0].role == "user"
    # All that is loaded belongs to a turn whose question is not.
    answers = tuple(StoredMessage(place=n, at="", message=Message.assistant("a")) for n in range(1, 8))
    assert await window(Store(SessionTail(rows=answers)), memory_window=3).load() == ()
