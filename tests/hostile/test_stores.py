"""Whatever file is named as a store costs a typed error, and the file stays as it was."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import trio
from hostile.loop_time import bounded_loop

from clawft_trio import open_agent
from clawft_trio.errors import ClawftError, StoreCorrupt, StoreError
from clawft_trio.testing import Finish, Say, ScriptedProvider


def model() -> ScriptedProvider:
    return ScriptedProvider(choose=lambda _: [Say("fine"), Finish()], name="p")


async def use(path: Path) -> str:
    async with open_agent(["p/m"], providers={"p": model()}, store=path) as agent:
        return (await agent.ask("q", session="s")).text


async def a_store(path: Path) -> None:
    assert await use(path) == "fine"


def _garbled(path: Path) -> None:
    data = bytearray(path.read_bytes())
    for at in range(100, len(data), 7):
        data[at] ^= 0x5A
    path.write_bytes(data)


def _cut(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2 + 123)


FOREIGN = {
    "one byte": b"x",
    "text": b"my notes\n" * 1000,
    "a zip": b"PK\x03\x04" + bytes(4000),
    "a head of SQLite and nonsense": b"SQLite format 3\0" + b"\xff" * 4080,
    "the magic alone": b"SQLite format 3\0",
    "zeros": bytes(8192),
}


@pytest.mark.parametrize("content", FOREIGN.values(), ids=FOREIGN)
async def test_a_file_of_another_program_is_refused_and_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "f"
    path.write_bytes(content)
    path.chmod(0o640)
    with pytest.raises(StoreError) as caught:
        await use(path)
    assert str(path) in str(caught.value) or caught.value.path == str(path)
    assert path.read_bytes() == content
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert [one.name for one in tmp_path.iterdir() if one.name != "f"] == []


async def test_a_database_of_another_program_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as db:
        db.execute("create table sessions (id integer primary key, cookie text)")
        db.execute("insert into sessions values (1, 'x')")
    db.close()
    before = path.read_bytes()
    with pytest.raises(StoreError):
        await use(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("damage", [_garbled, _cut])
async def test_a_damaged_store_is_a_typed_error(tmp_path: Path, damage) -> None:
    path = tmp_path / "s.db"
    await a_store(path)
    damage(path)
    before = path.read_bytes()
    async with bounded_loop():
        with pytest.raises(StoreError):
            await use(path)
    assert path.read_bytes() == before


def _tables(path: Path) -> list[str]:
    with sqlite3.connect(path) as db:
        names = [name for (name,) in db.execute("select name from sqlite_master where type = 'table'")]
    db.close()
    return sorted(name for name in names if not name.startswith("sqlite_"))


async def test_a_dropped_table_is_a_typed_error_whichever_it_is(tmp_path: Path) -> None:
    await a_store(tmp_path / "s.db")
    whole = (tmp_path / "s.db").read_bytes()
    names = _tables(tmp_path / "s.db")
    assert len(names) > 5
    for number, name in enumerate(names):
        path = tmp_path / f"{number}.db"
        path.write_bytes(whole)
        with sqlite3.connect(path) as db:
            db.execute(f'drop table "{name}"')
        db.close()
        try:
            with trio.fail_after(30):
                assert await use(path) == "fine"
        except* ClawftError:
            pass


@pytest.mark.parametrize(
    "planted",
    [
        'create trigger t after insert on "{0}" begin delete from "{0}"; end',
        'create trigger t after update on "{0}" begin select count(*) from {1}; end',
        "create view v as select * from {1}",
        'alter table "{0}" rename to moved; create view "{0}" as select * from moved, {1}',
    ],
)
async def test_a_store_with_statements_of_others_is_refused_and_left_as_it_is(tmp_path: Path, planted: str) -> None:
    path, endless = (
        tmp_path / "s.db",
        "(with recursive n(x) as (select 1 union all select x + 1 from n) select x from n)",
    )
    await a_store(path)
    for table in _tables(path)[:3]:
        with sqlite3.connect(path) as db:
            db.executescript(planted.format(table, endless))
        db.close()
        before = path.read_bytes()
        with trio.fail_after(20), pytest.raises(StoreCorrupt, match="did not make"):
            await use(path)
        assert path.read_bytes() == before
        path.unlink()
        await a_store(path)


@pytest.mark.parametrize(
    "value", [b"\xff\xfe", "\x00", "not json", "[]", "{" * 5000, 2**62, -1, 1.5, None, "x" * 100_000]
)
async def test_a_row_with_another_content_is_a_typed_error_or_is_skipped(tmp_path: Path, value: object) -> None:
    path = tmp_path / "s.db"
    await a_store(path)
    with sqlite3.connect(path) as db:
        for table in _tables(path):
            for _, column, *_ in db.execute(f'pragma table_info("{table}")').fetchall():
                try:
                    db.execute(f'update or ignore "{table}" set "{column}" = ?', (value,))
                except sqlite3.Error:
                    continue
    db.close()
    try:
        with trio.fail_after(30):
            assert await use(path) == "fine"
    except* ClawftError:
        pass


@pytest.mark.parametrize(
    "kind", ["a folder", "a pipe", "a device", "a link to nowhere in particular", "a name too long"]
)
async def test_what_is_no_file_is_a_typed_error(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "f"
    if kind == "a folder":
        path.mkdir()
    elif kind == "a pipe":
        os.mkfifo(path)
    elif kind == "a device":
        path = Path("/dev/null")
    elif kind == "a name too long":
        path = tmp_path / ("x" * 5000)
    else:
        path.symlink_to("/proc/self/nothing")
    with trio.fail_after(20), pytest.raises((StoreError, ClawftError)):
        await use(path)


@pytest.mark.parametrize("suffix", ["-journal", "-wal", "-shm"])
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["a pipe", "a folder"])
async def test_what_is_no_file_in_place_of_a_log_is_a_typed_error_at_once(tmp_path: Path, suffix: str, make) -> None:
    (tmp_path / "real").mkdir()
    path = tmp_path / "link.db"
    path.symlink_to(tmp_path / "real" / "s.db")
    await a_store(tmp_path / "real" / "s.db")
    make(tmp_path / "real" / f"s.db{suffix}")
    before = [(one.name, one.lstat()) for one in sorted((tmp_path / "real").iterdir())]
    with trio.fail_after(20), pytest.raises(StoreError, match=f"s.db{suffix} is not a file"):
        await use(path)
    assert [(one.name, one.lstat()) for one in sorted((tmp_path / "real").iterdir())] == before


async def test_a_file_with_the_log_of_another_one_is_refused_and_both_stay_as_they_are(tmp_path: Path) -> None:
    # As after a copy was put in place of a file whose program was killed, but not in place of its log.
    path, log = tmp_path / "s.db", tmp_path / "s.db-wal"
    await a_store(path)
    with closing(sqlite3.connect(tmp_path / "other.db")) as db:
        db.execute("pragma journal_mode = wal")
        db.execute("create table t (a)")
        log.write_bytes((tmp_path / "other.db-wal").read_bytes())
    before = path.read_bytes(), log.read_bytes()
    with pytest.raises(StoreError):
        await use(path)
    assert (path.read_bytes(), log.read_bytes()) == before
    log.unlink()
    assert await use(path) == "fine"


@pytest.mark.parametrize("row", ["('sessions', 'two')", "('sessions', null)"])
async def test_versions_that_are_no_numbers_are_a_typed_error(tmp_path: Path, row: str) -> None:
    path = tmp_path / "s.db"
    await a_store(path)
    with closing(sqlite3.connect(path)) as db:
        db.executescript(f"""
            drop table schema_versions;
            create table schema_versions (room, version);
            insert into schema_versions values {row};
        """)
    before = path.read_bytes()
    with pytest.raises(StoreCorrupt):
        await use(path)
    assert path.read_bytes() == before


def test_a_corrupt_store_is_a_store_error() -> None:
    assert issubclass(StoreCorrupt, StoreError)


def _removed(path: Path) -> None:
    for name in path.parent.glob(f"{path.name}*"):
        name.unlink()


def _replaced(path: Path) -> None:
    path.with_suffix(".new").write_bytes(path.read_bytes())
    path.with_suffix(".new").rename(path)


def _moved(path: Path) -> None:
    path.rename(path.with_suffix(".old"))


def _altered(statement: str) -> Callable[[Path], None]:
    def alter(path: Path) -> None:
        with sqlite3.connect(path) as db:
            for name in _tables(path):
                db.execute(statement.format(name))
        db.close()

    return alter


MEANWHILE = {
    "removed": _removed,
    "replaced": _replaced,
    "moved": _moved,
    "a trigger that refuses": _altered(
        """create trigger "t_{0}" before insert on "{0}" begin select raise(abort, 'no'); end"""
    ),
    "tables that were renamed": _altered('alter table "{0}" rename to "x_{0}"'),
    "its log removed": lambda path: path.with_name(f"{path.name}-wal").unlink(),
    "the index of its log removed": lambda path: path.with_name(f"{path.name}-shm").unlink(),
    "a log of nonsense": lambda path: path.with_name(f"{path.name}-wal").write_bytes(b"\xff" * 40_000),
}


@pytest.mark.parametrize("change", MEANWHILE.values(), ids=MEANWHILE)
async def test_a_store_that_another_program_changes_while_it_is_open_is_a_typed_error(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    async with open_agent(["p/m"], providers={"p": model()}, store=tmp_path / "s.db") as agent:
        await agent.ask("q", session="s")
        change(tmp_path / "s.db")
        with pytest.raises(StoreError):
            await agent.ask("q", session="s")
        with pytest.raises(StoreError):
            await agent.ask("q", session="t")


async def test_a_store_with_a_relative_path_survives_a_change_of_the_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    async with open_agent(["p/m"], providers={"p": model()}, store=Path("s.db")) as agent:
        monkeypatch.chdir(tmp_path / "elsewhere")
        assert (await agent.ask("q", session="s")).text == "fine"


async def test_figures_that_overflow_are_a_typed_error(tmp_path: Path) -> None:
    async with open_agent(["p/m"], providers={"p": model()}, store=tmp_path / "s.db") as agent:
        await agent.ask("q", session="s")
        with sqlite3.connect(tmp_path / "s.db") as db:
            db.execute("update cost_totals set turns = 9223372036854775807")
        db.close()
        with pytest.raises(StoreError):
            await agent.ask("q", session="s")
