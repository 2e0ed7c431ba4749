"""The journal of turns: the steps of a turn, stored before and after each, so that another process can resume it.

| step             | stored before it    | stored after it  | after a crash in between                         |
|------------------|---------------------|------------------|--------------------------------------------------|
| a message comes  |                     | `accepted`       | its publisher has not returned: published again  |
| a model answers  |                     | `answered`       | the model is called again                        |
| a tool is called | `started`           | `ended`          | idempotent: called again; else `OutcomeUnknown`  |
| the reply is out | `replied`           | delivered        | the reply is sent again, with the same `reply_to`|

`replied` ends the turn and stores the reply in one transaction: a reply is stored if and only if the turn has ended.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Protocol

import attrs

from clawft_trio.agent.journal_sql import (
    MIGRATIONS as JOURNAL_MIGRATIONS,
    WORK,
    begin_next,
    end_turn,
    forget_old,
    free_sessions,
    give_up,
    is_left_to_others,
    notify_store,
    refuse_if_owned,
)
from clawft_trio.agent.serialization import inbound_from_json, inbound_to_json
from clawft_trio.agent.turn_steps import TurnSteps
from clawft_trio.bus.undelivered import REPLY, channel_key, insert_undelivered, key_of
from clawft_trio.keys import joined_key
from clawft_trio.messages import InboundMessage, OutboundMessage
from clawft_trio.store import Connection, Store
from clawft_trio.store.leases import Lease, release
from clawft_trio.store.ownership import Ownership, session_name

MIGRATIONS = JOURNAL_MIGRATIONS
"""The tables that `Journal` needs in its store, with those of leases and undelivered replies."""


@attrs.frozen
class Unfinished:
    """A message that was accepted and has no reply."""

    message: InboundMessage
    #: number of times that its turn was begun before
    resumes: int


@attrs.frozen
class Claimed:
    """The oldest open message of a session, for the process that now owns the session."""

    session: str
    lease: Lease
    first: Unfinished


class LoopJournal(Protocol):
    """The methods of a journal that the agent loop uses."""

    async def accepted(self, message: InboundMessage) -> bool:
        """Store *message*; return False for a duplicate.

        Cancellation: `Cancelled` means that it was not stored.
        """
        ...

    async def withdrawn(self, message: InboundMessage) -> None:
        """Remove *message*, which did not enter the queue.

        Cancellation: `Cancelled` means that it was not removed.
        """
        ...

    async def replied(self, message: InboundMessage, reply: OutboundMessage) -> None:
        """End the turn: delete its steps and store its reply for delivery, in one step.

        Cancellation: `Cancelled` means that nothing was stored.
        """
        ...

    async def unfinished(self) -> tuple[Unfinished, ...]:
        """Return the unanswered messages of an earlier process, in order; each counts as resumed from now on.

        Cancellation: safe.
        """
        ...


def turn_id_of(message: InboundMessage) -> str:
    """Return the id of the turn that answers *message*: the same in every process."""
    return joined_key(message.channel, message.chat_id, message.id)


class Journal(TurnSteps):
    """The journal in the store, which needs `MIGRATIONS`: messages, claims and replies, and the steps of their turns.

    Args:
      store: the store with the tables.
      now: returns the time to store with each accepted message.
      ownership: the leases of this process. Without them, one process at a time serves a journal.
    """

    def __init__(
        self,
        store: Store,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        ownership: Ownership | None = None,
    ) -> None:
        super().__init__(store, ownership)
        self._now = now

    async def accepted(self, message: InboundMessage) -> bool:
        """Store *message*.

        Returns:
          Whether *message* is new; False for a duplicate, which must not be answered again.

        Raises:
          StoreError: the store cannot be written; *message* is not accepted.
          InvalidData: its metadata are nested too deeply, over 4 MiB of JSON, or have over 100 000 values.

        Cancellation: `Cancelled` means that it is not accepted.
        """
        new, _ = await self.accept(message, claim=False)
        return new

    async def accept(self, message: InboundMessage, *, claim: bool) -> tuple[bool, Claimed | None]:
        """Store *message* and, with *claim*, take its session if no other process owns it.

        Returns:
          Whether *message* is new, and the oldest open message of its session, which may be answered at once. Without
          the latter, idle processes are notified.

        Raises:
          StoreError: the store cannot be written; *message* is not accepted.
          InvalidData: its metadata are nested too deeply, over 4 MiB of JSON, or have over 100 000 values.

        Cancellation: `Cancelled` means that it is not accepted.
        """
        turn, session = turn_id_of(message), message.session_key
        row = (turn, session, self._now().isoformat(), inbound_to_json(message))
        ownership = self.ownership

        def add(connection: Connection) -> tuple[bool, tuple[Lease, tuple[bytes, int]] | None]:
            query = (
                "INSERT INTO turns (turn, session, accepted_at, message) VALUES (?, ?, ?, ?)"
                " ON CONFLICT (turn) DO NOTHING"
            )
            if connection.execute(query, row).rowcount != 1:
                return False, None
            if ownership is None:
                return True, None
            found = self._claim_in(connection, session) if claim else None
            if found is None:
                notify_store(connection, WORK, ownership.owner)
            return True, found

        # If it runs again after its own commit, it finds a duplicate: the message is then stored without an owner.
        new, found = await self._store.transact(add, concurrent=True, repeatable=True)
        return new, None if found is None else self._noted([(session, *found)])[0]

    async def withdrawn(self, message: InboundMessage) -> None:
        """Remove *message*, which did not enter the queue of the bus and may be published again.

        Raises:
          StoreError: *message* could not be removed; the next process will resume it.

        Cancellation: `Cancelled` means that it is not removed.
        """
        query = "DELETE FROM turns WHERE turn = ? AND message IS NOT NULL"
        turn = turn_id_of(message)
        await self._store.transact(
            lambda connection: connection.execute(query, (turn,)).rowcount, concurrent=True, repeatable=True
        )

    async def replied(self, message: InboundMessage, reply: OutboundMessage) -> None:
        """End the turn of *message* and store *reply* for its channel, in one transaction.

        Raises:
          LeaseLost: another process owns the session. Nothing was written, and *reply* must not be sent.
          StoreError: the store cannot be written; the next process will resume the turn.

        Cancellation: `Cancelled` means that the turn has not ended.
        """
        await self.end(message, reply, go_on=False)

    async def end(
        self, message: InboundMessage, reply: OutboundMessage | None, *, go_on: bool, given_up: str = ""
    ) -> Unfinished | None:
        """End the turn of *message* like `replied`, and begin the next of its session or release the session.

        Args:
          message: the message of the turn.
          reply: None if it was already sent without being stored.
          go_on: whether this process answers the next message of the session.
          given_up: the reason why the message is given up; it stays stored, and can be requeued. Empty: it is not.

        Raises:
          LeaseLost: another process owns the session. Nothing was written, and *reply* must not be sent.
          StoreError: the store cannot be written; the next process will resume the turn.

        Cancellation: `Cancelled` means that the turn has not ended.
        """
        turn, session = turn_id_of(message), message.session_key
        name = session_name(session)
        key = None if reply is None else key_of(attrs.evolve(reply, reply_to=message.id))
        accepted_at = self._now().isoformat()
        ownership = self.ownership
        held = None if ownership is None or not ownership.guards(turn) else ownership.lease_of(name)

        def end(connection: Connection) -> tuple[bytes, int] | None:
            if ownership is not None and held is None:
                # The message waits in this process, and its turn may run in another.
                refuse_if_owned(connection, name, ownership.owner)
            if given_up:
                give_up(connection, turn, given_up)
            # A turn without a reply to store may have ended before: the session is not lost then.
            must_be_open = ownership is not None and reply is not None
            end_turn(connection, turn, session, accepted_at, must_be_open=must_be_open)
            if key is not None and reply is not None:
                insert_undelivered(connection, key, reply)
                if ownership is not None:
                    notify_store(connection, REPLY, f"{ownership.owner}\n{channel_key(reply.channel)}")
            if held is None:
                return None
            following = begin_next(connection, session) if go_on else None
            if following is None:
                release(connection, held)
                if not go_on:
                    notify_store(connection, WORK, session)
            return following

        following = await self._write(turn, end, ends=True)
        if ownership is not None and held is not None and following is None:
            ownership.forget(name)
        return None if following is None else _unfinished(*following)

    async def unfinished(self) -> tuple[Unfinished, ...]:
        """Return the unanswered messages of an earlier process, oldest first.

        Each counts as resumed from now on. Old ids of answered messages are deleted.

        Raises:
          StoreError: the store cannot be used.

        Cancellation: `Cancelled` means that nothing counts as resumed.
        """

        # If it runs again after its own commit, it counts one more resumption.
        def take(connection: Connection) -> list[tuple[bytes, int]]:
            forget_old(connection)
            query = "SELECT message, resumes FROM turns WHERE message IS NOT NULL ORDER BY place"
            rows = connection.execute(query).fetchall()
            connection.execute("UPDATE turns SET resumes = resumes + 1 WHERE message IS NOT NULL")
            return rows

        return tuple(_unfinished(data, resumes) for data, resumes in await self._store.transact(take, repeatable=True))

    async def prepare(self) -> None:
        """Delete old ids of answered messages, and set the sessions of messages that an earlier version accepted.

        Raises:
          StoreError: the store cannot be used.

        Cancellation: `Cancelled` means that nothing was changed.
        """

        def mend(connection: Connection) -> None:
            forget_old(connection)
            query = "SELECT place, message FROM turns WHERE session = '' AND message IS NOT NULL"
            for place, data in connection.execute(query).fetchall():
                session = inbound_from_json(data).session_key
                connection.execute("UPDATE turns SET session = ? WHERE place = ?", (session, place))

        await self._store.transact(mend, repeatable=True)

    async def claim(self, limit: int) -> tuple[Claimed, ...]:
        """Claim up to *limit* sessions with open messages and without an owner, in order of arrival.

        Raises:
          StoreError: the store cannot be used.

        Cancellation: `Cancelled` means that none was claimed.
        """
        assert self.ownership is not None
        ownership, held = self.ownership, self.ownership.held

        def is_needed(connection: Connection) -> bool:
            return bool(free_sessions(connection, 1, locked=False)) or ownership.has_overlong(connection)

        def take(connection: Connection) -> list[tuple[str, Lease, tuple[bytes, int]]]:
            ownership.expire_ended_in(connection)
            taken: list[tuple[str, Lease, tuple[bytes, int]]] = []
            # Sessions of this process with a late renewal are among them, and are skipped.
            for session in free_sessions(connection, limit + held):
                if len(taken) == limit:
                    break
                found = self._claim_in(connection, session)
                if found is not None:
                    taken.append((session, *found))
            return taken

        # Read first: most of the time there is nothing to claim, and a read locks nothing.
        if not await self._store.read(is_needed):
            return ()
        return self._noted(await self._store.transact(take, concurrent=True, durability="process", repeatable=True))

    async def claim_session(self, session: str) -> Claimed | None:
        """Claim *session* if it has an open message and no other owner.

        Raises:
          StoreError: the store cannot be used.

        Cancellation: `Cancelled` means that it was not claimed.
        """

        def take(connection: Connection) -> list[tuple[str, Lease, tuple[bytes, int]]]:
            found = self._claim_in(connection, session)
            return [] if found is None else [(session, *found)]

        taken = await self._store.transact(take, concurrent=True, durability="process", repeatable=True)
        noted = self._noted(taken)
        return noted[0] if noted else None

    async def is_left_to_others(self, session: str) -> bool:
        """Whether *session* has no open message, or another process owns it.

        Raises:
          StoreError: the store cannot be used.

        Cancellation: safe.
        """
        assert self.ownership is not None
        name, owner = session_name(session), self.ownership.owner
        return await self._store.read(lambda connection: is_left_to_others(connection, session, name, owner))

    def _claim_in(self, connection: Connection, session: str) -> tuple[Lease, tuple[bytes, int]] | None:
        assert self.ownership is not None
        lease = self.ownership.acquire_in(connection, session_name(session))
        if lease is None:
            return None
        first = begin_next(connection, session)
        if first is None:
            release(connection, lease)
            return None
        return lease, first

    def _noted(self, taken: Sequence[tuple[str, Lease, tuple[bytes, int]]]) -> tuple[Claimed, ...]:
        assert self.ownership is not None
        for _, lease, _ in taken:
            self.ownership.note(lease)
        return tuple(Claimed(session, lease, _unfinished(*first)) for session, lease, first in taken)


def _unfinished(data: bytes, resumes: int) -> Unfinished:
    return Unfinished(inbound_from_json(data), resumes)
