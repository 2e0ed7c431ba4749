"""Whether a tool's structured result fits the schema that the tool itself announced."""

from __future__ import annotations

from typing import Any

import trio
from msgspec import UNSET

from clawft_trio.errors import InvalidData
from clawft_trio.mcp.types import JsonObject
from clawft_trio.tools.json_schema import SchemaCheck
from clawft_trio.tools.schema_budget import TooComplex


class OutputCheck:
    """One tool's output schema, made ready at its first use.

    It is a stranger's: what cannot be decided within the limits of `SchemaCheck` counts as right, and so does
    everything where the schema itself is too large.
    """

    def __init__(self, schema: JsonObject) -> None:
        self._schema = dict(schema)
        self._check: SchemaCheck | None = None
        self._unusable = ""

    def problem_with(self, value: Any) -> str | None:
        """What is wrong with *value*, with its place; None when nothing is, or it is not decided in a few steps.

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
        """As `problem_with`, in a thread and within a deadline where it takes more steps.

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
                self._unusable = f"the output schema cannot be used: {str(exc)[:200]}"
        return self._check
