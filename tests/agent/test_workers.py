"""Several processes serve the sessions of one store, and are killed and stopped meanwhile."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest
import trio
from postgres_server import Server

from clawft_trio.agent.journal import Journal, turn_id_of
from clawft_trio.agent.open_agent import MIGRATIONS
from clawft_trio.bus.undelivered import decode_message
from clawft_trio.errors import StoreError
from clawft_trio.messages import InboundMessage
from clawft_trio.store import Connection, Store, open_store
from clawft_trio.store.ownership import Ownership

CHILD = Path(__file__).with_name("worker_child.py")


class Workers:
    """Worker processes that may be killed, stopped and replaced."""

    def __init__(self, place: Path | str, folder: Path) -> None:
        self._command = [sys.executable, str(CHILD), str(place), str(folder)]
        self._log = folder / "workers.log"
        self._folder = folder
        self.running: list[subprocess.Popen[bytes]] = []
        #: those that were sent SIGTERM
        self.ending: list[subprocess.Popen[bytes]] = []
        #: number of messages that were answered
        self.answered: int = 0

    def start(self) -> None:
        with self._log.open("ab") as log:
            self.running.append(subprocess.Popen(self._command, stdout=log, stderr=log))

    def ready(self) -> list[subprocess.Popen[bytes]]:
        """Those that have opened the store: killing the others would only test how fast Python starts."""
        return [worker for worker in self.running if (self._folder / f"ready-{worker.pid}").exists()]

    def kill(self, worker: subprocess.Popen[bytes]) -> None:
        self.running.remove(worker)
        worker.kill()
        worker.wait()

    def end(self) -> None:
        for worker in (*self.running, *self.ending):
            with suppress(ProcessLookupError):
                worker.send_signal(signal.SIGCONT)
                worker.kill()
            worker.wait()


def messages(sessions: int, count: int) -> list[InboundMessage]:
    return [
        InboundMessage(channel="ch", sender_id="u", chat_id=str(n % sessions), id=f"m{n}", content=f"pay {n}")
        for n in range(count)
    ]


async def publish(store: Store, asked: list[InboundMessage]) -> None:
    """Accept *asked* in order, several sessions at once, whatever happens to the store meanwhile."""
    journal = Journal(store, ownership=Ownership(store))

    async def one_by_one(chain: list[InboundMessage]) -> None:
        for message in chain:
            while True:
                try:
                    await journal.accept(message, claim=False)
                    break
                except StoreError:
                    await trio.sleep(0.05)

    lanes: dict[str, list[InboundMessage]] = {}
    for message in asked:
        lanes.setdefault(message.chat_id, []).append(message)
    async with trio.open_nursery() as nursery:
        for chain in lanes.values():
            nursery.start_soon(one_by_one, chain)


async def wait_until_answered(store: Store, count: int, patience: float, workers: Workers) -> None:
    """Wait until *count* messages are answered; fail when no further one was for *patience* seconds."""

    def answered(connection: Connection) -> int:
        return connection.execute("SELECT count(*) FROM undelivered").fetchone()[0]

    done = 0
    while done < count:
        before = done
        with trio.move_on_after(patience):
            while done == before:
                await trio.sleep(0.1)
                with suppress(StoreError):
                    done = workers.answered = await store.read(answered)
        assert done > before, f"{done} of {count} were answered, and no further one within {patience:g} s"
    assert done == count


async def check_the_world(store: Store, folder: Path, asked: list[InboundMessage]) -> None:
    """One final reply each, in order within each session; no effect twice; no request that is not charged."""
    rows = await store.read(lambda c: c.execute("SELECT message FROM undelivered ORDER BY place").fetchall())
    replies = [decode_message(data) for (data,) in rows]
    assert Counter(reply.reply_to for reply in replies) == Counter(message.id for message in asked)
    for session in {message.chat_id for message in asked}:
        assert [reply.reply_to for reply in replies if reply.chat_id == session] == [
            message.id for message in asked if message.chat_id == session
        ]
    effects = Counter((folder / "effects").read_text().splitlines())
    said = {reply.reply_to: reply.content for reply in replies}
    for message in asked:
        effect = effects[turn_id_of(message)]
        assert said[message.id] in {"paid", "unknown"}, said[message.id]
        assert effect == 1 if said[message.id] == "paid" else effect <= 1, (message.id, said[message.id], effect)
    requests = len((folder / "requests").read_text().splitlines())
    (charges,) = await store.read(lambda c: c.execute("SELECT count(*) FROM cost_charges").fetchone())
    assert charges >= requests
    history = await store.read(lambda c: c.execute("SELECT count(*) FROM messages").fetchone())
    assert history == (4 * len(asked),)
    assert await store.read(lambda c: c.execute("SELECT count(*) FROM turns WHERE message IS NOT NULL").fetchone()) == (
        0,
    )


async def disturb(workers: Workers, chance: random.Random, *, every: float, server: Server | None) -> None:
    """Kill, stop and add workers; with *server*, restart it, too. In between, at least one message is answered."""
    answered = -1
    actions = ["kill", "kill", "stop", "end", *([] if server is None else ["immediate", "fast"])]
    while True:
        await trio.sleep(every)
        if workers.answered == answered:
            continue
        answered = workers.answered
        ready, action = workers.ready(), chance.choice(actions)
        if server is not None and action in {"immediate", "fast"}:
            await trio.to_thread.run_sync(server.restart, action)
            continue
        if not ready:
            continue
        worker = chance.choice(ready)
        match action:
            case "kill":
                workers.kill(worker)
                workers.start()
            case "stop":
                worker.send_signal(signal.SIGSTOP)
                # Beyond its lease: another worker has taken over when it goes on.
                await trio.sleep(2.0)
                worker.send_signal(signal.SIGCONT)
            case "end":
                worker.terminate()
                workers.running.remove(worker)
                workers.ending.append(worker)
                workers.start()


async def run_workers(
    place: Path | str,
    folder: Path,
    *,
    workers: int,
    sessions: int,
    count: int,
    every: float,
    patience: float,
    seed: int,
    server: Server | None = None,
) -> None:
    chance, asked = random.Random(seed), messages(sessions, count)
    async with open_store(place, migrations=MIGRATIONS, busy=30) as store:
        crowd = Workers(place, folder)
        try:
            for _ in range(workers):
                crowd.start()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(publish, store, asked)
                nursery.start_soon(lambda: disturb(crowd, chance, every=every, server=server))
                await wait_until_answered(store, count, patience, crowd)
                nursery.cancel_scope.cancel()
        finally:
            crowd.end()
            print(f"seed {seed}", (folder / "workers.log").read_text()[-2000:])
        await check_the_world(store, folder, asked)


async def test_workers_that_are_killed_and_stopped_answer_every_message_once_and_in_order(
    shared_place, tmp_path: Path
) -> None:
    await run_workers(
        shared_place, tmp_path, workers=3, sessions=12, count=60, every=1.5, patience=60, seed=random.randrange(1000)
    )


@pytest.mark.timeout(180)
async def test_workers_answer_every_message_once_while_the_server_restarts(postgres, tmp_path: Path) -> None:
    await run_workers(
        postgres.schema(),
        tmp_path,
        workers=3,
        sessions=20,
        count=60,
        every=1.0,
        patience=60,
        seed=random.randrange(1000),
        server=postgres,
    )


@pytest.mark.long
@pytest.mark.timeout(4 * 3600)
@pytest.mark.parametrize("workers", [4, 8])
async def test_many_workers_answer_20_000_messages(postgres, tmp_path: Path, workers: int) -> None:
    await run_workers(
        postgres.schema(),
        tmp_path,
        workers=workers,
        sessions=1000,
        count=20_000,
        every=1.0,
        patience=120,
        seed=workers,
        server=postgres,
    )
