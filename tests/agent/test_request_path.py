"""How many files a model request passes through between the turn and the socket."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytest
from judged import open_fault_server

from clawft_trio import open_agent
from clawft_trio.config import Config
from clawft_trio.config.schema import RoutingConfig
from clawft_trio.llm import OpenAICompatible
from clawft_trio.pipeline.permissions import PermissionOverrides, PermissionsPolicy
from clawft_trio.testing import Finish, Say, Wait

PACKAGE = "/clawft_trio/"


@contextmanager
def noting_stacks() -> Iterator[list[list[str]]]:
    """Collect, at each call of a socket's `send` and `recv` on behalf of a turn, the files below the turn."""
    stacks: list[list[str]] = []

    def note(frame: FrameType, event: str, called: Any) -> None:
        if event != "c_call" or getattr(called, "__name__", "") not in {"send", "recv", "recv_into"}:
            return
        files: list[str] = []
        above: FrameType | None = frame
        while above is not None:
            name = above.f_code.co_filename.replace("\\", "/")
            if PACKAGE in name:
                files.append(name.rpartition(PACKAGE)[2])
            if files and files[-1] == "agent/turn.py":
                stacks.append(files[:-1])
                return
            above = above.f_back

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        yield stacks
    finally:
        sys.setprofile(before)


@pytest.mark.parametrize("streamed", [True, False])
async def test_a_request_passes_through_at_most_twelve_files_on_its_way_to_the_socket(streamed: bool) -> None:
    permissions = PermissionsPolicy(admin=PermissionOverrides(streaming_allowed=streamed))
    config = Config(routing=RoutingConfig(permissions=permissions))
    script = [Say("one "), Wait(0.01), Say("two"), Finish()]
    async with (
        open_fault_server(script) as server,
        OpenAICompatible("own", base_url=server.url) as provider,
        open_agent(["own/model"], providers={"own": provider}, config=config) as agent,
    ):
        with noting_stacks() as stacks:
            reply = await agent.ask("Hi")
        assert reply.text == "one two"
        assert server.requests[0].body.get("stream", False) is streamed
    sent = {file for stack in stacks if "net/http.py" in stack for file in stack}
    assert {"pipeline/pipeline.py", "costs/meter.py", "net/network.py"} <= sent
    assert len(sent) <= 12
    # While the body is read, what reads it stands in the place of what sent the request.
    assert max(len(set(stack)) for stack in stacks) <= 12
