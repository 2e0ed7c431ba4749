"""What a server offers: content of every kind, structured output, resources, prompts, completion, pages."""

from __future__ import annotations

import os
import threading
from contextlib import asynccontextmanager
from typing import Literal, TypedDict

import attrs
import pytest
from mcp_http_drivers import Driver

from clawft_trio.auth import AuthContext, UserPermissions
from clawft_trio.chat import File, Image
from clawft_trio.mcp import McpServer, ServeOptions, open_mcp_app
from clawft_trio.mcp.server.resources import MAX_FILE, template_pattern
from clawft_trio.mcp.types import CallToolResult, ImageContent, ResourceContents, TextContent
from clawft_trio.tools import Tool, ToolMetadata, tool


@asynccontextmanager
async def served(server, **options):
    async with open_mcp_app(server, options=ServeOptions(**options)) as app:
        yield Driver(app)


async def call(driver, name, **arguments):
    answer = (await driver.stateless("tools/call", {"name": name, "arguments": arguments})).json()
    return answer["result"]


async def ask(driver, method, **params):
    return (await driver.stateless(method, params)).json()


@attrs.frozen
class Point:
    x: int
    y: int


class Weather(TypedDict):
    degrees: float
    sky: Literal["clear", "cloudy"]


@tool(mode="read_only")
async def origin() -> Point:
    """A point."""
    return Point(0, 0)


@tool(mode="exclusive", idempotent=True)
async def weather() -> Weather:
    """The weather."""
    return {"degrees": 3.5, "sky": "clear"}


@tool
async def picture():
    """Text and a picture."""
    return ["look:", ImageContent(data="AAAA", mime_type="image/png"), {"a": 1}]


@tool
async def media():
    """Images and files of the package's own types."""
    return [
        "see",
        Image(data=b"a"),
        File(data=b"b", media_type="audio/wav"),
        File(data=b"c", name="d.pdf"),
        Image(url="https://x/y.png"),
    ]


async def test_images_and_files_are_content_of_their_own_kind():
    async with served(McpServer([media])) as driver:
        blocks = (await call(driver, "media"))["content"]
        assert [block["type"] for block in blocks] == ["text", "image", "audio", "resource", "resource_link"]
        contents = {"uri": "file:///d.pdf", "mimeType": "application/pdf", "blob": "Yw=="}
        assert blocks[3]["resource"] == contents
        assert (blocks[4]["uri"], blocks[4]["name"]) == ("https://x/y.png", "image")


@pytest.mark.parametrize(("value", "types"), [("", ["text"]), (Image(data=b"a"), ["image"]), ([], ["text"])])
async def test_only_a_result_without_media_has_text_that_may_be_empty(value, types):
    @tool
    async def given():
        return value

    async with served(McpServer([given])) as driver:
        assert [block["type"] for block in (await call(driver, "given"))["content"]] == types


async def test_only_a_successful_result_of_a_tool_with_a_schema_has_structured_data():
    @tool
    async def failing() -> Point:
        """Fails."""
        raise RuntimeError("no")

    async with served(McpServer([failing, picture])) as driver:
        failed = await call(driver, "failing")
        assert failed["isError"]
        assert "structuredContent" not in failed
        assert "structuredContent" not in await call(driver, "picture")


@tool
async def whole():
    """A whole result."""
    return CallToolResult(content=(TextContent(text="t"),), structured_content={"n": 1}, is_error=True)


async def test_results_are_content_and_data():
    async with served(McpServer([origin, weather, picture, whole])) as driver:
        assert (await call(driver, "origin"))["structuredContent"] == {"x": 0, "y": 0}
        assert (await call(driver, "weather"))["structuredContent"] == {"degrees": 3.5, "sky": "clear"}
        blocks = (await call(driver, "picture"))["content"]
        assert [block["type"] for block in blocks] == ["text", "image", "text"]
        assert blocks[2]["text"] == '{"a":1}'
        result = await call(driver, "whole")
        assert (result["isError"], result["structuredContent"]) == (True, {"n": 1})
        listed = {one["name"]: one for one in (await ask(driver, "tools/list"))["result"]["tools"]}
        assert listed["origin"]["outputSchema"]["required"] == ["x", "y"]
        assert listed["origin"]["annotations"] == {"readOnlyHint": True, "idempotentHint": True}
        assert listed["weather"]["annotations"] == {"readOnlyHint": False, "idempotentHint": True}
        assert listed["picture"]["annotations"] == {"readOnlyHint": False, "idempotentHint": False}
        assert "outputSchema" not in listed["picture"]


async def test_data_that_does_not_fit_a_declared_schema_is_not_sent():
    async def wrong(arguments, context):
        return {"n": "text"}

    schema = {"type": "object", "properties": {"n": {"type": "integer"}}}
    async with served(McpServer([Tool("wrong", function=wrong, output_schema=schema)])) as driver:
        answer = (await driver.stateless("tools/call", {"name": "wrong", "arguments": {}})).json()
        assert answer["error"]["code"] == -32603


@pytest.mark.parametrize(("rows", "in_a_thread"), [(10, False), (2000, True)])
async def test_large_data_is_checked_in_a_thread(rows, in_a_thread):
    threads = set()

    class Schema(dict):
        def get(self, *args):
            threads.add(threading.get_ident())
            return super().get(*args)

    async def many(arguments, context):
        threads.clear()
        return {"rows": [{"id": number} for number in range(rows)]}

    schema = Schema({"type": "object", "properties": {"rows": {"items": {"required": ["id"]}}}})
    async with served(McpServer([Tool("many", function=many, output_schema=schema)])) as driver:
        answer = (await driver.stateless("tools/call", {"name": "many", "arguments": {}})).json()["result"]
    assert len(answer["structuredContent"]["rows"]) == rows
    assert (threading.get_ident() not in threads) == in_a_thread
    assert threads


def library():
    server = McpServer([origin])

    @server.resource(
        "book://{isbn}/page/{number}", complete={"isbn": lambda typed, known: [f"{typed}{n}" for n in range(200)]}
    )
    async def page(isbn: str, number: int):
        return {"isbn": isbn, "number": number}

    @server.resource("book://index", mime_type="text/x-index")
    def index():
        return "the index"

    @server.resource("book://cover")
    def cover():
        return b"\x00\xff"

    @server.resource("book://parts")
    async def parts():
        return [ResourceContents(uri="book://parts#1", text="one"), ResourceContents(uri="book://parts#2", blob="AA==")]

    @server.resource("book://secret", required_level=2)
    async def secret():
        return "secret"

    @server.prompt
    def review(code: str, language: Literal["python", "rust", "ruby"] = "python", depth: int = 1) -> str:
        """Reviews code.

        Args:
          code: what to review.
        """
        return f"Review {language} to depth {depth + 0}: {code}"

    return server


async def read(driver, uri):
    return await ask(driver, "resources/read", uri=uri)


async def test_resources_are_read_by_address_and_by_template():
    async with served(library()) as driver:
        listed = (await ask(driver, "resources/list"))["result"]["resources"]
        assert [one["uri"] for one in listed] == ["book://cover", "book://index", "book://parts", "book://secret"]
        [template] = (await ask(driver, "resources/templates/list"))["result"]["resourceTemplates"]
        assert template["uriTemplate"] == "book://{isbn}/page/{number}"
        [contents] = (await read(driver, "book://a%20b/page/7"))["result"]["contents"]
        assert (contents["mimeType"], contents["text"]) == ("application/json", '{"isbn":"a b","number":7}')
        [contents] = (await read(driver, "book://index"))["result"]["contents"]
        assert (contents["mimeType"], contents["text"]) == ("text/x-index", "the index")
        [contents] = (await read(driver, "book://cover"))["result"]["contents"]
        assert contents["blob"] == "AP8="
        assert [one["uri"] for one in (await read(driver, "book://parts"))["result"]["contents"]] == [
            "book://parts#1",
            "book://parts#2",
        ]
        assert (await read(driver, "book://a/page/seven"))["error"]["code"] == -32602
        for unknown in ("book://nothing", "book://a/b/page/7", "", "http://book/index"):
            missing = (await read(driver, unknown))["error"]
            assert (missing["code"], missing["data"]) == (-32602, {"uri": unknown})


ONE = ResourceContents(uri="a://other", text="one")


@pytest.mark.parametrize(
    ("value", "declared", "contents"),
    [
        (b"x", None, {"mimeType": "application/octet-stream", "blob": "eA=="}),
        (b"x", "image/png", {"mimeType": "image/png", "blob": "eA=="}),
        ("x", None, {"mimeType": "text/plain", "text": "x"}),
        ("x", "text/csv", {"mimeType": "text/csv", "text": "x"}),
        ([1], None, {"mimeType": "application/json", "text": "[1]"}),
        ([1], "text/x-numbers", {"mimeType": "text/x-numbers", "text": "[1]"}),
        ([ONE], "text/csv", {"uri": "a://other", "text": "one"}),
        ([], None, {"mimeType": "application/json", "text": "[]"}),
    ],
)
async def test_a_resource_has_the_type_that_was_declared_or_that_of_its_value(value, declared, contents):
    server = McpServer()
    server.resource("a://x", mime_type=declared)(lambda: value)
    async with served(server) as driver:
        [found] = (await read(driver, "a://x"))["result"]["contents"]
    assert found == {"uri": "a://x", **contents}


async def test_a_missing_resource_has_the_older_code_for_older_clients():
    async with served(library()) as driver:
        session = await driver.initialize()
        assert (await session.call("resources/read", {"uri": "book://nothing"})).json()["error"]["code"] == -32002


async def test_what_a_sender_may_not_use_is_not_there():
    user = AuthContext(sender_id="u", channel="mcp", permissions=UserPermissions(level=1))
    async with served(library(), auth=user) as driver:
        listed = (await ask(driver, "resources/list"))["result"]["resources"]
        assert "book://secret" not in [one["uri"] for one in listed]
        assert (await read(driver, "book://secret"))["error"]["code"] == -32602
        assert (await ask(driver, "tools/list"))["result"]["tools"] == []


async def test_prompts_are_filled_in_and_their_arguments_checked():
    async with served(library()) as driver:
        [prompt] = (await ask(driver, "prompts/list"))["result"]["prompts"]
        assert [(one["name"], one.get("required", False)) for one in prompt["arguments"]] == [
            ("code", True),
            ("language", False),
            ("depth", False),
        ]
        assert prompt["arguments"][0]["description"] == "what to review."
        got = (await ask(driver, "prompts/get", name="review", arguments={"code": "x", "depth": "3"}))["result"]
        assert got["messages"] == [{"role": "user", "content": {"type": "text", "text": "Review python to depth 3: x"}}]
        for bad in ({}, {"code": "x", "other": "y"}, {"code": "x", "language": "cobol"}, {"code": 5}):
            assert (await ask(driver, "prompts/get", name="review", arguments=bad))["error"]["code"] == -32602
        assert (await ask(driver, "prompts/get", name="none"))["error"]["code"] == -32602


async def test_arguments_are_completed():
    async def complete(ref, name, value):
        found = await ask(driver, "completion/complete", ref=ref, argument={"name": name, "value": value})
        return found.get("result", found)

    async with served(library()) as driver:
        prompt = {"type": "ref/prompt", "name": "review"}
        assert (await complete(prompt, "language", "r"))["completion"]["values"] == ["rust", "ruby"]
        assert (await complete(prompt, "code", "r"))["completion"]["values"] == []
        found = (await complete({"type": "ref/resource", "uri": "book://{isbn}/page/{number}"}, "isbn", "9"))[
            "completion"
        ]
        assert (len(found["values"]), found["total"], found["hasMore"]) == (100, 200, True)
        assert (await complete({"type": "ref/prompt", "name": "none"}, "a", ""))["error"]["code"] == -32602
        assert (await complete({"type": "ref/other"}, "a", ""))["error"]["code"] == -32602


@pytest.mark.parametrize(("count", "shown", "more"), [(0, 0, False), (100, 100, False), (101, 100, True)])
async def test_at_most_100_completions_are_sent_and_the_rest_is_counted(count, shown, more):
    server = McpServer()

    async def complete(typed, known):
        return [f"{known['a']}{typed}{number}" for number in range(count)]

    server.prompt(name="p", complete={"b": complete})(lambda a, b: "x")
    context = {"arguments": {"a": "k"}}
    async with served(server) as driver:
        params = {"ref": {"type": "ref/prompt", "name": "p"}, "argument": {"name": "b", "value": "t"}}
        found = (await ask(driver, "completion/complete", **params, context=context))["result"]["completion"]
    assert found == {"values": [f"kt{number}" for number in range(shown)], "total": count, "hasMore": more}


@pytest.mark.parametrize(("level", "known"), [(1, False), (2, True)])
async def test_a_prompt_of_a_higher_level_is_neither_listed_nor_filled_in_nor_completed(level, known):
    server = McpServer()
    server.prompt(name="p", required_level=2, complete={"a": lambda typed, known: ["x"]})(lambda a: a)
    auth = AuthContext(channel="mcp", sender_id="s", permissions=UserPermissions(level=level))
    async with served(server, auth=auth) as driver:
        listed = await ask(driver, "prompts/list")
        filled = await ask(driver, "prompts/get", name="p", arguments={"a": "x"})
        reference = {"ref": {"type": "ref/prompt", "name": "p"}, "argument": {"name": "a", "value": ""}}
        completed = await ask(driver, "completion/complete", **reference)
    assert bool(listed["result"]["prompts"]) is known
    assert ("result" in filled, "result" in completed) == (known, known)


async def test_lists_come_in_pages_that_survive_changes():
    server = McpServer()

    async def nothing(arguments, context):
        return ""

    for number in range(10):
        server.tools.add(Tool(f"tool{number}", function=nothing, metadata=ToolMetadata(mode="read_only")))
    async with served(server, page_size=4) as driver:
        names, cursor = [], None
        while True:
            page = (await ask(driver, "tools/list", **({"cursor": cursor} if cursor else {})))["result"]
            names += [one["name"] for one in page["tools"]]
            cursor = page.get("nextCursor")
            if cursor is None:
                break
            server.tools.remove(names[-1])
        assert names == [f"tool{number}" for number in range(10)]
        for bad in ("", "x", "!!", "a" * 10_000, 5):
            assert (await ask(driver, "tools/list", cursor=bad))["error"]["code"] == -32602


async def test_a_file_of_a_folder_that_is_too_large_is_refused(tmp_path):
    (tmp_path / "a.txt").touch()
    os.truncate(tmp_path / "a.txt", MAX_FILE + 1)
    server = McpServer()
    server.add_folder(tmp_path)
    async with served(server) as driver:
        answer = await read(driver, f"{tmp_path.resolve().as_uri()}/a.txt")
    assert "larger than 16777216 bytes" in answer["error"]["message"]


async def test_a_folder_is_read_and_not_left(tmp_path):
    (tmp_path / "root" / "sub").mkdir(parents=True)
    (tmp_path / "root" / "a ü.txt").write_text("hello")
    (tmp_path / "root" / "sub" / "b.bin").write_bytes(b"\xff\x00")
    (tmp_path / "root" / ".hidden").write_text("no")
    (tmp_path / "outside.txt").write_text("no")
    (tmp_path / "root" / "link.txt").symlink_to(tmp_path / "outside.txt")
    server = McpServer()
    server.add_folder(tmp_path / "root")
    base = (tmp_path / "root").resolve().as_uri()
    async with served(server) as driver:
        listed = (await ask(driver, "resources/list"))["result"]["resources"]
        assert [one["name"] for one in listed] == ["a ü.txt", "sub/b.bin"]
        for one, content in zip(listed, ({"text": "hello"}, {"blob": "/wA="}), strict=True):
            # A name that is not ASCII comes encoded, in the address and so in the header.
            [contents] = (await read(driver, one["uri"]))["result"]["contents"]
            assert content.items() <= contents.items()
        for path in (
            ".hidden",
            "link.txt",
            "../outside.txt",
            "%2e%2e/outside.txt",
            "sub",
            "none",
            "/etc/passwd",
            "sub/../../outside.txt",
        ):
            assert (await read(driver, f"{base}/{path}"))["error"]["code"] == -32602, path


async def test_odd_files_of_a_folder_are_left_out_and_the_others_are_served(tmp_path):
    (tmp_path / "good").write_text("hello")
    (tmp_path / os.fsdecode(b"not utf-8 \xff")).write_text("x")
    os.mkfifo(tmp_path / "pipe")
    for number in range(1500):
        (tmp_path / f".l{number}").symlink_to(f".l{number + 1}")
    (tmp_path / "chain").symlink_to(".l0")
    (tmp_path / "memory" / "senders" / "ana").mkdir(parents=True)
    (tmp_path / "memory" / "senders" / "ana" / "MEMORY.md").write_text("private")
    server = McpServer()
    server.add_folder(tmp_path)
    async with served(server) as driver:
        listed = (await ask(driver, "resources/list"))["result"]["resources"]
        assert [(one["name"], one["size"]) for one in listed] == [("good", 5)]
        base = tmp_path.resolve().as_uri()
        for path in ("pipe", "chain", "a%00b", "not%20utf-8%20%FF", "memory/senders/ana/MEMORY.md", "x" * 300):
            assert (await read(driver, f"{base}/{path}"))["error"]["code"] == -32602, path


@pytest.mark.parametrize("template", ["a/{b", "a/b}", "a/{?q}", "a/{b*}", "a/{b,c}", "{a}/{a}", "a/{}"])
def test_templates_of_other_kinds_are_refused(template):
    with pytest.raises(ValueError, match="a"):
        template_pattern(template)


def test_functions_that_do_not_take_the_variables_are_refused():
    server = McpServer()
    with pytest.raises(TypeError, match="variables"):

        @server.resource("a://{b}")
        async def wrong(c: str): ...

    with pytest.raises(ValueError, match="already"):
        server.resource("x://y", name="one")(lambda: "1")
        server.resource("x://y", name="two")(lambda: "2")


async def test_sections_that_are_empty_are_not_declared_and_not_served():
    async with served(McpServer([origin])) as driver:
        found = (await ask(driver, "server/discover"))["result"]["capabilities"]
        assert found == {"tools": {"listChanged": True}, "logging": {}}
        for method in ("resources/list", "prompts/list", "resources/read", "completion/complete"):
            answer = await driver.stateless(method, {"uri": "x"})
            assert (answer.status, answer.json()["error"]["code"]) == (404, -32601)
    async with served(library()) as driver:
        found = (await ask(driver, "server/discover"))["result"]["capabilities"]
        changing = {"tools": {"listChanged": True}, "prompts": {"listChanged": True}}
        subscribed = {"resources": {"subscribe": True, "listChanged": True}}
        assert found == {**changing, **subscribed, "logging": {}, "completions": {}}


def test_a_resource_is_hidden_below_its_level_unless_another_shows_it():
    server = McpServer()
    server.resource("a://{name}", required_level=1)(lambda name: name)
    server.resource("a://open")(lambda: "x")
    assert [server.is_hidden("a://x", level) for level in (0, 1, 2)] == [True, False, False]
    assert not server.is_hidden("a://open", 0)
    assert not server.is_hidden("b://unknown", 0)


def test_functions_that_are_offered_stay_what_they_are():
    server = McpServer()

    def text():
        return "x"

    assert server.resource("a://b")(text) is text
    assert server.prompt(text) is text
    assert server.prompt(name="other")(text) is text
    assert sorted(server.prompts) == ["other", "text"]
