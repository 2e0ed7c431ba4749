"""Discovery of skills: three levels of folders, one format, and a report of everything found."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

import attrs
import trio

from clawft_trio.context.skill_format import MAX_BYTES, Skill, parse_legacy, parse_skill_md
from clawft_trio.errors import InvalidData, Problem
from clawft_trio.files import FileCache, OnDisk, Reads, Snapshot, StrPath

_BATCH = 8
"""Number of skills parsed before the event loop runs again: less than a millisecond."""

MAX_DEPTH = 4
"""Levels of folders below a skills folder in which skills are looked for."""

_IGNORED = frozenset(
    {
        "node_modules", "__pycache__", "venv", ".venv", ".git", ".hg", ".svn", ".github", ".tox", ".cache", ".idea",
        ".vscode", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".DS_Store", ".gitignore", ".gitattributes",
        ".gitkeep", ".Trash",
    }
)  # fmt: skip
"""Names that are never a group of skills. Other names that begin with a dot may be one: `.curated`, `.system`."""

# A file, recognised by its name: a path with such an ending is not listed as a group of skills.
_FILE_NAME = re.compile(r".+\.[A-Za-z][A-Za-z0-9]{0,4}\Z", re.DOTALL)


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
    """A skill that is hidden by another one of the same name."""

    skill: Skill
    by: Skill

    def __str__(self) -> str:
        return f"{self.skill.source}: {self.skill.name} is already defined in {self.by.source}"


@attrs.frozen(kw_only=True)
class SkillReport:
    """The result of a scan."""

    #: usable skills, sorted by name
    skills: tuple[Skill, ...] = ()
    #: skills hidden by another one of the same name
    shadowed: tuple[Shadowed, ...] = ()
    #: files and folders that could not be used, with the reason
    skipped: tuple[Skipped, ...] = ()
    _by_name: Mapping[str, Skill] = attrs.field(init=False, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "_by_name", {skill.name: skill for skill in self.skills})

    def get(self, name: str) -> Skill | None:
        """Return the skill called *name*, or None."""
        return self._by_name.get(name)

    @property
    def problems(self) -> tuple[str, ...]:
        """One line for everything that was skipped, hidden or repaired."""
        notes = (f"{skill.source}: {note}" for skill in self.skills for note in skill.notes)
        return (*map(str, self.skipped), *map(str, self.shadowed), *notes)


@attrs.frozen(kw_only=True)
class _Level:
    name: str
    folder: str
    trusted: bool


@attrs.frozen(kw_only=True)
class _Place:
    """A folder that may hold a skill or be a group of skills, and the name of its SKILL.md."""

    level: _Level
    folder: str
    depth: int
    file: str = "SKILL.md"

    @property
    def path(self) -> str:
        return _join(self.folder, self.file)


@attrs.frozen(kw_only=True)
class _Candidate:
    """A folder that may hold a skill, and the contents of its files."""

    level: str
    #: the skills folder above it
    root: str
    folder: str
    #: path of its SKILL.md, in upper or lower case
    path: str
    markdown: OnDisk
    #: skill.json and prompt.md; read only where there is no SKILL.md
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
    """The skills of up to three levels; a skill hides a skill of the same name on a later level.

    A skill is a folder with a SKILL.md, or with the older skill.json and prompt.md, in one of these folders or in a
    group of skills below it, at most `MAX_DEPTH` levels deep.

    Args:
      cache: the cache that also reads all other files.
      workspace: the skills folders of the workspace, best first; see `workspace_skill_folders`. Anyone who can write
        there (the author of a cloned repository, the model itself) can instruct the model, so they are read only with
        `trust_workspace`.
      user: the user's own skills folders, best first.
      builtin: the skills folders of the program.
      trust_workspace: read the workspace's skills, too.
      max_skills: largest number of folders read below one skills folder, in the order of their names.
    """

    def __init__(
        self,
        cache: FileCache,
        *,
        workspace: StrPath | Sequence[StrPath] | None = None,
        user: StrPath | Sequence[StrPath] | None = None,
        builtin: StrPath | Sequence[StrPath] | None = None,
        trust_workspace: bool = False,
        max_skills: int = 2000,
    ) -> None:
        folders = {"workspace": workspace, "user": user, "built-in": builtin}
        self._cache = cache
        for folder in _paths(workspace):
            cache.confine(_confinement(folder))
        self._max_skills = max_skills
        self._levels = tuple(
            _Level(name=name, folder=folder, trusted=name != "workspace" or trust_workspace)
            for name, given in folders.items()
            for folder in _paths(given)
        )
        self._memo: _Memo = {}
        self._last: _Loaded | None = None
        # Two concurrent loads would do the same work twice, and two parsing threads compete for the interpreter.
        self._loading = trio.Lock()
        self._parser = trio.CapacityLimiter(1)

    @property
    def report(self) -> SkillReport:
        """The report of the last `load`; an empty report before the first."""
        return self._last.report if self._last is not None else SkillReport()

    async def load(self, *, reads: Reads | None = None) -> SkillReport:
        """Find all skills. Only changed files are read and parsed again.

        While nothing has changed, this is one call in a worker thread and returns the same object.

        Args:
          reads: a `Snapshot` that the caller is filling, instead of the cache.

        Cancellation: the previous report stays valid.
        """
        snapshot = Snapshot(reads or self._cache)
        if (report := await self._unchanged(snapshot)) is not None:
            return report
        async with self._loading:
            # Another task may have loaded the same meanwhile.
            if (report := await self._unchanged(snapshot)) is not None:
                return report
            # A separate snapshot, so that paths that are no longer needed are not checked any more.
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
            _report_on, candidates, skipped, self._memo, abandon_on_cancel=True, limiter=self._parser
        )
        return _Loaded(snapshot.paths, snapshot.found, report)

    async def _scan(self, snapshot: Snapshot) -> tuple[list[_Candidate], list[Skipped]]:
        """Read every folder that may hold a skill, one level of depth at a time."""
        listings = await snapshot.read_many([level.folder for level in self._levels])
        places, skipped = self._roots(listings)
        candidates: list[_Candidate] = []
        left = dict.fromkeys(self._levels, self._max_skills)
        while places:
            found, groups = await self._read(snapshot, places)
            candidates += found
            places = []
            for group, names in groups:
                inner = [
                    _Place(level=group.level, folder=_join(group.folder, name), depth=group.depth + 1) for name in names
                ]
                taken = inner[: left[group.level]]
                left[group.level] -= len(taken)
                if len(taken) < len(inner):
                    reason = f"{len(inner) - len(taken)} entries not read: more than {self._max_skills} in all"
                    skipped.append(Skipped(source=group.folder, level=group.level.name, reason=reason))
                places += taken
        return self._in_order(candidates), skipped

    def _in_order(self, candidates: Iterable[_Candidate]) -> list[_Candidate]:
        """Sort *candidates* by level, then by path: the first of a name is used."""
        order = {level.folder: number for number, level in reversed(list(enumerate(self._levels)))}
        return sorted(candidates, key=lambda one: (order[one.root], one.folder))

    async def _read(
        self, snapshot: Snapshot, places: Sequence[_Place]
    ) -> tuple[list[_Candidate], list[tuple[_Place, list[str]]]]:
        """Return the skills at *places*, and the groups of skills with the names of their folders."""
        markdown = await snapshot.read_many([place.path for place in places])
        without = [place for place, found in zip(places, markdown, strict=True) if found.state == "missing"]
        candidates = [
            _candidate(place, found) for place, found in zip(places, markdown, strict=True) if found.state != "missing"
        ]
        folders = [place for place in without if not _FILE_NAME.match(os.path.basename(place.folder))]
        listings = await snapshot.read_many([place.folder for place in folders])
        groups: list[tuple[_Place, list[str]]] = []
        renamed: list[_Place] = []
        older: list[_Place] = []
        for place, listing in zip(folders, listings, strict=True):
            other = next((name for name in listing.names if name.lower() == "skill.md"), None)
            if other is not None:
                renamed.append(attrs.evolve(place, file=other))
            elif "skill.json" in listing.names:
                older.append(place)
            elif place.depth < MAX_DEPTH and (names := _folder_names(listing)):
                groups.append((place, names))
        candidates += map(_candidate, renamed, await snapshot.read_many([place.path for place in renamed]))
        settings = await snapshot.read_many([_join(place.folder, "skill.json") for place in older])
        prompts = await snapshot.read_many([_join(place.folder, "prompt.md") for place in older])
        candidates += map(_candidate, older, [_MISSING] * len(older), settings, prompts)
        return candidates, groups

    def _roots(self, listings: Sequence[OnDisk]) -> tuple[list[_Place], list[Skipped]]:
        """Return every folder directly below the skills folders, and those that are skipped."""
        places: list[_Place] = []
        skipped: list[Skipped] = []
        for level, found in zip(self._levels, listings, strict=True):
            names = _folder_names(found)
            reason = self._reason_to_skip(level, found, names)
            if reason:
                skipped.append(Skipped(source=level.folder, level=level.name, reason=reason))
            if level.trusted:
                if any(name.lower() == "skill.md" for name in found.names):
                    file = "SKILL.md" if "SKILL.md" in found.names else "skill.md"
                    places.append(_Place(level=level, folder=level.folder, depth=0, file=file))
                folders = [_join(level.folder, name) for name in names[: self._max_skills]]
                places += [_Place(level=level, folder=folder, depth=1) for folder in folders]
        return places, skipped

    def _reason_to_skip(self, level: _Level, found: OnDisk, names: list[str]) -> str:
        if found.state not in {"directory", "missing"}:
            return found.detail or "not a folder"
        if names and not level.trusted:
            return f"{len(names)} entries not read: the skills of this workspace are not trusted"
        if len(names) > self._max_skills:
            return f"{len(names) - self._max_skills} entries not read: more than {self._max_skills}"
        return ""


def workspace_skill_folders(workspace: StrPath) -> tuple[str, ...]:
    """Return the skills folders of a workspace, best first: this program's, then those that programs share."""
    return tuple(_join(os.fspath(workspace), folder) for folder in (*_OWN_FOLDER, *_SHARED_FOLDERS))


def user_skill_folders(home: StrPath) -> tuple[str, ...]:
    """Return the skills folders of a user with the home folder *home*, best first."""
    return workspace_skill_folders(home)


_OWN_FOLDER = (".clawft/skills",)
_SHARED_FOLDERS = (".agents/skills", ".claude/skills")

_MISSING = OnDisk(state="missing")


def _confinement(folder: str) -> str:
    """Return the folder that links below *folder* must stay in: the workspace, if *folder* is in a usual place.

    Skills that several programs share are often links from one of their folders to another in the same workspace.
    """
    absolute = os.path.abspath(folder)
    for usual in (*_OWN_FOLDER, *_SHARED_FOLDERS):
        if absolute.endswith(f"/{usual}"):
            return absolute.removesuffix(f"/{usual}") or "/"
    return absolute


def _paths(given: StrPath | Sequence[StrPath] | None) -> tuple[str, ...]:
    if given is None:
        return ()
    if isinstance(given, str | os.PathLike):
        return (os.fspath(given),)
    return tuple(dict.fromkeys(os.fspath(path) for path in given))


def _folder_names(found: OnDisk) -> list[str]:
    return [name for name in found.names if name not in _IGNORED]


def _candidate(
    place: _Place, markdown: OnDisk, settings: OnDisk | None = None, prompt: OnDisk | None = None
) -> _Candidate:
    return _Candidate(
        level=place.level.name,
        root=place.level.folder,
        folder=place.folder,
        path=place.path,
        markdown=markdown,
        settings=settings,
        prompt=prompt,
    )


# The functions below run in a worker thread.


def _no_operation() -> None:
    pass


def _report_on(candidates: Sequence[_Candidate], skipped: Sequence[Skipped], memo: _Memo) -> tuple[SkillReport, _Memo]:
    """Make the report on *candidates*, best first; parse only those that differ from *memo*."""
    kept: _Memo = {}
    chosen: dict[str, Skill] = {}
    shadowed: list[Shadowed] = []
    unusable = list(skipped)
    for number, candidate in enumerate(candidates):
        if number % _BATCH == 0:
            # Lets the event loop run. Releasing the interpreter is not enough, because this thread would get it back
            # first, and a waiting thread then counts `sys.getswitchinterval` from the beginning.
            trio.from_thread.run_sync(_no_operation)
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
    """Parse a candidate: return the skill, or the reason why it cannot be used; None when the folder holds none."""
    markdown, settings, prompt = candidate.markdown, candidate.settings, candidate.prompt
    source = candidate.path
    try:
        if markdown.state != "missing":
            return parse_skill_md(_text(markdown), source=source, level=candidate.level)
        if settings is None or prompt is None:
            return None
        source = _join(candidate.folder, "skill.json")
        text = _text(settings)
        instructions = _text(prompt, what="prompt.md: ")
        return parse_legacy(text, instructions, source=source, level=candidate.level)
    except InvalidData as exc:
        return Skipped(source=source, level=candidate.level, reason=" ".join(str(exc).split()))


def _text(found: OnDisk, *, what: str = "") -> str:
    if found.state != "file":
        raise InvalidData([Problem("$", what + (found.detail or "a folder"))])
    if found.size > MAX_BYTES:
        raise InvalidData([Problem("$", f"{what}{found.size} bytes are more than {MAX_BYTES}")])
    return found.text


def _join(folder: str, name: str) -> str:
    # Paths are strings here, because making 3 000 Path objects costs more than the calls to the kernel.
    return os.path.join(folder, name)
