"""Hostile pages, workspaces and commands cost at most one call, within a bound."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path

import pytest
import trio
from hypothesis import given, strategies as st

from clawft_trio.auth import AuthContext
from clawft_trio.chat import ToolCall
from clawft_trio.config import parse_config
from clawft_trio.errors import ConfigError, InvalidData, ToolFailed
from clawft_trio.similar import closest
from clawft_trio.tools import ToolContext, ToolRegistry, tool
from clawft_trio.tools.builtin import BuiltinPolicy, CommandPolicy, FilePolicy, command, register_builtins, search
from clawft_trio.tools.builtin.charset import decode_body
from clawft_trio.tools.builtin.page import page_text
from clawft_trio.tools.json_schema import SchemaCheck
from clawft_trio.tools.workspace import Workspace

CONTEXT = ToolContext(auth=AuthContext.local())


def registry_of(root: Path, *allow: str, files: FilePolicy | None = None) -> ToolRegistry:
    registry = ToolRegistry()
    policy = BuiltinPolicy(unapproved=True, commands=CommandPolicy(allow=allow), files=files or FilePolicy())
    register_builtins(registry, root, policy)
    return registry


async def call(registry: ToolRegistry, name: str, **arguments: object):
    (answer,) = await registry.execute_all([ToolCall(id="1", name=name, arguments=json.dumps(arguments))], CONTEXT)
    return answer


@pytest.mark.parametrize(
    "name", ["punycode", "idna", "utf-7", "unicode_escape", "rot13", "zlib_codec", "mbcs", "x" * 5000, "../os", "é"]
)
def test_a_charset_that_is_not_of_the_web_is_read_as_utf_8(name: str) -> None:
    assert decode_body("-é".encode() * 1000, f"text/html; charset={name}") == "-é" * 1000


@pytest.mark.parametrize(
    ("label", "codec"),
    [
        ("ISO-8859-1", "latin_1"),
        ('"Shift_JIS"; a=b', "shift_jis"),
        ("windows-1251", "cp1251"),
        ("UTF-16LE", "utf-16-le"),
        ("utf-16", "utf-16-le"),
        ("GBK", "gbk"),
        ("EUC-KR", "euc_kr"),
        ("koi8-r", "koi8_r"),
    ],
)
def test_a_charset_of_the_web_is_honoured(label: str, codec: str) -> None:
    text = {"latin_1": "né", "shift_jis": "日本", "cp1251": "да", "gbk": "中文", "euc_kr": "한국", "koi8_r": "да"}.get(
        codec, "né"
    )
    assert decode_body(text.encode(codec), f"text/html; Charset={label}") == text


@pytest.mark.parametrize(
    ("label", "codec"),
    [
        ("latin1", "cp1252"),
        ("iso_8859-2:1987", "iso8859_2"),
        ("x-sjis", "cp932"),
        ("windows-31j", "cp932"),
        ("x-gbk", "gb18030"),
        ("gb2312", "gb18030"),
        ("ks_c_5601-1987", "cp949"),
        ("cp819", "cp1252"),
        ("dos-874", "cp874"),
        ("koi", "koi8_r"),
        ("unicodeFFFE", "utf_16_be"),
        ("logical", "iso8859_8"),
        ("x-mac-ukrainian", "mac_cyrillic"),
        ("hz-gb-2312", "utf_8"),
        ("utf-32", "utf_8"),
        ("base64", "utf_8"),
    ],
)
def test_a_label_of_the_web_names_the_codec_that_browsers_use(label: str, codec: str) -> None:
    body = bytes(range(32, 256)) * 2
    assert decode_body(body, f"text/html; charset={label}") == body.decode(codec, "replace")


@pytest.mark.parametrize(
    "header", ["; charset = koi8-r", ";q=1;CHARSET='KOI8-R' ;x", '; charset="koi8-r"; charset=utf-8']
)
def test_the_parameter_is_found_among_others(header: str) -> None:
    assert decode_body("да".encode("koi8_r"), f"text/html{header}") == "да"


def test_another_parameter_is_no_charset() -> None:
    assert decode_body("да".encode(), "text/html; xcharset=koi8-r") == "да"


@pytest.mark.parametrize(
    ("header", "codec"),
    [
        ("", "utf-8"),
        ("text/html", "utf-8"),
        ("charset=koi8-r", "utf-8"),
        ("text/html; charset", "utf-8"),
        ("text/html; charset=", "utf-8"),
        ("text/html; charset=none; charset=koi8-r", "utf-8"),
        ("text/html; charset=koi8-r; charset=utf-8", "koi8-r"),
        ("text/html; a=b; CHARSET = ' KOI8_R '", "koi8-r"),
    ],
)
def test_the_first_charset_parameter_counts_and_without_one_a_page_is_utf_8(header: str, codec: str) -> None:
    assert decode_body("да".encode(codec), header) == "да"


@pytest.mark.parametrize("size", [8191, 8192, 8193, 16384])
def test_a_character_across_two_pieces_is_whole_and_half_a_character_at_the_end_is_replaced(size: int) -> None:
    body = b"x" * (size - 1) + "д".encode()
    assert decode_body(body + b"y", "") == "x" * (size - 1) + "дy"
    assert decode_body(body[:-1], "") == "x" * (size - 1) + "\ufffd"


@pytest.mark.parametrize("codec", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_goes_before_the_label(codec: str) -> None:
    assert decode_body("да".encode(codec), "text/html; charset=koi8-r") == "да"


@given(
    st.binary(max_size=40_000), st.sampled_from(["utf-8", "utf-16", "shift_jis", "gb18030", "cp1253", "iso-2022-jp"])
)
def test_decoding_never_raises(body: bytes, charset: str) -> None:
    assert isinstance(decode_body(body, f"text/html; charset={charset}"), str)


@given(st.text(alphabet="ab<>/!-&;#\"' =", max_size=400))
def test_a_page_of_any_markup_is_read(page: str) -> None:
    assert isinstance(page_text(page), str)


@pytest.mark.parametrize(
    "piece", ['<a href="', "<a " + " href='x" * 500 + ">", "<script>", "<!--", "<svg></svg>", "<", "&#9;"]
)
def test_the_time_of_a_page_grows_no_faster_than_its_length(piece: str) -> None:
    def cost(length: int) -> float:
        page = (piece * (length // len(piece) + 1))[:length]
        began = time.thread_time()
        page_text(page)
        return time.thread_time() - began

    small, large = min(cost(50_000) for _ in range(3)), cost(400_000)
    # 8 times the length; a quadratic reader takes 64 times as long.
    assert large < 30 * small + 0.02


def test_thousands_of_similar_names_are_compared_within_a_bound() -> None:
    names = [f"argument_name_number_{number:05}" * 3 for number in range(20_000)]
    assert cpu(lambda: closest("argument_name_number_0123x" * 3, names)) < 0.05


def test_thousands_of_unknown_arguments_are_reported_by_the_first_few() -> None:
    names = [f"argument_name_number_{number:05}" for number in range(3000)]
    check = SchemaCheck({"type": "object", "properties": dict.fromkeys(names, {}), "additionalProperties": False})
    arguments = dict.fromkeys([f"{name}x" for name in names], 1)
    problems = check.problems(arguments)
    assert len(problems) == 8
    assert "did you mean" in problems[0].message
    assert all(len(problem.message) < 1000 for problem in problems)
    assert cpu(lambda: check.problems(arguments)) < 0.1


def cpu(function) -> float:
    began = time.thread_time()
    function()
    return time.thread_time() - began


@given(st.text(max_size=20), st.lists(st.text(max_size=20), max_size=20))
def test_a_suggestion_is_one_of_the_names(name: str, known: list[str]) -> None:
    assert set(closest(name, known, most=3)) <= set(known)


def test_a_name_with_one_wrong_letter_is_found_among_others() -> None:
    assert closest("read_fiel", ["write_file", "read_file", "list_directory"]) == ["read_file"]
    assert closest("zzz", ["read_file"]) == []


async def test_a_tool_name_that_resembles_thousands_is_answered_within_a_bound() -> None:
    def make(number: int):
        @tool(name=f"do_some_thing_{number:04}", mode="read_only")
        async def one() -> str:
            """Do it."""
            return ""

        return one

    registry = ToolRegistry(make(number) for number in range(2000))
    began = time.thread_time()
    answer = await call(registry, "do_some_thing_1x")
    assert "Did you mean" in answer.text
    assert time.thread_time() - began < 0.2


async def test_a_path_of_thousands_of_directories_is_refused_before_the_first_is_made(tmp_path: Path) -> None:
    registry = registry_of(tmp_path)
    answer = await call(registry, "write_file", path="a/" * 2000 + "f", content="x")
    assert answer.outcome == "error"
    assert "128 directories" in answer.text
    assert list(tmp_path.iterdir()) == []


def test_links_cannot_lengthen_a_path_beyond_the_bound(tmp_path: Path) -> None:
    below = tmp_path.joinpath(*["d"] * 100, *["e"] * 40)
    below.mkdir(parents=True)
    (tmp_path / "deep").symlink_to("d/" * 100)
    workspace = Workspace(tmp_path)
    with workspace.open_directory("deep/" + "e/" * 20):
        pass
    with pytest.raises(ToolFailed, match="128 directories"), workspace.open_directory("deep/" + "e/" * 40):
        pass


async def test_search_stops_at_a_depth_and_reports_it(tmp_path: Path) -> None:
    folder = tmp_path
    for _ in range(100):
        folder = folder / "d"
        folder.mkdir()
    (folder / "deep.txt").write_text("needle")
    (tmp_path / "top.txt").write_text("needle")
    before = len(list(Path("/proc/self/fd").iterdir()))
    answer = await call(registry_of(tmp_path), "search_files", text="needle")
    assert answer.text.startswith("top.txt:1: needle\n[not searched: more than 64 levels")
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.skipif(sys.platform != "linux", reason="counts descriptors by their list in /proc")
def test_a_walk_through_many_directories_takes_few_descriptors(tmp_path: Path) -> None:
    def held() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    deep = "/".join(["d"] * 60)
    (tmp_path / deep).mkdir(parents=True)
    (tmp_path / deep / "f").touch()
    (tmp_path / "link").symlink_to(f"{deep}/../../d")
    workspace = Workspace(tmp_path)
    before = held()
    for path in (f"{deep}/f", "link/d/../d/f"):
        with workspace.open_file(path):
            assert held() <= before + 3
    with workspace.open_directory(".") as directory:
        assert [(path, held() <= before + 5) for path, _, _ in search.Tree(directory).files()] == [
            ("link", True),
            (f"{deep}/f", True),
        ]
    assert held() == before


async def test_search_looks_at_a_bounded_number_of_entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clawft_trio.tools.builtin.search._MOST_SEEN", 20)
    for number in range(30):
        (tmp_path / f"{number:02}").write_text("x")
    answer = await call(registry_of(tmp_path), "search_files", files="*")
    assert len(answer.text.splitlines()) == 21
    assert "more than 20 entries" in answer.text


async def test_a_listing_looks_at_a_bounded_number_of_entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clawft_trio.tools.builtin.files._MOST_LISTED", 5)
    for number in range(9):
        (tmp_path / str(number)).touch()
    entries = json.loads((await call(registry_of(tmp_path), "list_directory")).text)
    assert len(entries) == 6
    assert "more than 5" in entries[-1]["_truncated"]


async def test_search_does_not_read_a_file_with_other_names_where_reading_refuses_it(tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("needle")
    root = tmp_path / "root"
    root.mkdir()
    os.link(tmp_path / "outside", root / "inside")
    registry = registry_of(root, files=FilePolicy(refuse_hard_links=True))
    assert (await call(registry, "search_files", text="needle")).text == "Nothing found."
    assert (await call(registry_of(root), "search_files", text="needle")).text == "inside:1: needle"


async def test_a_name_that_is_not_utf_8_is_listed_and_searched(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.txt")).write_text("needle")
    registry = registry_of(tmp_path)
    for answer in (
        await call(registry, "list_directory"),
        await call(registry, "search_files", text="needle"),
        await call(registry, "search_files"),
    ):
        assert answer.outcome == "ok"
        answer.text.encode()


REFUSED = [
    ("sort", ["sort", "--compress-program=sh", "f"]),
    ("sort", ["sort", "--comp", "sh", "f"]),
    ("sort", ["sort", "f", "-o", "/tmp/x"]),
    ("sort", ["sort", "-nro/tmp/x", "f"]),
    ("sort *", ["sort", "--compress-program=sh"]),
    ("split", ["split", "--filter=sh", "f"]),
    ("rg", ["rg", "--pre", "sh", "x"]),
    ("rg", ["rg", "-z", "x"]),
    ("rg", ["rg", "--hostname-bin=sh", "x"]),
    ("grep", ["grep", "-f", "/etc/shadow", "x"]),
    ("date", ["date", "-s", "now"]),
    ("mytool", ["mytool", "--config=x"]),
    ("mytool", ["mytool", "operand"]),
    ("mytool", ["mytool", "@file"]),
    ("mytool", ["mytool", "-"]),
    ("find *", ["find", "-exec"]),
    ("tar * *", ["tar", "xf", "--to-command=sh"]),
    ("git *", ["git", "-ccore.pager=sh"]),
    ("diff", ["diff", "-l", "a", "b"]),
    ("date", ["date", "-f", "/etc/shadow"]),
    ("wc", ["wc", "--files0-from=x"]),
    ("du", ["du", "--files0-from=x"]),
    ("tail", ["tail", "-F", "x"]),
    ("rg", ["rg", "-f", "/etc/shadow"]),
    ("ls", ["ls", "--unknown"]),
    ("/usr/bin/sort", ["/usr/bin/sort", "--compress-program=sh"]),
]


@pytest.mark.parametrize(
    ("rule", "argv"), REFUSED, ids=lambda value: " ".join(value) if isinstance(value, list) else value
)
def test_an_option_that_is_not_listed_is_refused(rule: str, argv: list[str]) -> None:
    assert not CommandPolicy(allow=(rule,)).allows(argv)


@pytest.mark.parametrize(
    ("rule", "argv"),
    [
        ("sort", ["sort", "-k2,2n", "--reverse", "f"]),
        ("head", ["head", "-5", "f"]),
        ("grep", ["grep", "-rn", "--include=*.py", "x", "."]),
        ("grep", ["grep", "--", "-f", "x"]),
        ("echo", ["echo", "--anything"]),
        ("mytool", ["mytool"]),
        ("mytool *", ["mytool", "operand"]),
        ("sort -*", ["sort", "-n"]),
        ("sort **", ["sort", "--compress-program=sh"]),
    ],
)
def test_listed_options_and_named_ones_are_allowed(rule: str, argv: list[str]) -> None:
    assert CommandPolicy(allow=(rule,)).allows(argv)


@pytest.mark.parametrize(
    "program",
    ["ld-linux-x86-64.so.2", "/lib64/ld-linux-x86-64.so.2", "ld.so", "xargs", "env", "find", "tar", "git", "awk", "sed"]
    + ["python3.12", "nvim", "setpriv", "run-parts", "ld-musl-aarch64.so.1", "perl5.36", "socat"]
    + [
        "python3.13t",
        "perl5.36-x86_64-linux-gnu",
        "vim.basic",
        "emacs-nox",
        "gfind",
        "gtimeout",
        "guile-3.0",
        "ip",
        "ldd",
    ]
    + ["kubectl", "toybox", "coreutils", "pager", "x86_64", "dc", "gcc-12", "lua5.4", "R", "nice", "setsid", "ssh"],
)
def test_a_launcher_cannot_be_allowed_by_its_name_alone(program: str) -> None:
    with pytest.raises(ValueError, match="starts other programs"):
        CommandPolicy(allow=(program,))


async def test_a_directory_that_is_swapped_for_a_link_does_not_move_the_command_outside(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    (root / "d").mkdir(parents=True)
    outside.mkdir()
    registry = registry_of(root, "pwd")
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            (root / "d").rename(root / "kept")
            (root / "d").symlink_to(outside)
            (root / "d").unlink()
            (root / "kept").rename(root / "d")
            time.sleep(0.001)

    seen = set()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.to_thread.run_sync, swap)
        for _ in range(60):
            answer = await call(registry, "run_command", argv=["pwd", "-P"], directory="d")
            seen.add(json.loads(answer.text)["stdout"].strip() if answer.outcome == "ok" else answer.outcome)
        stop.set()
    # "invalid": there was no directory of this name at that moment.
    assert seen <= {str(root / "d"), str(root / "kept"), "error", "invalid", "refused"}
    assert seen & {str(root / "d"), str(root / "kept")}


async def test_a_command_runs_in_the_directory_that_was_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The swap happens between the check and the start of the process, every time.
    root, outside = tmp_path / "root", tmp_path / "outside"
    (root / "d").mkdir(parents=True)
    outside.mkdir()
    start = command.run_child

    async def swap_then_start(*arguments, **options):
        (root / "d").rename(root / "moved")
        (root / "d").symlink_to(outside)
        return await start(*arguments, **options)

    monkeypatch.setattr(command, "run_child", swap_then_start)
    answer = await call(registry_of(root, "pwd"), "run_command", argv=["pwd", "-P"], directory="d")
    assert json.loads(answer.text)["stdout"].strip() == str(root / "moved")


def test_many_unknown_keys_of_a_configuration_are_reported_by_the_first_few() -> None:
    with pytest.raises((ConfigError, InvalidData)) as caught:
        parse_config(json.dumps({f"provider{number}": 1 for number in range(50_000)}))
    assert len(caught.value.problems) <= 52
