"""Folders as a user would have them."""

from __future__ import annotations

import time
from pathlib import Path

from clawft_trio.context import BOOTSTRAP_FILES

BOOTSTRAP_BYTES = 3000
SKILL_BYTES = 2500

FRONT_MATTER = """\
---
name: skill-{number:04}
description: What skill number {number} is for, and when it should be used instead of another one.
version: 1.0
allowed-tools: [read_file, web_fetch]
variables: [city, day]
user-invocable: true
---
"""

# Seconds after which the cache trusts the times of a file that has just been written.
_SETTLED = 0.1


def write_bootstrap(folder: Path) -> None:
    """SOUL.md and its like, 3 kB each."""
    for name in BOOTSTRAP_FILES:
        (folder / name).write_text("word " * (BOOTSTRAP_BYTES // 5))
    time.sleep(_SETTLED)


def write_skills(folder: Path, count: int) -> None:
    """`skills/skill-0000/SKILL.md` and so on."""
    for number in range(count):
        path = folder / "skills" / f"skill-{number:04}" / "SKILL.md"
        path.parent.mkdir(parents=True)
        path.write_text(FRONT_MATTER.format(number=number) + "text " * (SKILL_BYTES // 5))
    time.sleep(_SETTLED)
