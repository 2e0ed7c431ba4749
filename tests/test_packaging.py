"""Wheel and sdist build, hold what they should, and the installed wheel runs outside of the checkout."""

from __future__ import annotations

import email
import os
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
GUIDES = sorted(str(guide.relative_to(ROOT)) for guide in ROOT.glob("clawft_trio/*/README.md"))


def run(*command: str | Path, cwd: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=environment, capture_output=True, text=True, timeout=400
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def environment(folder: Path) -> Path:
    """Make a virtual environment with pip alone; return its python."""
    venv.create(folder, with_pip=True)
    return folder / "bin" / "python"


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the sdist, and from it the wheel: what is missing in the sdist is missing in the wheel."""
    folder = tmp_path_factory.mktemp("dist")
    python = environment(folder / "env")
    run(python, "-m", "pip", "install", "-q", "build", cwd=folder)
    run(python, "-m", "build", "--outdir", folder, ROOT, cwd=folder)
    return folder


@pytest.mark.long
@pytest.mark.timeout(900)
def test_the_sdist_has_the_tests_and_the_guides(distributions: Path) -> None:
    [sdist] = distributions.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    tracked = run("git", "ls-files", "clawft_trio", "tests", "benchmarks", ".ci", ".github", cwd=ROOT).split()
    assert set(tracked) - names == set()
    assert {*GUIDES, "README.md", "CHANGELOG.md", "LICENSE", "pyproject.toml"} <= names


@pytest.mark.long
@pytest.mark.timeout(900)
def test_the_wheel_has_the_package_and_its_guides_and_nothing_else(distributions: Path) -> None:
    [wheel] = distributions.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {*GUIDES, "clawft_trio/py.typed"} <= names
    assert {name.partition("/")[0] for name in names} == {"clawft_trio", f"clawft_trio-{PROJECT['version']}.dist-info"}


@pytest.mark.long
@pytest.mark.timeout(900)
def test_the_metadata_is_complete(distributions: Path) -> None:
    [wheel] = distributions.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        [name] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        metadata = email.message_from_bytes(archive.read(name))
    assert metadata["Version"] == PROJECT["version"]
    assert metadata["Author"] and metadata["Summary"] and metadata["Keywords"]
    urls = {entry.split(",")[0] for entry in metadata.get_all("Project-URL", [])}
    assert {"Repository", "Documentation", "Changelog", "Issues"} <= urls
    assert metadata["Description-Content-Type"] == "text/markdown"


@pytest.mark.long
@pytest.mark.timeout(900)
def test_the_installed_wheel_runs_the_demo_outside_of_the_checkout(distributions: Path, tmp_path: Path) -> None:
    [wheel] = distributions.glob("*.whl")
    python = environment(tmp_path / "env")
    run(python, "-m", "pip", "install", "-q", f"{wheel}[cli]", cwd=tmp_path)
    place = run(python, "-c", "import clawft_trio; print(clawft_trio.__file__, clawft_trio.__version__)", cwd=tmp_path)
    assert place.split() == [
        str(next(tmp_path.glob("env/lib/*/site-packages/clawft_trio/__init__.py"))),
        PROJECT["version"],
    ]
    shown = run(python.with_name("clawft-trio"), "demo", cwd=tmp_path)
    assert "failed" in shown


def test_every_supported_python_has_a_classifier_and_a_job() -> None:
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text("utf-8")
    for minor in range(11, 15):
        assert f"Programming Language :: Python :: 3.{minor}" in PROJECT["classifiers"]
        assert f'"3.{minor}"' in workflow
    assert sys.version_info >= (3, 11)


def test_the_changelog_has_the_version() -> None:
    assert f"\n## {PROJECT['version']} " in (ROOT / "CHANGELOG.md").read_text("utf-8")
