"""A tool returns images and files: they are parts of its result beside the text."""

from clawft_trio import Image, tool
from clawft_trio.auth import ADMIN, AuthContext
from clawft_trio.chat import File, Message, Text, ToolCall
from clawft_trio.tools import ToolContext, ToolRegistry
from clawft_trio.tools.media import MOST_MEDIA, split_result

CONTEXT = ToolContext(auth=AuthContext(permissions=ADMIN))
PNG = Image(data=b"PNG")
PDF = File(data=b"%PDF", name="a.pdf")


def test_text_and_media_are_told_apart_in_order():
    assert split_result(PNG) == ("", (PNG,))
    assert split_result(["the page:", PNG, {"n": 1}, PDF]) == ('the page:\n{"n":1}', (PNG, PDF))
    assert split_result((Text("a"), Text("b"))) == ("a\nb", ())
    assert split_result(["a", 1]) == ('["a",1]', ())


def test_what_is_too_large_or_too_many_is_replaced_by_a_line():
    fits = Image(data=b"x" * 10)
    assert split_result([fits], media_limit=10) == ("", (fits,))
    text, media = split_result([Image(data=b"x" * 11)], media_limit=10)
    assert (text, media) == ("[image image/png left out: 11 bytes, and 10 are the most]", ())
    text, media = split_result([PNG] * (MOST_MEDIA + 2))
    assert len(media) == MOST_MEDIA
    assert text.count("left out") == 2


async def test_the_message_of_a_call_holds_the_image():
    @tool(mode="read_only")
    async def screenshot() -> list:
        """Take a screenshot."""
        return ["the page:", PNG]

    (result,) = await ToolRegistry([screenshot]).execute_all([ToolCall(id="c", name="screenshot")], CONTEXT)
    assert result.text == "the page:"
    assert result.message == Message("tool", (Text("the page:"), PNG), tool_call_id="c")
