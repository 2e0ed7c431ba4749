"""The options that a program may get when a rule names the program alone.

They are a list of what is allowed, because the dangerous ones (`sort --compress-program`, `split --filter`, `rg --pre`)
may be abbreviated, and differ between versions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import takewhile

import attrs


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


@attrs.frozen(kw_only=True)
class SafeOptions:
    """The options of one program that neither start another program nor name a file to write."""

    #: letters, each a short option with or without a value
    letters: str = ""
    #: options of more than one letter, without dashes; exact, since GNU programs accept abbreviations
    words: frozenset[str] = attrs.field(default="", converter=_words)
    #: no option does anything else
    anything: bool = False

    def allow(self, arguments: Sequence[str]) -> bool:
        """Whether all of *arguments* are operands or allowed options.

        A word that begins with a dash is taken for an option also where it would be an option's value.
        """
        # After `--` all words are operands.
        options = takewhile(lambda word: word != "--", () if self.anything else arguments)
        return all(self._allows_option(word) for word in options if word.startswith("-"))

    def _allows_option(self, word: str) -> bool:
        if word.startswith("--"):
            return word[2:].partition("=")[0] in self.words
        # `-k2,2`, `-n5`: what is no letter belongs to a value; each letter has to be an allowed option by itself.
        return all(one in self.letters or not one.isalpha() for one in word[1:])


_ALL_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_COMMON = "help version "

_TABLE: Mapping[str, tuple[str, str]] = {
    "basename": ("asz", "multiple suffix zero"),
    "cat": ("AbeEnstTuv", "number number-nonblank show-all show-ends show-nonprinting show-tabs squeeze-blank"),
    "cksum": ("", ""),
    "cmp": ("binls", "print-bytes ignore-initial verbose bytes silent quiet"),
    "comm": ("123z", "check-order nocheck-order output-delimiter total zero-terminated"),
    "cut": ("bcdfnsz", "bytes characters delimiter fields complement only-delimited output-delimiter zero-terminated"),
    "date": ("dIRu", "date iso-8601 rfc-3339 rfc-email utc universal"),
    "df": ("ahHiklPtTx", "all human-readable inodes local portability type print-type exclude-type total"),
    "diff": (
        "abBcCdeEiInNpqrstTuUwWyZ",
        (
            "normal brief report-identical-files context unified side-by-side width recursive new-file ignore- "
            "case ignore-all-space ignore-space-change ignore-blank-lines ignore-trailing-space text strip- "
            "trailing-cr minimal color exclude"
        ),
    ),
    "dirname": ("z", "zero"),
    "du": ("abcdDhHklLmPsSxt", "all apparent-size bytes total max-depth human-readable summarize one-file-system"),
    "egrep": ("", ""),
    "false": ("", ""),
    "fgrep": ("", ""),
    "fold": ("bsw", "bytes spaces width"),
    "grep": (
        "aAbBcCDdeEFGhHiIlLmnoPqrRsTuUvVwxyZz",
        (
            "after-context before-context context count color colour extended-regexp fixed-strings basic-regexp "
            "perl-regexp regexp ignore-case no-ignore-case invert-match word-regexp line-regexp max-count only- "
            "matching quiet silent no-messages byte-offset line-number with-filename no-filename label initial- "
            "tab null null-data text binary-files directories devices exclude exclude-dir include recursive "
            "dereference-recursive files-with-matches files-without-match line-buffered"
        ),
    ),
    "head": ("cnqvz", "bytes lines quiet silent verbose zero-terminated"),
    "id": ("gGnruz", "group groups name real user zero"),
    "ls": (
        _ALL_LETTERS,
        (
            "all almost-all author escape block-size ignore-backups color directory classify file-type format "
            "full-time group-directories-first no-group human-readable si hide indicator-style inode ignore "
            "kibibytes dereference numeric-uid-gid literal hide-control-chars show-control-chars quote-name "
            "quoting-style reverse recursive size sort time time-style tabsize width context zero"
        ),
    ),
    "md5sum": ("btz", "binary text tag zero"),
    "mkdir": ("mpv", "mode parents verbose"),
    "nl": ("bdfhilnpsvw", "body-numbering footer-numbering header-numbering number-format number-width"),
    "printenv": ("", ""),
    "pwd": ("LP", "logical physical"),
    "readlink": ("efmnqsvz", "canonicalize canonicalize-existing canonicalize-missing no-newline zero"),
    "realpath": ("eLmPqsz", "canonicalize-existing canonicalize-missing relative-to relative-base strip zero"),
    "rev": ("", ""),
    "rg": (
        "aAbBcCdeFgHhiIjlLmMnNopPqrsStTuUvVwx",
        (
            "after-context before-context context count count-matches color column files files-with-matches "
            "files-without-match fixed-strings glob iglob heading no-heading hidden ignore-case invert-match json "
            "line-number no-line-number line-regexp max-columns max-count max-depth multiline no-ignore null "
            "only-matching passthru pcre2 quiet regexp replace smart-case case-sensitive sort sortr stats text "
            "trim type type-list type-not vimgrep with-filename no-filename word-regexp"
        ),
    ),
    "seq": ("fsw", "format separator equal-width"),
    "sha1sum": ("btz", "binary text tag zero"),
    "sha256sum": ("btz", "binary text tag zero"),
    "sha512sum": ("btz", "binary text tag zero"),
    "sleep": ("", ""),
    "sort": (
        "bcCdfghiknmMrRstuVz",
        (
            "ignore-leading-blanks dictionary-order ignore-case general-numeric-sort ignore-nonprinting month- "
            "sort human-numeric-sort numeric-sort random-sort reverse sort version-sort check key merge stable "
            "field-separator unique zero-terminated"
        ),
    ),
    "stat": ("cfLt", "dereference file-system format printf terse"),
    "tac": ("brs", "before regex separator"),
    "tail": ("cnqvz", "bytes lines quiet silent verbose zero-terminated"),
    "touch": ("acdmrt", "no-create date no-dereference reference time"),
    "tr": ("cCdst", "complement delete squeeze-repeats truncate-set1"),
    "true": ("", ""),
    "uname": ("amnoprsv", "all kernel-name nodename kernel-release kernel-version machine operating-system"),
    "wc": ("clLmw", "bytes chars lines max-line-length words total"),
    "whoami": ("", ""),
}

# `uniq IN OUT`, `tee`, `cp`, `mv` and `rm` write or remove what their operands name, and `find` has actions that start
# programs, so they are not in the table.

SAFE_OPTIONS: Mapping[str, SafeOptions] = {
    **{name: SafeOptions(letters=letters, words=_COMMON + words) for name, (letters, words) in _TABLE.items()},
    # They print their words, whatever these are.
    **dict.fromkeys(("echo", "printf"), SafeOptions(anything=True)),
}
"""The options of the programs that a rule may name alone."""

NO_OPTIONS = SafeOptions()
"""For a program that is not listed: operands only."""

# Programs that start any other program by their operands or commands.
_LAUNCHERS_TEXT = (
    "apt ash at awk bash batch bun bundle bunx busybox bwrap capsh cargo chroot chrt cmake coproc corepack crontab csh "
    "dash dbus-run-session deno docker doas dpkg eatmydata ed emacs entr env ex expect fakechroot fakeroot find "
    "firejail fish flatpak flock gawk gdb gdbserver git go gradle ionice just kexec ksh ld less lftp linux32 linux64 "
    "lldb ltrace lua lxc m4 mail make man mawk mksh mosh more mvn nawk newgrp nice ninja node nodejs nohup npm npx "
    "nsenter numactl original-awk parallel perf perl php pip pipx pkexec pnpm podman posh prlimit proot psql pypy "
    "python pythonw rake rbash rlwrap rsync ruby run-parts runcon runuser rustup rvim rview scp screen script "
    "scriptreplay sed setarch setpriv setsid sftp sg sh snap socat sqlite ssh ssh-agent start-stop-daemon stdbuf "
    "strace su sudo swipl systemd-run systemctl tar taskset tclsh tcsh tee time timeout tini tmux torsocks ts-node "
    "tsx unbuffer unshare uv uvx valgrind vi view vim vimdiff nvim watch wish xargs xvfb-run yarn yash zip zsh"
)
_LAUNCHERS = frozenset(_LAUNCHERS_TEXT.split())

_LOADERS = ("ld-linux", "ld-musl", "ld64", "ld.so", "ld-2", "ld-uClibc")
"""Beginnings of the names of dynamic loaders: `ld-linux-x86-64.so.2 /bin/sh` starts a shell."""


def starts_programs(program: str) -> bool:
    """Whether a program of this name is known to start others, named by its operands or its own language."""
    return program.rstrip("0123456789.") in _LAUNCHERS or program.startswith(_LOADERS)
