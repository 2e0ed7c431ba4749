"""Standard input in this process: lines as they come, and all of it up to a limit."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from clawft_trio.cli.stdin import LONGEST_LINE, StdinLines, is_piped, read_all, read_stdin
from clawft_trio.errors import InvalidData, NotConfigured

pytestmark = pytest.mark.skipif(os.name != "posix", reason="waiting for descriptors is POSIX")


@pytest.fixture
def piped(tmp_path: Path) -> Iterator[Callable[[bytes], int]]:
    """Makes a descriptor to read these bytes from."""
    opened: list[int] = []

    def make(content: bytes) -> int:
        path = tmp_path / f"{len(opened)}"
        path.write_bytes(content)
        opened.append(os.open(path, os.O_RDONLY))
        return opened[-1]

    yield make
    for fd in opened:
        os.close(fd)


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (b"", []),
        (b"a\nb\n", ["a", "b"]),
        (b"a\r\n\nb", ["a", "", "b"]),
        (b"caf\xe9\n", ["caf\ufffd"]),
        (b"\n", [""]),
    ],
)
async def test_lines_are_returned_without_their_ends(
    content: bytes, lines: list[str], piped: Callable[[bytes], int]
) -> None:
    stdin = StdinLines(piped(content))
    assert [await stdin.next_line() for _ in lines] == lines
    assert [await stdin.next_line(), await stdin.next_line()] == [None, None]


async def test_a_pipe_is_read_line_by_line_and_what_was_read_can_be_dropped() -> None:
    source, sink = os.pipe()
    try:
        stdin = StdinLines(source)
        os.write(sink, b"one\ntwo\nth")
        assert await stdin.next_line() == "one"
        stdin.forget()
        os.write(sink, b"four\n")
        assert await stdin.next_line() == "four"
        assert is_piped(source)
    finally:
        os.close(source)
        os.close(sink)


async def test_a_line_of_a_megabyte_is_the_longest(piped: Callable[[bytes], int]) -> None:
    longest = b"x" * LONGEST_LINE
    assert await StdinLines(piped(longest + b"\n")).next_line() == longest.decode()
    with pytest.raises(InvalidData, match=f"a line of more than {LONGEST_LINE} bytes"):
        await StdinLines(piped(longest * 2)).next_line()


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"plain", "plain"),
        (b"\xef\xbb\xbfmarked", "marked"),
        ("wide \u00e9".encode("utf-16"), "wide \u00e9"),
        (b"\xfe\xff\x00a", "a"),
        (b"caf\xe9", "caf\ufffd"),
        (b"", ""),
    ],
)
async def test_all_of_the_input_is_text(content: bytes, text: str, piped: Callable[[bytes], int]) -> None:
    assert await read_all(fd=piped(content)) == text


async def test_input_that_is_too_long_or_no_text_is_refused(piped: Callable[[bytes], int]) -> None:
    assert await read_all(3, fd=piped(b"abc")) == "abc"
    with pytest.raises(InvalidData, match="more than 3 bytes"):
        await read_all(3, fd=piped(b"abcd"))
    with pytest.raises(InvalidData, match="NUL"):
        await read_all(fd=piped(b"a\0b"))


def test_a_file_is_piped_and_a_device_or_a_closed_descriptor_is_not(
    piped: Callable[[bytes], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert is_piped(piped(b"x"))
    device = os.open(os.devnull, os.O_RDONLY)
    assert not is_piped(device)
    os.close(device)
    assert not is_piped(device)
    fd = piped(b"y")
    monkeypatch.setattr("sys.stdin", None)
    assert not is_piped(fd)
    with pytest.raises(NotConfigured, match="standard input is closed"):
        read_stdin()
