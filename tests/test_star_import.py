"""`from clawft_trio import *`."""

from __future__ import annotations

import clawft_trio


def test_a_star_import_gives_every_public_name_and_no_module() -> None:
    names: dict[str, object] = {}
    exec("from clawft_trio import *", names)  # noqa: S102  # the statement under test
    names.pop("__builtins__")
    assert set(names) == set(clawft_trio.__all__)
    assert {"open_agent", "tool", "Reply", "Message", "ClawftError"} <= set(names)


def test_a_star_import_warns_of_no_old_name() -> None:
    assert not {"Answer", "ToolAnswer"} & set(clawft_trio.__all__)
