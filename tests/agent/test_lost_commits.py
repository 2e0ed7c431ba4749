"""A connection that ends between a COMMIT and its answer, at every commit of a worker: nothing is lost, nothing doubled."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest
import trio

from clawft_trio import open_agent, parse_config, tool
from clawft_trio.agent import LoopPolicy
from clawft_trio.agent.session_view import Compaction
from clawft_trio.agent.sessions import MIGRATIONS as SESSION_MIGRATIONS, Sessions
from clawft_trio.agent.workers import requeue, summarize_work
from clawft_trio.errors import StoreError
from clawft_trio.messages import InboundMessage
from clawft_trio.nursery import open_hidden_nursery
from clawft_trio.store import open_store
from clawft_trio.testing import CallTool, Finish, Say, ScriptedProvider

CONFIG = parse_config(
    '{"routing": {"permissions": {"channels": {"ch": {"level": 1, "toolAccess": ["*"], "rateLimit": 0}}}}}'
)


class Proxy:
    """Stands between a store and its server, and ends a connection before a COMMIT on it is answered.

    Args:
      server: the folder of the server's socket.
      folder: where this one listens.
      forget: whether the server is then made to look as if it had crashed, so that nobody can find out whether the
        transaction is committed.
    """

    def __init__(self, server: Path, folder: Path, *, forget: bool) -> None:
        self._server = str(server / ".s.PGSQL.5432")
        self._place = str(folder / ".s.PGSQL.5432")
        self._admin = f"postgresql://clawft@/postgres?host={server}"
        self._forget = forget
        #: COMMITs until the one that is not answered; None: all are answered
        self.left: int | None = None
        self.dropped = 0

    async def serve(self, *, task_status: trio.TaskStatus[None]) -> None:
        listening = trio.socket.socket(trio.socket.AF_UNIX)
        with listening:
            await listening.bind(self._place)
            listening.listen(64)
            task_status.started()
            async with trio.open_nursery() as nursery:
                while True:
                    accepted, _ = await listening.accept()
                    nursery.start_soon(self._connection, trio.SocketStream(accepted))

    async def _connection(self, client: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError, OSError):
            async with client, await trio.open_unix_socket(self._server) as server, open_hidden_nursery() as nursery:
                drop = trio.Event()

                async def answers() -> None:
                    async for data in server:
                        if drop.is_set() and b"COMMIT\0" in data:
                            if self._forget:
                                await trio.to_thread.run_sync(self._pretend_a_crash)
                            break
                        await client.send_all(data)
                    nursery.cancel_scope.cancel()

                nursery.start_soon(answers)
                async for data in client:
                    if b"COMMIT\0" in data and self.left is not None:
                        self.left -= 1
                        if self.left == 0:
                            self.dropped += 1
                            drop.set()
                    await server.send_all(data)
                nursery.cancel_scope.cancel()

    def _pretend_a_crash(self) -> None:
        with psycopg.connect(self._admin, autocommit=True) as connection:
            connection.execute("SELECT pg_stat_reset_shared('bgwriter')")


@asynccontextmanager
async def proxied(postgres, folder: Path, *, forget: bool) -> AsyncGenerator[tuple[Proxy, str, str], None]:
    """A proxy, the address of a new schema through it, and the direct one."""
    direct = postgres.schema()
    proxy = Proxy(postgres.folder, folder, forget=forget)
    async with trio.open_nursery() as nursery:
        await nursery.start(proxy.serve)
        yield proxy, direct.replace(f"host={postgres.folder}", f"host={quote(str(folder))}"), direct
        nursery.cancel_scope.cancel()


class Effects:
    """A tool that acts outside of the store."""

    def __init__(self) -> None:
        self.paid = 0

        @tool(mode="mutating")
        async def pay(n: str) -> str:
            """Pay."""
            await trio.lowlevel.checkpoint()
            self.paid += 1
            return n

        self.tool = pay


def choose(request):
    if request.messages[-1].role == "tool":
        return [Say("unknown" if "outcome_unknown" in request.messages[-1].text else "paid"), Finish()]
    return [CallTool("pay", {"n": "1"}), Finish()]


async def one_life(proxy: Proxy, through: str, number: int) -> tuple[list[str], int]:
    """A worker from its start to its end, with the commit *number* unanswered; its replies and its effects."""
    effects = Effects()
    proxy.left = number
    policy = LoopPolicy(lease=1.0, poll=0.1, grace=10.0)
    async with open_agent(
        ["p/m"],
        providers={"p": ScriptedProvider(choose=choose, name="p")},
        tools=[effects.tool],
        config=CONFIG,
        store=through,
        loop=policy,
    ) as agent:
        while True:
            message = InboundMessage(channel="ch", sender_id="u", chat_id="c", id=f"m{number}", content="pay")
            with suppress(StoreError):
                await agent.bus.publish_inbound(message)
                break
        replies, finals = agent.bus.outbound("ch"), []
        with trio.fail_after(60):
            while not finals:
                reply = await anext(replies)
                if reply.kind == "final":
                    finals.append(reply)
        # Late enough for a renewal, and for a second reply, if there were one.
        with trio.move_on_after(0.5):
            finals.extend([reply async for reply in replies if reply.kind == "final"])
    proxy.left = None
    assert [reply.reply_to for reply in finals] == [f"m{number}"]
    return [reply.content for reply in finals], effects.paid


@pytest.mark.timeout(300)
@pytest.mark.parametrize("forget", [False, True], ids=["found out", "not found out"])
async def test_a_worker_goes_on_after_any_commit_without_an_answer(postgres, tmp_path: Path, forget: bool) -> None:
    async with proxied(postgres, tmp_path, forget=forget) as (proxy, through, direct):
        # The schema is there, so that a life has the commits of its work alone.
        async with open_agent(["p/m"], providers={"p": ScriptedProvider(choose=choose)}, config=CONFIG, store=direct):
            pass
        number = 0
        while proxy.dropped == number:
            number += 1
            texts, paid = await one_life(proxy, through, number)
            assert texts in (["paid"], ["unknown"]), (number, texts)
            assert paid == 1 if texts == ["paid"] else paid <= 1, (number, texts, paid)
        assert number > 8, "the last life was the first without such a commit"
        async with open_store(direct) as store:
            work = await summarize_work(store)
            assert (work.open, work.workers, work.undelivered) == (0, (), ())
            open_charges = "SELECT count(*) FROM cost_charges WHERE state = 'open'"
            assert await store.read(lambda c: c.execute(open_charges).fetchone()) == (0,)


async def test_a_compaction_that_was_committed_without_an_answer_counts_as_stored(postgres, tmp_path: Path) -> None:
    async with proxied(postgres, tmp_path, forget=True) as (proxy, through, _):
        async with open_store(through, migrations=SESSION_MIGRATIONS) as store:
            sessions = Sessions(store)
            proxy.left = 1
            assert await sessions.compact("s", Compaction(cut=1, cleared=0, summary="short"), version=0)
            assert proxy.dropped == 1
            (count,) = await store.read(lambda c: c.execute("SELECT count(*) FROM compactions").fetchone())
            assert count == 1


async def test_a_requeue_that_was_committed_without_an_answer_counts_as_done(postgres, tmp_path: Path) -> None:
    async with proxied(postgres, tmp_path, forget=True) as (proxy, through, direct):
        async with open_agent(["p/m"], providers={"p": ScriptedProvider(choose=choose)}, config=CONFIG, store=direct):
            pass
        async with open_store(through) as store:
            message = b'{"channel":"ch","sender_id":"u","chat_id":"c","id":"m1","content":"pay"}'
            query = "INSERT INTO turns (turn, session, accepted_at, given_up) VALUES ('t', 's', '', ?)"
            await store.transact(lambda c: c.execute(query, (message,)).rowcount)
            proxy.left = 1
            assert await requeue(store, "t")
            assert proxy.dropped == 1
            assert not await requeue(store, "t")
