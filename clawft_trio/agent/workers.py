"""Operations on a store with workers: summarize workers and waiting messages, requeue messages that were given up."""

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
    #: number of sessions that it works on
    sessions: int
    #: names of the channels that it serves
    channels: tuple[str, ...]
    #: seconds until its leases expire; negative when they have expired
    expires_in: float


@attrs.frozen(kw_only=True)
class GivenUp:
    """A message that was given up because its turn was begun too often."""

    turn_id: str
    #: number of times that its turn was begun
    deliveries: int
    error: str


@attrs.frozen(kw_only=True)
class WorkSummary:
    """Workers and messages of a store."""

    workers: tuple[WorkerSummary, ...]
    #: number of accepted messages without a reply
    open: int
    #: number of sessions with such messages
    sessions: int
    #: seconds since the oldest of these messages was accepted
    lag: float
    #: number of undelivered replies, by channel
    undelivered: tuple[tuple[str, int], ...]
    given_up: tuple[GivenUp, ...]


async def summarize_work(store: Store) -> WorkSummary:
    """Summarize the workers and messages of *store*.

    Raises:
      StoreError: the store cannot be read.

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
    """Let a message that was given up be answered; return False if there is none with that turn id.

    The reply about giving up is deleted, if it has not been delivered.

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
            # If it runs again after its own commit, the message is already requeued.
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
