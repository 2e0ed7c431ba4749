"""Records are copied with changes, as by `attrs.evolve`."""

from __future__ import annotations

import attrs
from hypothesis import given, strategies as st

from clawft_trio.attempts import Latency
from clawft_trio.chat import ChatRequest, ChatResponse, Message
from clawft_trio.replacing import replaced

REQUEST = ChatRequest([Message.user("hi")], model="m", max_tokens=7, stream=False)
RECORDS = st.sampled_from(
    [
        (REQUEST, {"model": "other", "messages": (Message.user("a"), Message.assistant("b"))}),
        (ChatResponse(content="text", finish_reason="stop"), {"attempts": (), "latency": Latency(total=2.0)}),
        (Latency(total=1.0, queued=0.5), {"first_content": 0.25, "total": 3.0}),
    ]
)


@given(RECORDS, st.data())
def test_a_copy_is_what_evolve_makes(record_and_changes, data: st.DataObject) -> None:
    record, changes = record_and_changes
    some = {name: changes[name] for name in data.draw(st.sets(st.sampled_from(sorted(changes))))}
    before = attrs.asdict(record, recurse=False)
    assert replaced(record, **some) == attrs.evolve(record, **some)
    assert attrs.asdict(record, recurse=False) == before
