"""The line `store` of a configuration: where an agent keeps its sessions, turns and costs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import trio

from clawft_trio import ConfigError, open_agent, parse_config
from clawft_trio.cli.agent import open_chosen
from clawft_trio.cli.options import Chosen
from clawft_trio.cli.worker import Worker, worker
from clawft_trio.errors import NotConfigured, StoreError
from clawft_trio.testing import ScriptedProvider


def config_with(store: object) -> str:
    return json.dumps({"agents": {"defaults": {"model": "p/m"}}, "store": store})


async def kept_in(place: Path) -> int:
    """How many messages of the session `s` the store at *place* has."""
    async with open_agent(["p/m"], providers={"p": ScriptedProvider.saying("Hello.")}, store=place) as agent:
        return len(await agent.parts.turns.history.history("s"))


async def test_the_file_that_is_named_keeps_sessions(tmp_path: Path) -> None:
    config = parse_config(config_with(str(tmp_path / "agent.db")))
    async with open_agent(config=config, providers={"p": ScriptedProvider.saying("Hello.")}) as agent:
        assert not agent.parts.store.private
        assert agent.parts.asks is not None
        await agent.ask("hello", session="s")
    assert await kept_in(tmp_path / "agent.db") == 2


async def test_an_argument_goes_before_the_line(tmp_path: Path) -> None:
    config = parse_config(config_with(str(tmp_path / "config.db")))
    providers = {"p": ScriptedProvider.saying("Hello.")}
    async with open_agent(config=config, providers=providers, store=tmp_path / "given.db") as agent:
        await agent.ask("hello", session="s")
    assert not (tmp_path / "config.db").exists()
    assert await kept_in(tmp_path / "given.db") == 2


async def test_the_address_of_a_server_is_used(postgres) -> None:
    config = parse_config(config_with(postgres.schema()))
    async with open_agent(config=config, providers={"p": ScriptedProvider.saying("Hello.")}) as agent:
        assert agent.parts.store.engine == "postgresql"
        assert (await agent.ask("hello", turn_id="one")).text == "Hello."


@pytest.mark.parametrize("store", [5, [], {"path": "x"}, True])
def test_what_is_no_text_is_refused_with_its_place(store: object) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(config_with(store))
    assert [problem.path for problem in caught.value.problems] == ["$.store"]


@pytest.mark.parametrize("store", ["", None])
async def test_without_a_place_the_store_is_in_memory(store: object) -> None:
    config = parse_config(config_with(store))
    async with open_agent(config=config, providers={"p": ScriptedProvider.saying("Hello.")}) as agent:
        assert agent.parts.store.private


def test_a_home_folder_and_a_variable_are_filled_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENT_DB", "~/agent.db")
    assert parse_config(config_with("${AGENT_DB}")).store_place == str(Path("~/agent.db").expanduser())


async def test_a_password_is_in_no_error() -> None:
    config = parse_config(config_with("postgresql://ana:hunter2Zq@127.0.0.1:9/agents"))
    with pytest.raises(StoreError) as caught:
        async with open_agent(config=config, providers={"p": ScriptedProvider.saying("")}):
            raise AssertionError("there is no server")
    assert "hunter2Zq" not in repr(caught.value) + str(caught.value) + repr(config)


async def test_a_worker_serves_the_store_of_its_configuration(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"agents": {"defaults": {"model": "ollama/m"}}, "store": str(tmp_path / "agent.db")}))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(worker, Worker(chosen=Chosen(config=file)))
        while not await trio.Path(tmp_path / "agent.db").exists():
            await trio.sleep(0.01)
        nursery.cancel_scope.cancel()


async def test_a_worker_without_any_store_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text("{}")
    with pytest.raises(NotConfigured, match="--store or in --config"):
        await worker(Worker(chosen=Chosen(config=file)))


async def test_a_session_may_be_named_where_the_configuration_names_the_store(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"agents": {"defaults": {"model": "ollama/m"}}}))
    with pytest.raises(NotConfigured, match="--session"):
        async with open_chosen(Chosen(config=file), session="trip"):
            raise AssertionError("nothing keeps the session")
    file.write_text(json.dumps({"agents": {"defaults": {"model": "ollama/m"}}, "store": str(tmp_path / "agent.db")}))
    async with open_chosen(Chosen(config=file), session="trip") as agent:
        assert not agent.parts.store.private
