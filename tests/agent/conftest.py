"""The models of these tests refuse what vendors refuse, also where a test imports the bare ones."""

from __future__ import annotations

import judged
import pytest

from clawft_trio import testing


@pytest.fixture(autouse=True)
def judged_models(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace scripted models and fault servers that a test module has imported from `clawft_trio.testing`."""
    for name in ("ScriptedProvider", "open_fault_server"):
        if getattr(request.module, name, None) is getattr(testing, name):
            monkeypatch.setattr(request.module, name, getattr(judged, name))
