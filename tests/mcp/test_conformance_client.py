"""The public conformance suite against our client: every scored scenario of both revisions, ten times each (opt-in).

    pytest -m installs tests/mcp/test_conformance_client.py

Scored is what the suite's own frozen requirement lists name. `CONFORMANCE_TIMES` repeats each less or more often.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.installs, pytest.mark.timeout(900)]

SUITE = "@modelcontextprotocol/conformance"
PACKAGES = ["node@22", f"{SUITE}@0.2.0-alpha.12"]
TIMES = int(os.environ.get("CONFORMANCE_TIMES", "10"))

CORE = ["initialize", "tools_call", "elicitation-sep1034-client-defaults", "sse-retry"]
STATELESS = [
    "tools_call",
    "request-metadata",
    "sep-2322-client-request-state",
    "http-standard-headers",
    "http-custom-headers",
    "http-invalid-tool-headers",
    "json-schema-ref-no-deref",
]
AUTH = [
    "auth/metadata-default",
    "auth/metadata-var1",
    "auth/metadata-var2",
    "auth/metadata-var3",
    "auth/basic-cimd",
    "auth/scope-from-www-authenticate",
    "auth/scope-from-scopes-supported",
    "auth/scope-omitted-when-undefined",
    "auth/scope-step-up",
    "auth/scope-retry-limit",
    "auth/token-endpoint-auth-basic",
    "auth/token-endpoint-auth-post",
    "auth/token-endpoint-auth-none",
    "auth/pre-registration",
]
STATELESS_AUTH = [
    "auth/resource-mismatch",
    "auth/offline-access-scope",
    "auth/offline-access-not-supported",
    "auth/authorization-server-migration",
    "auth/iss-supported",
    "auth/iss-not-advertised",
    "auth/iss-supported-missing",
    "auth/iss-wrong-issuer",
    "auth/iss-unexpected",
    "auth/iss-normalized",
    "auth/metadata-issuer-mismatch",
]
SCORED = {"2025-11-25": {*CORE, *AUTH}, "2026-07-28": {*STATELESS, *AUTH, *STATELESS_AUTH}}
# Not scored, and passed all the same.
MORE = [
    ("2025-11-25", "json-schema-2020-12-preservation"),
    ("2026-07-28", "json-schema-2020-12-preservation"),
    ("2025-11-25", "auth/client-credentials-jwt"),
    ("2025-11-25", "auth/client-credentials-basic"),
    ("2025-03-26", "auth/2025-03-26-oauth-metadata-backcompat"),
    ("2025-03-26", "auth/2025-03-26-oauth-endpoint-fallback"),
]


@pytest.fixture(scope="session")
def npm(tmp_path_factory):
    folder = Path(os.environ.get("MCP_INTEROP_NPM", "") or tmp_path_factory.mktemp("npm"))
    if not (folder / "node_modules" / SUITE).exists():
        for command in (["npm", "init", "-y"], ["npm", "install", "--no-audit", "--no-fund", *PACKAGES]):
            subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder / "node_modules"


@pytest.mark.parametrize("version", SCORED)
def test_the_scenarios_are_those_that_the_suite_scores(npm, version):
    text = (npm / SUITE / "requirements" / f"{version}.yaml").read_text()
    client = text.partition("\nclient:\n")[2].partition("\nnot_scored:")[0]
    listed = {line.removeprefix("  - ") for line in client.splitlines() if line.startswith("  - ")}
    assert listed == SCORED[version]


# One test for each run: ten in one test would take longer than a test may.
@pytest.mark.parametrize(("version", "scenario"), [*((v, s) for v in SCORED for s in sorted(SCORED[v])), *MORE])
@pytest.mark.parametrize("round_", range(TIMES))
def test_a_scenario_passes_in_every_round(npm, version, scenario, round_):
    # Alone: with --suite the harness ignores the client's exit code and its own timeouts.
    command = f"{sys.executable} {Path(__file__).with_name('conformance_client.py')}"
    arguments = ["client", "--command", command, "--scenario", scenario, "--spec-version", version, "--force"]
    # The harness's own 30 s are short for a Python that starts on a loaded machine.
    arguments += ["--timeout", "80000"]
    done = subprocess.run(
        [npm / ".bin" / "node", npm / SUITE / "dist" / "index.js", *arguments],
        capture_output=True,
        text=True,
        timeout=95,
        check=False,
    )
    assert done.returncode == 0, (done.stderr + done.stdout)[-6000:]
    assert "0 failed" in done.stderr + done.stdout
