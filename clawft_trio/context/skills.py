"""Finding skills: three levels of folders, one way to read them, and a report of everything that was there."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import attrs
import trio

from clawft_trio.context.skill_format import MAX_BYTES, Skill, parse_legacy, parse_skill_md
from clawft_trio.errors import InvalidData, Problem
from clawft_trio.files import FileCache, OnDisk, Reads, Snapshot, StrPath

_BREATH = 8
"""Skills parsed in one go, before others get the interpreter: less than a millisecond."""


@attrs.frozen(kw_only=True)
class Skipped:
    """Something in a skills folder that could not be used."""

    source: str
    level: str
    reason: str

    def __str__(self) -> str:
        return f"{self.source}: {self.reason}"


@attrs.frozen(kw_only=True)
class Shadowed:
    """A skill that another one of the same name hides."""

    skill: Skill
    by: Skill

    def __str__(self) -> str:
        return f"{self.skill.source}: {self.skill.name} is already defined in {self.by.source}"


@attrs.frozen(kw_only=True)
class SkillReport:
    """What a scan found, everything sorted."""

    #: those that can be used, by name
    skills: tuple[Skill, ...] = ()
    #: skills that another one of the same name hides
    shadowed: tuple[Shadowed, ...] = ()
    #: what could not be used, and why
    skipped: tuple[Skipped, ...] = ()
    _by_name: Mapping[str, Skill] = attrs.field(init=False, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "_by_name", {skill.name: skill for skill in self.skills})

    def get(self, name: str) -> Skill | None:
        """The skill called *name*, if there is one."""
        return self._by_name.get(name)

    @property
    def problems(self) -> tuple[str, ...]:
        """A line for everything that is not as its author meant it."""
        notes = (f"{skill.source}: {note}" for skill in self.skills for note in skill.notes)
        return (*map(str, self.skipped), *map(str, self.shadowed), *notes)


@attrs.frozen(kw_only=True)
class _Level:
    name: str
    folder: str
    trusted: bool = True


@attrs.frozen(kw_only=True)
class _Candidate:
    """A folder that may hold a skill, and what was read of it."""

    level: str
    folder: str
    markdown: OnDisk
    #: skill.json and prompt.md; looked for only where there is no SKILL.md
    settings: OnDisk | None = None
    prompt: OnDisk | None = None


_Parsed: TypeAlias = "Skill | Skipped | None"
_Memo: TypeAlias = "dict[str, tuple[_Candidate, _Parsed]]"


@attrs.frozen
class _Loaded:
    paths: tuple[str, ...]
    found: tuple[OnDisk, ...]
    report: SkillReport


class Skills:
    """The skills of up to three folders; a name in an earlier one hides the same name in a later one.

    A skill is a folder with a SKILL.md, or with the older skill.json and prompt.md, directly below one of these.

    Args:
      cache: the one that also reads everything else.
      workspace: the skills folder of the workspace, usually `.clawft/skills` in it. Whoever can write there (a
        cloned repository, the model itself) can instruct the model, so it is not read unless `trust_workspace` says so.
      user: the user's own skills folder.
      builtin: the one that came with the program.
      trust_workspace: read the workspace's skills, too.
      max_skills: entries of a folder that are looked at, in the order of their names.
    """

    def __init__(
        self,
        cache: FileCache,
        *,
        workspace: StrPath | None = None,
        user: StrPath | None = None,
        builtin: StrPath | None = None,
        trust_workspace: bool = False,
        max_skills: int = 2000,
    ) -> None:
        folders = {"workspace": workspace, "user": user, "built-in": builtin}
        self._cache = cache
        if workspace is not None:
            cache.confine(workspace)
        self._max_skills = max_skills
        self._levels = tuple(
            _Level(name=name, folder=os.fspath(folder), trusted=name != "workspace" or trust_workspace)
            for name, folder in folders.items()
            if folder is not None
        )
        self._memo: _Memo = {}
        self._last: _Loaded | None = None
        # Two loads at once would do the same work twice, and two threads that parse fight for the interpreter.
        self._loading = trio.Lock()
        self._parser = trio.CapacityLimiter(1)

    @property
    def report(self) -> SkillReport:
        """What the last `load` found; an empty report before the first."""
        return self._last.report if self._last is not None else SkillReport()

    async def load(self, *, reads: Reads | None = None) -> SkillReport:
        """Find all skills as they are now. Only what has changed is read and parsed again.

        While nothing has changed this is one visit to a worker thread and gives the same object.

        Args:
          reads: a `Snapshot` that the caller is filling, instead of the cache.

        Cancellation: what was found before stays in force.
        """
        snapshot = Snapshot(reads or self._cache)
        if (report := await self._unchanged(snapshot)) is not None:
            return report
        async with self._loading:
            # Somebody else may have loaded just this in the meantime.
            if (report := await self._unchanged(snapshot)) is not None:
                return report
            # A view of its own, so that what is no longer asked for is not looked at for ever.
            self._last = await self._load(Snapshot(snapshot))
            return self._last.report

    async def _unchanged(self, snapshot: Snapshot) -> SkillReport | None:
        last = self._last
        if last is None:
            await trio.lowlevel.checkpoint()
            return None
        return last.report if await snapshot.read_many(last.paths) == last.found else None

    async def _load(self, snapshot: Snapshot) -> _Loaded:
        candidates, skipped = await self._scan(snapshot)
        report, self._memo = await trio.to_thread.run_sync(
            _settled, candidates, skipped, self._memo, abandon_on_cancel=True, limiter=self._parser
        )
        return _Loaded(snapshot.paths, snapshot.found, report)

    async def _scan(self, snapshot: Snapshot) -> tuple[list[_Candidate], list[Skipped]]:
        listings = await snapshot.read_many([level.folder for level in self._levels])
        places, skipped = self._places(listings)
        markdown = await snapshot.read_many([_join(folder, "SKILL.md") for _, folder in places])
        older = [folder for (_, folder), found in zip(places, markdown, strict=True) if found.state == "missing"]
        settings = await snapshot.read_many([_join(folder, "skill.json") for folder in older])
        written = [folder for folder, found in zip(older, settings, strict=True) if found.state != "missing"]
        prompts = await snapshot.read_many([_join(folder, "prompt.md") for folder in written])
        by_settings = dict(zip(older, settings, strict=True))
        by_prompt = dict(zip(written, prompts, strict=True))
        candidates = [
            _Candidate(
                level=level,
                folder=folder,
                markdown=found,
                settings=by_settings.get(folder),
                prompt=by_prompt.get(folder),
            )
            for (level, folder), found in zip(places, markdown, strict=True)
        ]
        return candidates, skipped

    def _places(self, listings: Sequence[OnDisk]) -> tuple[list[tuple[str, str]], list[Skipped]]:
        """Level and path of every folder that may hold a skill, best level first, and what is not looked at."""
        places: list[tuple[str, str]] = []
        skipped: list[Skipped] = []
        for level, found in zip(self._levels, listings, strict=True):
            names = [name for name in found.names if not name.startswith(".")]
            reason = self._reason_to_skip(level, found, names)
            if reason:
                skipped.append(Skipped(source=level.folder, level=level.name, reason=reason))
            if level.trusted:
                places += [(level.name, _join(level.folder, name)) for name in names[: self._max_skills]]
        return places, skipped

    def _reason_to_skip(self, level: _Level, found: OnDisk, names: list[str]) -> str:
        if found.state not in {"directory", "missing"}:
            return found.detail or "not a folder"
        if names and not level.trusted:
            return f"{len(names)} entries not read: the skills of this workspace are not trusted"
        if len(names) > self._max_skills:
            return f"{len(names) - self._max_skills} entries not read: more than {self._max_skills}"
        return ""


# What follows runs in a worker thread.


def _nothing() -> None:
    pass


def _settled(candidates: Sequence[_Candidate], skipped: Sequence[Skipped], memo: _Memo) -> tuple[SkillReport, _Memo]:
    """The report on *candidates*, best first, parsing only those that *memo* does not know as they are."""
    kept: _Memo = {}
    chosen: dict[str, Skill] = {}
    shadowed: list[Shadowed] = []
    unusable = list(skipped)
    for number, candidate in enumerate(candidates):
        if number % _BREATH == 0:
            # The event loop has its turn here. It would not get one by our merely letting go of the interpreter: we
            # would have it back first, and whoever waits for it starts to count `sys.getswitchinterval` anew.
            trio.from_thread.run_sync(_nothing)
        before = memo.get(candidate.folder)
        parsed = before[1] if before is not None and before[0] == candidate else _parsed(candidate)
        kept[candidate.folder] = (candidate, parsed)
        if isinstance(parsed, Skipped):
            unusable.append(parsed)
        elif parsed is not None:
            first = chosen.setdefault(parsed.name, parsed)
            if first is not parsed:
                shadowed.append(Shadowed(skill=parsed, by=first))
    report = SkillReport(
        skills=tuple(sorted(chosen.values(), key=lambda skill: skill.name)),
        shadowed=tuple(shadowed),
        skipped=tuple(unusable),
    )
    return report, kept


def _parsed(candidate: _Candidate) -> _Parsed:
    """The skill, or why it is none; None when the folder does not mean to be one."""
    markdown, settings, prompt = candidate.markdown, candidate.settings, candidate.prompt
    source = _join(candidate.folder, "SKILL.md")
    try:
        if markdown.state != "missing":
            return parse_skill_md(_text(markdown, candidate), source=source, level=candidate.level)
        if settings is None or prompt is None:
            return None
        source = _join(candidate.folder, "skill.json")
        text = _text(settings, candidate)
        instructions = _text(prompt, candidate, what="prompt.md: ")
        return parse_legacy(text, instructions, source=source, level=candidate.level)
    except InvalidData as exc:
        return Skipped(source=source, level=candidate.level, reason=" ".join(str(exc).split()))


def _text(found: OnDisk, candidate: _Candidate, *, what: str = "") -> str:
    name = os.path.basename(candidate.folder)  # noqa: PTH119
    if ".." in name or "\\" in name or not name.isprintable():
        raise InvalidData([Problem("$", f"{name!r} is not a folder name for a skill")])
    if found.state != "file":
        raise InvalidData([Problem("$", what + (found.detail or "a folder"))])
    if found.size > MAX_BYTES:
        raise InvalidData([Problem("$", f"{what}{found.size} bytes are more than {MAX_BYTES}")])
    return found.text


def _join(folder: str, name: str) -> str:
    # Paths are strings here: making 3 000 Path objects costs more than asking the kernel about them.
    return os.path.join(folder, name)  # noqa: PTH118
