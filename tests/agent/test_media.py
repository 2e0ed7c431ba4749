"""Attachments of bus messages reach the model; what may not is replaced by a line that says why."""

import base64
import json
from pathlib import Path

import pytest
from judged import ScriptedProvider

from clawft_trio import InboundMessage, open_agent
from clawft_trio.agent.media import LARGEST, MOST, media_parts
from clawft_trio.chat import File, Image, Text
from clawft_trio.config import parse_config
from clawft_trio.net import AddressPolicy
from clawft_trio.testing import cancel_everywhere

PNG = "data:image/png;base64," + base64.b64encode(b"PNG").decode()


async def parts_of(*media, workspace=None, policy=None):
    noted = []
    parts = await media_parts(media, workspace=workspace, policy=policy or AddressPolicy(), observer=noted.append)
    return parts, [event.details["error"] for event in noted]


async def test_images_files_and_texts_are_attached_as_what_they_are(tmp_path):
    (tmp_path / "a.png").write_bytes(b"PNG")
    (tmp_path / "doc.pdf").write_bytes(b"%PDF")
    (tmp_path / "notes.txt").write_text("remember")
    parts, errors = await parts_of(
        "a.png",
        "doc.pdf",
        "notes.txt",
        PNG,
        "https://example.org/b.jpg",
        "https://example.org/c.pdf",
        workspace=tmp_path,
    )
    assert errors == []
    assert parts == (
        Image(data=b"PNG", media_type="image/png"),
        File(data=b"%PDF", media_type="application/pdf", name="doc.pdf"),
        Text("[attachment notes.txt]\nremember"),
        Image(data=b"PNG", media_type="image/png"),
        Image(url="https://example.org/b.jpg", media_type="image/jpeg"),
        File(url="https://example.org/c.pdf", media_type="application/pdf", name="c.pdf"),
    )


@pytest.mark.parametrize("before", [0, 150, 170, 180, 184, 188, 192])
async def test_no_part_of_a_password_in_a_refused_address_is_shown(before):
    (part,), _ = await parts_of(f"https://{'x' * before}:hunter2secret@example.org/a.png?sig=hunter2secret")
    assert "hunt" not in part.text


@pytest.mark.parametrize(
    "bad",
    ["../secret.png", "link.png", "missing.png", "empty.png", "data:nonsense", "data:image/png;base64,§", "http://example.org/a.png",
     "https://127.0.0.1/a.png", "https://10.0.0.7/x.png", "https://u:p@example.org/a.png", "file:///etc/passwd", "https://blocked.org/a.png"],
)  # fmt: skip
async def test_what_may_not_be_attached_leaves_a_line_and_an_event(bad, tmp_path):
    workspace = tmp_path / "w"
    workspace.mkdir()
    (tmp_path / "secret.png").write_bytes(b"SECRET")
    (workspace / "link.png").symlink_to(tmp_path / "secret.png")
    (workspace / "empty.png").touch()
    policy = AddressPolicy(blocked_domains=("blocked.org",))
    (part,), errors = await parts_of(bad, workspace=workspace, policy=policy)
    assert isinstance(part, Text)
    assert part.text.startswith("[attachment ")
    assert "SECRET" not in part.text
    assert len(errors) == 1


async def test_attachments_are_limited_in_size_and_number(tmp_path):
    with (tmp_path / "big.png").open("wb") as file:
        file.truncate(LARGEST + 1)
    parts, errors = await parts_of("big.png", *[PNG] * MOST, workspace=tmp_path)
    assert len(errors) == 2
    assert sum(isinstance(part, Image) for part in parts) == MOST - 1


def data_url(data: bytes) -> str:
    return "data:application/pdf;base64," + base64.b64encode(data).decode()


@pytest.mark.parametrize("size", [1, 2, 3, 49_151, 49_152, 49_153, 100_000, 1_000_001])
async def test_a_data_url_of_any_size_is_decoded(size):
    data = bytes(range(256)) * (size // 256 + 1)
    (part,), _ = await parts_of(data_url(data[:size]))
    assert part.data == data[:size]


@pytest.mark.parametrize("at", [0, 65_534, 65_535, 65_536])
async def test_what_follows_the_end_of_base64_makes_it_no_base64(at):
    body = "A" * at + "A" * (-at % 4) + "QQ==" + "A" * 65_536
    (part,), errors = await parts_of("data:application/pdf;base64," + body)
    assert isinstance(part, Text)
    assert errors == ["its content is not base64"]


async def test_all_attachments_of_a_message_share_one_limit():
    half = LARGEST // 2
    parts, errors = await parts_of(data_url(b"a" * half), data_url(b"b" * half), data_url(b"c"))
    assert [len(part.data) for part in parts[:2]] == [half, half]
    assert errors == [f"larger than {LARGEST} bytes together with those before it"]
    assert parts[2].text == f"[attachment data:application/pdf;base64,Yw== left out: {errors[0]}]"


async def test_one_line_stands_for_all_attachments_beyond_the_limit():
    parts, errors = await parts_of(*[PNG] * (MOST + 1000))
    assert errors == [f"more than {MOST} attachments"]
    assert parts[MOST:] == (Text(f"[attachment {MOST + 1} to {MOST + 1000} left out: {errors[0]}]"),)


@pytest.mark.parametrize(("length", "taken"), [(1024 * 1024, True), (1024 * 1024 + 1, False)])
async def test_a_data_url_with_escapes_is_short(length, taken):
    (part,), errors = await parts_of("data:text/plain," + "%41" * (length // 3) + "A" * (length % 3))
    assert part.text.startswith("[attachment text/plain]\nAAA") == taken
    assert errors == ([] if taken else ["longer than 1048576 characters, and not base64"])


async def test_attaching_is_cancelled_at_every_step_and_leaves_no_open_file(tmp_path):
    (tmp_path / "a.png").write_bytes(b"PNG")
    (tmp_path / "notes.txt").write_text("remember")

    async def attach():
        parts, errors = await parts_of("a.png", PNG, "missing.png", "notes.txt", workspace=tmp_path)
        assert (len(parts), len(errors)) == (4, 1)

    async def nothing_is_open():
        descriptors = Path("/proc/self/fd")  # on Linux alone
        names = [one.resolve() for one in descriptors.iterdir()] if descriptors.is_dir() else []
        assert not [name for name in names if name.is_relative_to(tmp_path)]

    assert await cancel_everywhere(attach, nothing_is_open) > 3


async def sent_of(media, section, tmp_path):
    """The parts that a model gets of a message on the bus with *media*, under a `tools` section."""
    model = ScriptedProvider.saying("ok")
    config = parse_config(json.dumps({"tools": section}))
    async with open_agent(["s/m"], providers={"s": model}, workspace=tmp_path, config=config) as agent:
        await agent.bus.publish_inbound(
            InboundMessage(channel="c", sender_id="u", chat_id="1", content="What is it?", media=(media,))
        )
        async for reply in agent.bus.outbound("c"):
            if reply.kind == "final":
                break
    (question,) = [message for message in model.requests[0].messages if message.role == "user"]
    return question.content[-1]


@pytest.mark.parametrize(
    ("section", "passed_on"),
    [
        ({}, True),
        ({"urlPolicy": {"blockedDomains": ["example.org"]}}, False),
        ({"url_policy": {"blocked_domains": ["other.org"]}}, True),
    ],
)
async def test_the_configuration_decides_which_web_addresses_are_passed_on(section, passed_on, tmp_path):
    part = await sent_of("https://cdn.example.org/a.png", section, tmp_path)
    assert isinstance(part, Image) is passed_on
    if not passed_on:
        assert "left out" in part.text


async def test_private_addresses_are_passed_on_only_where_the_configuration_allows_them(tmp_path):
    address = "https://10.0.0.7/a.png"
    assert isinstance(await sent_of(address, {}, tmp_path), Text)
    assert isinstance(await sent_of(address, {"url_policy": {"allow_private": True}}, tmp_path), Image)
    assert isinstance(
        await sent_of("https://169.254.169.254/a.png", {"url_policy": {"allow_private": True}}, tmp_path), Text
    )


async def test_an_attachment_of_a_bus_message_reaches_the_model(tmp_path):
    (tmp_path / "a.png").write_bytes(b"PNG")
    model = ScriptedProvider.saying("a cat")
    async with open_agent(["s/m"], providers={"s": model}, workspace=tmp_path) as agent:
        await agent.bus.publish_inbound(
            InboundMessage(channel="c", sender_id="u", chat_id="1", content="What is it?", media=("a.png",))
        )
        async for reply in agent.bus.outbound("c"):
            if reply.kind == "final":
                break
    (question,) = [message for message in model.requests[0].messages if message.role == "user"]
    assert question.content[-1] == Image(data=b"PNG", media_type="image/png")
