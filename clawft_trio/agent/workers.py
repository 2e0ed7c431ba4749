"""Which workers serve a store, what waits in it, and what was given up."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import attrs

from clawft_trio.agent.journal_sql import WORK, notify_store
from clawft_trio.agent.serialization import inbound_from_json
from clawft_trio.bus.undelivered import delete_undelivered, key_of
from clawft_trio.messages import OutboundMessage
from clawft_trio.store import Connection, Store


@attrs.frozen(kw_only=True)
class WorkerSummary:
    """One process that holds leases."""

    owner: str
    #: sessions that it works on
    sessions: int
    #: channels that it serves
    channels: tuple[str, ...]
    #: seconds until its leases run out; negative: they have
    expires_in: float


@attrs.frozen(kw_only=True)
class GivenUp:
    """A message that was begun too often without an end."""

    turn_id: str
    #: how often it was begun
    deliveries: int
    error: str


@attrs.frozen(kw_only=True)
class WorkSummary:
    """What happens in a store."""

    workers: tuple[WorkerSummary, ...]
    #: accepted messages without a reply
    open: int
    #: sessions with such messages
    sessions: int
    #: seconds since the oldest of them was accepted
    lag: float
    #: replies that wait, by channel
    undelivered: tuple[tuple[str, int], ...]
    given_up: tuple[GivenUp, ...]


async def summarize_work(store: Store) -> WorkSummary:
    """What happens in *store*.

    Raises:
      StoreError: it cannot be read.

    Cancellation: nothing is changed.
    """
    return await store.read(_summary)


def _summary(connection: Connection) -> WorkSummary:
    query = "SELECT owner, name, expires - now_seconds() FROM leases ORDER BY owner, name"
    leases: dict[str, list[tuple[str, float]]] = {}
    for owner, name, left in connection.execute(query).fetchall():
        leases.setdefault(owner, []).append((name, left))
    open_query = "SELECT count(*), count(DISTINCT session), min(accepted_at) FROM turns WHERE message IS NOT NULL"
    count, sessions, first = connection.execute(open_query).fetchone()
    given_up = "SELECT turn, resumes, error FROM turns WHERE given_up IS NOT NULL ORDER BY place"
    waiting = "SELECT channel, count(*) FROM undelivered GROUP BY channel ORDER BY channel"
    return WorkSummary(
        workers=tuple(_worker(owner, held) for owner, held in leases.items()),
        open=count,
        sessions=sessions,
        lag=0.0 if first is None else (datetime.now(UTC) - datetime.fromisoformat(first)).total_seconds(),
        undelivered=tuple((channel, number) for channel, number in connection.execute(waiting).fetchall()),
        given_up=tuple(
            GivenUp(turn_id=turn, deliveries=resumes, error=error)
            for turn, resumes, error in connection.execute(given_up).fetchall()
        ),
    )


def _worker(owner: str, held: Sequence[tuple[str, float]]) -> WorkerSummary:
    channels = [name.removeprefix("channel:") for name, _ in held if name.startswith("channel:")]
    return WorkerSummary(
        owner=owner,
        sessions=sum(name.startswith("session:") for name, _ in held),
        channels=tuple(channels),
        expires_in=min(left for _, left in held),
    )


async def requeue(store: Store, turn_id: str) -> bool:
    """Have a message that was given up answered after all; False when there is none of that turn.

    The reply about giving it up is taken back, if it has not been delivered.

    Raises:
      StoreError: the store cannot be written.

    Cancellation: `Cancelled` means that nothing was changed.
    """
    seen = False

    def again(connection: Connection) -> bool:
        nonlocal seen
        query = "SELECT session, given_up FROM turns WHERE turn = ? AND given_up IS NOT NULL"
        found = connection.execute(query, (turn_id,)).fetchone()
        if found is None:
            # Run again after its own commit, it has been done.
            return seen
        seen, (session, data) = True, found
        connection.execute(
            "UPDATE turns SET message = given_up, given_up = NULL, error = '', resumes = 0 WHERE turn = ?", (turn_id,)
        )
        message = inbound_from_json(data)
        reply = OutboundMessage(channel=message.channel, chat_id=message.chat_id, content="", reply_to=message.id)
        key = key_of(reply)
        if key is not None:
            delete_undelivered(connection, key)
        notify_store(connection, WORK, session)
        return True

    return await store.transact(again, repeatable=True)
