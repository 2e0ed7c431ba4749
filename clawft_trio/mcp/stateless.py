"""Revision 2026-07-28: no handshake; every request names its client, and a response may be a list of questions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, TypeVar

import msgspec
import trio
from msgspec import Raw

from clawft_trio.backoff import backoff
from clawft_trio.errors import McpError, PeerError, ProtocolViolation
from clawft_trio.mcp.host import Host
from clawft_trio.mcp.types import PROTOCOL_VERSION, STATELESS_VERSION, WireRecord, decode_without_nulls

T = TypeVar("T")

CLIENT_CAPABILITIES: Final = "io.modelcontextprotocol/clientCapabilities"
CLIENT_INFO: Final = "io.modelcontextprotocol/clientInfo"
SERVER_INFO: Final = "io.modelcontextprotocol/serverInfo"
LOG_LEVEL: Final = "io.modelcontextprotocol/logLevel"

UNSUPPORTED_VERSION: Final = -32022
"""The server supports other revisions; `data.supported` lists them."""

MAX_ROUNDS = 10
"""Largest number of times that one call may be answered by questions; the same limit as the Python SDK's."""

# A server that only wants the request repeated (state, no questions) is not called in a busy loop.
_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 0.25


class _Question(WireRecord, frozen=True):
    method: str
    params: Raw = Raw(b"{}")


class _Outcome(WireRecord, frozen=True):
    """Fields that every result of this revision may have in addition to its own."""

    result_type: str = "complete"
    input_requests: dict[str, _Question] = msgspec.field(default_factory=dict)
    request_state: str | None = None


class InputRequired(WireRecord, frozen=True):
    """The server needs answers to its questions before it answers the request."""

    questions: dict[str, _Question]
    state: str | None


_decode_outcome = partial(decode_without_nulls, decoder=msgspec.json.Decoder(_Outcome))


def request_meta(host: Host, client: object, log_level: str | None = None) -> Mapping[str, Any]:
    """Return the `_meta` of every request."""
    meta = {PROTOCOL_VERSION: STATELESS_VERSION, CLIENT_CAPABILITIES: host.capabilities(), CLIENT_INFO: client}
    return meta if log_level is None else {**meta, LOG_LEVEL: log_level}


def or_input_required(decode: Callable[[Raw], T]) -> Callable[[Raw], T | InputRequired]:
    """Extend *decode* for this revision: a result with questions is decoded to `InputRequired`."""

    def decode_either(raw: Raw) -> T | InputRequired:
        outcome = _decode_outcome(raw)
        if outcome.result_type == "complete":
            return decode(raw)
        if outcome.result_type != "input_required":
            raise ValueError(f"unknown resultType {outcome.result_type[:60]!r}")
        return InputRequired(questions=outcome.input_requests, state=outcome.request_state)

    return decode_either


async def answer_questions(host: Host, required: InputRequired, round_: int, *, server: str) -> dict[str, Any]:
    """Answer the questions and return the parameters to add when the request is repeated.

    Raises:
      ProtocolViolation: the server asked more often than `MAX_ROUNDS`.
      McpError: a question cannot be answered here.

    Cancellation: as for the function that answers.
    """
    if round_ > MAX_ROUNDS:
        raise ProtocolViolation(f"more than {MAX_ROUNDS} questions for one call", server=server)
    added: dict[str, Any] = {}
    if required.questions:
        added["inputResponses"] = await _ask_all(host, required.questions, server)
    else:
        await trio.sleep(backoff(round_, first=_FIRST_PAUSE, longest=_LONGEST_PAUSE))
    if required.state is not None:
        added["requestState"] = required.state
    return added


async def _ask_all(host: Host, questions: Mapping[str, _Question], server: str) -> dict[str, Any]:
    answers: dict[str, Any] = {}
    for key, question in questions.items():
        try:
            answers[key] = await host.answer_to(question.method, question.params)
        except PeerError as exc:
            raise McpError(f"its question {question.method!r} cannot be answered: {exc}", server=server) from exc
    return answers
