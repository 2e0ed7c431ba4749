"""The options that are allowed for a program when a rule names only the program.

The table lists what is allowed, because the dangerous options (`sort --compress-program`, `split --filter`, `rg --pre`)
can be abbreviated, and differ between versions.
"""

from __future__ import annotations

import re
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
    #: whether every argument is harmless
    anything: bool = False
    #: any operands are allowed
    operands: bool = True

    def allow(self, arguments: Sequence[str]) -> bool:
        """Whether all of *arguments* are operands or allowed options.

        A word that begins with a dash counts as an option, even where it would be an option's value.
        """
        if not self.operands:
            return not arguments
        # After `--` all words are operands.
        options = takewhile(lambda word: word != "--", () if self.anything else arguments)
        return all(self._allows_option(word) for word in options if word.startswith("-"))

    def _allows_option(self, word: str) -> bool:
        if word.startswith("--"):
            return word[2:].partition("=")[0] in self.words
        # `-k2,2`, `-n5`: a character that is not a letter belongs to a value; each letter must be an allowed option.
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
    # They only print their arguments.
    **dict.fromkeys(("echo", "printf"), SafeOptions(anything=True)),
}
"""The options of the programs that a rule may name alone."""

NOTHING = SafeOptions(operands=False)
"""For a program that is not listed: no arguments, because an operand may be a command (`ip netns exec`)."""

# Programs that can start any other program by their operands or commands.
_LAUNCHERS_TEXT = (
    "abduco agetty anacron ansible ant apk apptainer apt apt-get aptitude arch aria2c asdf ash at autossh awk aws az "
    "bash bat batch bazel bc bcc bmake box64 bpftrace bpython brew bsdtar buildah builtin bun bundle bunx busybox "
    "bwrap byobu bzless caffeinate capsh cargo catchsegv cc cgexec chez choom chpst chrome chronic chroot chrt clang "
    "clisp clj clojure cmake code command conda coproc corepack coreutils cpack cpulimit crontab crun crystal csh csi "
    "ctest ctr curl daemon daemonize dash dbus-launch dbus-run-session dbus-send dc delta deno direnv distrobox "
    "django-admin dnf doas docker dotnet dpkg dpkg-reconfigure dtach dtrace duckdb dumb-init eatmydata ecl ed edit "
    "editor elixir elvish emacs emacsclient entr env envdir erb erl es escript eval ex exec execlineb expect "
    "fakechroot fakeroot faketime find firefox firejail fish flatpak flock flyctl forth fossil ftp fzf gawk gcc "
    "gcloud gdb gdbserver gdbus gem gforth gh ghc ghci git glab gmake gnome-terminal gnuplot go gosu gp gpg gpg2 "
    "gprolog gradle groff groovy gs guile guix gvim hatch heaptrack helm heroku hg hub hx hyperfine i386 iex ifne "
    "info init ionice ip ipython irb java javac jexec jj joe journalctl jshell julia jupyter just kak kexec konsole "
    "kotlin ksh kubectl latex launchctl ld ldd lein less lftp linux32 linux64 lldb login logrotate ltrace lua luac "
    "luajit lualatex lxc m4 machinectl mail make mamba man mariadb mawk maxima meson mg micro mise mksh mongo mongosh "
    "monit mono more mosh most mvn mysql nano nawk nc ncat nerdctl netcat newgrp ngspice nice nim ninja nix nmap node "
    "nodejs nohup nox npm npx nsenter nu numactl nvim nvm oc ocaml octave oil open openssl original-awk osascript osh "
    "pacman pager parallel pdflatex pdm perf perl pg php pico pip pipenv pipesz pipx pkexec pnpm podman poetry posh "
    "powershell prlimit proot proxychains pry ps2pdf psql pssh pwsh py pyenv pypy pytest python pythonw qdbus qemu R "
    "racket rails rake rbash rbenv rc redis-cli rlogin rlwrap rpm rpmbuild rr Rscript rsh rsync ruby run-mailcap "
    "run-parts runc runcon runghc runhaskell runuser rustc rustup rview rvim rxvt s6 sage sandbox-exec sbcl sbt scala "
    "scheme scons scp screen script scriptreplay scsh sed see sensible-browser sensible-editor sensible-pager setarch "
    "setlock setpriv setsid setuidgid sftp sg sh singularity slogin snap snapcraft socat softlimit source sqlite ssh "
    "ssh-agent sshpass start-stop-daemon startx stdbuf strace su su-exec sudo sudoedit supervisord svn swi-prolog "
    "swift swipl switch_root systemctl systemd-nspawn systemd-run tar taskset tcc tclsh tcpdump tcsh tee telinit "
    "telnet terraform tex tig time timeout tini tmux tofu toolbox torify torsocks tox toybox trace-cmd troff ts-node "
    "tshark tsx uclampset uftrace uname26 unbuffer unshare urxvt uv uvx vagrant valgrind vi vidir view vim vimdiff "
    "vipe vipw visudo volta wasmer wasmtime watch watchexec wget wine wine64 wireshark wish x86_64 xargs xcrun "
    "xdg-open xelatex xinit xonsh xterm xvfb-run xzless yap yarn yash yum zellij zig zip zless zmore zsh"
)
_LAUNCHERS = frozenset(_LAUNCHERS_TEXT.split())

_LOADERS = ("ld-linux", "ld-musl", "ld64", "ld.so", "ld-2", "ld-uClibc")
"""Beginnings of the names of dynamic loaders: `ld-linux-x86-64.so.2 /bin/sh` starts a shell."""


_WORD = re.compile(r"[A-Za-z]+")


def starts_programs(program: str) -> bool:
    """Whether a program of this name is known to start others, by its operands or its own language.

    The name may have a version or a variant (`python3.13t`, `vim.basic`), or the prefix `g` of GNU programs (`gfind`).
    """
    if program in SAFE_OPTIONS:
        return False
    word = _WORD.match(program)
    first = word[0] if word else ""
    names = {program, program.rstrip("0123456789."), first, first.removeprefix("g")}
    return bool(names & _LAUNCHERS) or program.startswith(_LOADERS)
