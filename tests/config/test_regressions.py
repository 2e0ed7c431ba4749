"""What users ran into, and what must not come back."""

from __future__ import annotations

from typing import Any

import pytest

from clawft_trio.codec import encode_json
from clawft_trio.config import parse_config
from clawft_trio.errors import ConfigError


@pytest.mark.parametrize(
    "providers",
    [
        {"openai": "sk-secret"},
        {"openai": ["sk-secret"]},
        {"openai": {"api_key": ["sk-secret"]}},
        {"openai": {"api_key": {"value": "sk-secret"}}},
        {"openai": {"extra_headers": "Bearer sk-secret"}},
        {"openai": {"extra_headers": {"Authorization": ["Bearer sk-secret"]}}},
    ],
)
def test_a_key_in_the_wrong_place_is_not_quoted(providers: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(encode_json({"providers": providers}))
    assert "secret" not in f"{caught.value} {caught.value!r} {caught.value.problems}"


@pytest.mark.parametrize("path", ["", "${UNSET}", "${UNSET}/agent"])
def test_a_workspace_that_is_not_set_is_not_the_current_folder(path: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(encode_json({"agents": {"defaults": {"workspace": path}}}), environ={})
    assert [problem.path for problem in caught.value.problems] == ["$.agents.defaults.workspace"]


def test_invalid_json_is_reported_with_line_and_column() -> None:
    with pytest.raises(ConfigError, match=r"\(line 3, column 15\)"):
        parse_config('{\n  "retry": {},\n  "füße": "ü" 7\n}')
    with pytest.raises(ConfigError, match=r"\(line 1, column 2\)"):
        parse_config(b"\xef\xbb\xbf{7}")
