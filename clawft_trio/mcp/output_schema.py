"""Checks a tool's structured result against the output schema that the tool announced."""

from __future__ import annotations

from typing import Any

import trio
from msgspec import UNSET

from clawft_trio.errors import InvalidData
from clawft_trio.mcp.types import JsonObject
from clawft_trio.observe.redaction import cut_redacted
from clawft_trio.tools.json_schema import SchemaCheck
from clawft_trio.tools.schema_budget import TooComplex


class OutputCheck:
    """One tool's output schema, compiled at its first use.

    The schema is untrusted: a value that cannot be checked within the limits of `SchemaCheck` counts as valid, and so
    does every value when the schema itself is too large.
    """

    def __init__(self, schema: JsonObject) -> None:
        self._schema = dict(schema)
        self._check: SchemaCheck | None = None
        self._unusable = ""

    def problem_with(self, value: Any) -> str | None:
        """Return what is wrong with *value*, with its place; None when it is valid or cannot be checked in a few steps.

        `UNSET` is a missing result.
        """
        if value is UNSET:
            return "missing, although the tool has an output schema"
        check = self._ready()
        if check is None:
            return self._unusable or None
        try:
            return next(map(str, check.problems(value)), None)
        except TooComplex:
            return None

    async def find_problem(self, value: Any) -> str | None:
        """Check as `problem_with`, in a thread and within a deadline if it takes more steps.

        Cancellation: the thread ends soon.
        """
        await trio.lowlevel.checkpoint()
        check = None if value is UNSET else self._ready()
        if check is None:
            return self.problem_with(value)
        return next(map(str, await check.find_problems(value)), None)

    def _ready(self) -> SchemaCheck | None:
        if self._check is None and not self._unusable:
            try:
                self._check = SchemaCheck(self._schema, trusted=False)
                self._check.check_schema("output schema")
            except InvalidData as exc:
                self._check = None
                self._unusable = f"the output schema cannot be used: {cut_redacted(str(exc), 200)}"
        return self._check
