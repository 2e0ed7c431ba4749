"""Writing skills for the tests."""

from __future__ import annotations

import json
from pathlib import Path


def write(path: Path, text: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def skill_md(name: str, body: str = "Do it.", **front: object) -> str:
    fields = {"name": name, "description": f"Does {name}.", **front}
    lines = [f"{key.replace('_', '-')}: {json.dumps(value)}" for key, value in fields.items()]
    return "\n".join(["---", *lines, "---", "", body, ""])


def write_skill(folder: Path, name: str, body: str = "Do it.", *, into: str | None = None, **front: object) -> Path:
    return write(folder / (into or name) / "SKILL.md", skill_md(name, body, **front))


def write_legacy(folder: Path, name: str, body: str | None = "Do it.", **settings: object) -> Path:
    path = write(folder / name / "skill.json", json.dumps({"name": name, "description": f"Does {name}.", **settings}))
    if body is not None:
        write(folder / name / "prompt.md", body)
    return path
