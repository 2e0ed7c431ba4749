"""Stores of tokens: in memory, and in a file that is the user's alone."""

from __future__ import annotations

import fcntl
import json
import os
import stat
from functools import partial

import pytest
import trio

from clawft_trio.errors import StoreError
from clawft_trio.mcp import Credentials, FileTokenStore, MemoryTokenStore, OAuthClient, Token
from clawft_trio.mcp.auth import store as store_module
from clawft_trio.mcp.auth.store import default_token_file
from clawft_trio.testing import cancel_everywhere

KEPT = Credentials(
    issuer="https://as.example.com",
    client=OAuthClient(client_id="c", client_secret="top-secret-1"),
    token=Token(access_token="top-secret-2", refresh_token="top-secret-3", expires_at=5.0, scopes=("a",)),
    requested=("a", "b"),
)


async def test_a_token_file_is_the_users_alone_and_keeps_what_it_was_given(tmp_path):
    path = tmp_path / "very" / "deep" / "tokens.json"
    store = FileTokenStore(path)
    assert await store.load("https://r") is None
    await store.save("https://r", KEPT)
    await store.save("https://q", None)
    assert await FileTokenStore(path).load("https://r") == KEPT
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path]
    await store.save("https://r", None)
    assert await store.load("https://r") is None


async def test_stores_of_one_file_keep_each_others_tokens(tmp_path):
    stores = [FileTokenStore(tmp_path / "tokens.json") for _ in range(4)]
    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(stores[number % 4].save, f"r{number}", KEPT)
    assert [await stores[0].load(f"r{number}") for number in range(20)] == [KEPT] * 20


async def test_a_token_file_that_stays_locked_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(store_module, "_LOCK_WITHIN", 0.1)
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        with pytest.raises(StoreError, match="locked"):
            await FileTokenStore(tmp_path / "tokens.json").save("r", KEPT)
    finally:
        os.close(folder)
    await FileTokenStore(tmp_path / "tokens.json").save("r", KEPT)


@pytest.mark.parametrize(
    "text", [b"", b"[]", b'{"x": 1}', b'{"x": {"issuer": "i", "client": {"top-secret": "s"}}}', b"\xff"]
)
async def test_a_garbled_token_file_is_an_error_without_its_text(tmp_path, text):
    path = tmp_path / "tokens.json"
    path.write_bytes(text)
    path.chmod(0o600)
    with pytest.raises(StoreError) as caught:
        await FileTokenStore(path).load("x")
    assert "top-secret" not in str(caught.value)
    assert path.read_bytes() == text


async def test_a_token_file_that_others_may_read_is_refused(tmp_path):
    path = tmp_path / "tokens.json"
    path.write_text(json.dumps({}))
    path.chmod(0o644)
    with pytest.raises(StoreError, match="chmod 600"):
        await FileTokenStore(path).load("x")


async def test_a_token_file_is_no_symlink(tmp_path):
    (tmp_path / "real").write_text("{}")
    (tmp_path / "tokens.json").symlink_to(tmp_path / "real")
    with pytest.raises(StoreError):
        await FileTokenStore(tmp_path / "tokens.json").load("x")


async def test_cancelled_anywhere_the_file_has_the_old_or_the_new_tokens(tmp_path):
    path = tmp_path / "tokens.json"
    await FileTokenStore(path).save("r", KEPT)

    async def save():
        await FileTokenStore(path).save("r", KEPT)

    async def check():
        assert await FileTokenStore(path).load("r") == KEPT
        assert list(tmp_path.iterdir()) == [path]

    await cancel_everywhere(save, check)


async def test_memory_keeps_by_resource():
    store = MemoryTokenStore()
    await store.save("a", KEPT)
    assert await store.load("a") == KEPT
    assert await store.load("b") is None
    await store.save("a", None)
    assert await store.load("a") is None


@pytest.mark.parametrize("longer", [0, 1])
async def test_a_token_file_has_at_most_a_megabyte(tmp_path, longer):
    path = tmp_path / "tokens.json"
    await FileTokenStore(path).save("r", KEPT)
    path.write_bytes(path.read_bytes().ljust(1024 * 1024 + longer))
    if longer:
        with pytest.raises(StoreError, match="longer than 1048576 bytes"):
            await FileTokenStore(path).load("r")
    else:
        assert await FileTokenStore(path).load("r") == KEPT


async def test_credentials_without_a_token_are_kept(tmp_path):
    registered = Credentials(issuer="https://as.example.com", client=OAuthClient(client_id="c", issuer="i"))
    store = FileTokenStore(tmp_path / "tokens.json")
    await store.save("r", registered)
    assert await store.load("r") == registered


async def test_the_folder_of_a_token_file_is_made_for_the_user_alone(tmp_path):
    await FileTokenStore(tmp_path / "made" / "tokens.json").save("r", KEPT)
    assert stat.S_IMODE((tmp_path / "made").stat().st_mode) == 0o700


async def test_a_folder_that_is_a_file_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="folder"):
        await FileTokenStore(tmp_path / "file" / "tokens.json").save("r", KEPT)


async def test_a_folder_in_the_place_of_a_token_file_is_an_error(tmp_path):
    (tmp_path / "tokens.json").mkdir(mode=0o700)
    for operation in (FileTokenStore.load, partial(FileTokenStore.save, credentials=KEPT)):
        with pytest.raises(StoreError, match="cannot be read"):
            await operation(FileTokenStore(tmp_path / "tokens.json"), "r")
    assert [one.name for one in tmp_path.iterdir()] == ["tokens.json"]


def test_the_token_file_of_the_command_line_is_in_the_configuration_of_the_user(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_token_file() == tmp_path / ".clawft" / "mcp_tokens.json"
