"""Typed answers: the requested form of an answer, and the conversion of its text to a value."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import attrs
import trio

from clawft_trio.agent.answer_type import refuse_what_json_cannot_fill, type_schema, without_slow_rules
from clawft_trio.chat import ChatResponse, JsonObject
from clawft_trio.codec import decode_json
from clawft_trio.errors import ContentFiltered, InvalidAnswer, InvalidData, Problem
from clawft_trio.llm.response_builder import CUT_SHORT
from clawft_trio.tools.json_schema import SchemaCheck, bounded

T = TypeVar("T")

# Many models put a code fence around JSON, whatever the instructions are.
_FENCED = re.compile(r"\s*```(?:json)?[ \t]*\n(?P<inside>.*)\n[ \t]*```\s*", re.DOTALL | re.IGNORECASE)


_LONGEST = 1 << 20
"""Largest number of characters of an answer that is parsed."""

_AT_ONCE = 4096
"""Characters that are checked on the event loop: about 10 ms at most. Longer answers are checked in a thread."""


@attrs.frozen(eq=False)
class AnswerForm(Generic[T]):
    """The form of a typed answer: a JSON Schema for the model, and a function that reads the value.

    `AnswerForm.of(Forecast)` makes one of a type, `AnswerForm.of_schema({...})` of a JSON Schema; made directly, *read*
    takes decoded JSON that fits *schema* and raises `InvalidData` or ValueError for a value that it refuses.
    """

    #: JSON Schema of an object
    schema: JsonObject
    read: Callable[[Any], T] = attrs.field(kw_only=True, repr=False)
    _check: SchemaCheck = attrs.field(kw_only=True, repr=False, alias="check")

    @_check.default
    def _by_schema(self) -> SchemaCheck:
        check = SchemaCheck(self.schema)
        check.check_schema("answer")
        return check

    @classmethod
    def of(cls, kind: Any) -> AnswerForm[Any]:
        """Make the form of a type: a dataclass, an attrs, msgspec or pydantic class, a TypedDict, `list[str]`, an enum.

        Unknown keys are refused. Validators of the class are run, and their errors are sent to the model.

        Raises:
          TypeError: *kind* has no JSON Schema, or a class with fields that JSON cannot set (a converter, `init=False`).
        """
        refuse_what_json_cannot_fill(kind)
        wanted = type_schema(kind)
        # *read* itself checks the rest, and faster; a regular expression that backtracks would run twice.
        check = SchemaCheck(without_slow_rules(wanted.schema))
        return cls(wanted.schema, read=wanted.read, check=check)

    @classmethod
    def of_schema(cls, schema: JsonObject) -> AnswerForm[Any]:
        """Make the form of a JSON Schema. The value is decoded JSON.

        Raises:
          InvalidData: *schema* is not a JSON Schema.
        """
        return AnswerForm(schema, read=lambda raw: raw)

    async def read_answer(self, response: ChatResponse) -> T:
        """Convert the text of *response* to a value of this form. Long texts are checked in a thread.

        Raises:
          InvalidAnswer: the text does not fit; with the first few problems, each with its place.
          ContentFiltered: the provider's filter cut off the answer.

        Cancellation: safe; a thread may continue without effect.
        """
        if len(response.text) <= _AT_ONCE:
            await trio.lowlevel.checkpoint()
            return self.value_of(response)
        return await trio.to_thread.run_sync(self.value_of, response, abandon_on_cancel=True)

    def value_of(self, response: ChatResponse) -> T:
        """Convert like `read_answer`, but synchronously.

        Raises:
          InvalidAnswer, ContentFiltered: as for `read_answer`.
        """
        text = response.text
        self._refuse_what_is_not_whole(response)
        try:
            return self._value(decode_json(_unfenced(text)))
        except InvalidData as exc:
            raise InvalidAnswer(bounded(exc.problems), partial=text) from exc

    def _refuse_what_is_not_whole(self, response: ChatResponse) -> None:
        # A text that was cut off can be valid: 12 is a number, and so is 1234.
        text, ended = response.text, response.finish_reason
        if ended == "content_filter":
            raise ContentFiltered("the answer was cut off", provider=response.provider, model=response.model)
        why = ""
        if ended in CUT_SHORT:
            why = "cut off before its end: answer more briefly"
        elif response.tool_calls:
            why = "a call of a tool instead of an answer"
        elif len(text) > _LONGEST:
            why = f"{len(text)} characters are more than the {_LONGEST} that are read"
        if why:
            raise InvalidAnswer([Problem("$", why)], partial=text)

    def _value(self, raw: object) -> T:
        problems = self._check.problems(raw)
        if problems:
            raise InvalidData(problems)
        try:
            return self.read(raw)
        except (ValueError, RecursionError) as exc:
            raise InvalidData([Problem("$", str(exc))]) from exc


def correction(error: InvalidAnswer) -> str:
    """Return the message to a model after an answer that did not fit."""
    places = "\n".join(f"- {problem}" for problem in error.problems)
    return f"That answer does not have the form that was asked for:\n{places}\nAnswer again, with nothing but JSON."


def _unfenced(text: str) -> str:
    fenced = _FENCED.fullmatch(text)
    return text if fenced is None else fenced["inside"]
