"""Typed answers: the form that an answer is asked for in, and how its text becomes a value of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, TypeVar

import attrs
import msgspec

from clawft_trio.chat import ChatResponse, JsonObject
from clawft_trio.codec import decode_json, encode_json
from clawft_trio.errors import InvalidAnswer, InvalidData, Problem
from clawft_trio.tools.json_schema import SchemaCheck, path_schema, problem_of, to_path

T = TypeVar("T")

# Many models put it around every JSON, whatever they were told.
_FENCED = re.compile(r"\s*```(?:json)?[ \t]*\n(?P<inside>.*)\n[ \t]*```\s*", re.DOTALL | re.IGNORECASE)

_WRAPPED = "answer"
"""The one key of the object around an answer that is no object: providers promise a shape for objects only."""


@attrs.frozen(eq=False)
class AnswerForm(Generic[T]):
    """The form of a typed answer: what the model is told, and what its text is made into.

    `AnswerForm.of(Forecast)` makes one of a type, `AnswerForm.of_schema({...})` of a JSON Schema; by hand, *read* takes
    decoded JSON that fits *schema* and raises `InvalidData` or ValueError for what it will not have.
    """

    #: JSON Schema of an object
    schema: JsonObject
    read: Callable[[Any], T] = attrs.field(kw_only=True, repr=False)
    _check: SchemaCheck = attrs.field(init=False, repr=False)

    @_check.default
    def _by_schema(self) -> SchemaCheck:
        check = SchemaCheck(self.schema)
        check.check_schema("answer")
        return check

    @classmethod
    def of(cls, kind: Any) -> AnswerForm[Any]:
        """The form of a type: a dataclass, an attrs, msgspec or pydantic class, a TypedDict, `list[str]`, an enum, ….

        Unknown keys are refused. Validators of the class are run, and what they raise goes back to the model.

        Raises:
          TypeError: *kind* has no JSON Schema.
        """
        if callable(getattr(kind, "model_json_schema", None)):
            return cls(_closed(kind.model_json_schema()), read=_pydantic_reader(kind))
        (root,), shared = msgspec.json.schema_components([kind], schema_hook=path_schema, ref_template="#/$defs/{name}")
        schema = _closed(_with_object_at_root(root, shared))
        wrapped = _is_wrapped(root, shared)
        return cls(schema, read=lambda raw: _convert(raw[_WRAPPED] if wrapped else raw, kind))

    @classmethod
    def of_schema(cls, schema: JsonObject) -> AnswerForm[Any]:
        """The form that a JSON Schema describes. The value is decoded JSON.

        Raises:
          InvalidData: it is no JSON Schema.
        """
        return AnswerForm(schema, read=lambda raw: raw)

    def value_of(self, response: ChatResponse) -> T:
        """What *response* says, as a value of this form.

        Raises:
          InvalidAnswer: it does not fit; with every problem, each with its place.
        """
        text = response.text
        if response.finish_reason == "length":
            # What was cut off can look whole: 12 is a number, and so is 1234.
            raise InvalidAnswer([Problem("$", "cut off by the limit of tokens: answer more briefly")], partial=text)
        if response.tool_calls:
            raise InvalidAnswer([Problem("$", "a call of a tool instead of an answer")], partial=text)
        try:
            return self._value(decode_json(_unfenced(text)))
        except InvalidData as exc:
            raise InvalidAnswer(exc.problems, partial=text) from exc

    def _value(self, raw: object) -> T:
        problems = self._check.problems(raw)
        if problems:
            raise InvalidData(problems)
        try:
            return self.read(raw)
        except (ValueError, RecursionError) as exc:
            raise InvalidData([Problem("$", str(exc))]) from exc


def correction(error: InvalidAnswer) -> str:
    """What a model is told whose answer did not fit."""
    places = "\n".join(f"- {problem}" for problem in error.problems)
    return f"That answer does not have the form that was asked for:\n{places}\nAnswer again, with nothing but JSON."


def _unfenced(text: str) -> str:
    fenced = _FENCED.fullmatch(text)
    return text if fenced is None else fenced["inside"]


# --- types ----------------------------------------------------------------------------------------------


def _convert(raw: object, kind: Any) -> Any:
    try:
        return msgspec.convert(raw, kind, dec_hook=to_path)
    except msgspec.ValidationError as exc:
        raise InvalidData([problem_of(exc)]) from exc


def _pydantic_reader(model: Any) -> Callable[[Any], Any]:
    def read(raw: Any) -> Any:
        try:
            return model.model_validate(raw)
        except ValueError as exc:
            # Known by its shape, so that whoever does not use pydantic need not have it.
            errors = getattr(exc, "errors", None)
            if errors is None:
                raise
            raise InvalidData([Problem(_path(error["loc"]), error["msg"]) for error in errors()]) from exc

    return read


def _path(steps: Iterable[str | int]) -> str:
    return "$" + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)


# --- schemas --------------------------------------------------------------------------------------------


def _with_object_at_root(root: JsonObject, shared: Mapping[str, JsonObject]) -> JsonObject:
    """The schema of *root*, as an object that stands there itself."""
    if _is_wrapped(root, shared):
        whole: dict[str, Any] = {"type": "object", "properties": {_WRAPPED: root}, "required": [_WRAPPED]}
        return {**whole, "$defs": shared} if shared else whole
    name = _named(root)
    body = dict(shared[name])
    # A tree of itself needs its own definition, too.
    others = {key: value for key, value in shared.items() if key != name or _refers_to(name, shared)}
    return {**body, "$defs": others} if others else body


def _is_wrapped(root: JsonObject, shared: Mapping[str, JsonObject]) -> bool:
    name = _named(root)
    return not name or shared[name].get("type") != "object"


def _named(root: JsonObject) -> str:
    return str(root.get("$ref", "")).removeprefix("#/$defs/")


def _refers_to(name: str, shared: Mapping[str, JsonObject]) -> bool:
    return f'"#/$defs/{name}"'.encode() in encode_json(shared)


_BY_NAME = ("properties", "patternProperties", "$defs")
_NESTED = ("items", "prefixItems", "additionalProperties", "anyOf", "oneOf", "allOf")


def _closed(schema: Any) -> Any:
    """*schema* with every object in it refusing what it does not know."""
    if isinstance(schema, list | tuple):
        return [_closed(item) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    closed = dict(schema)
    for key in _BY_NAME:
        if key in closed:
            closed[key] = {name: _closed(inner) for name, inner in closed[key].items()}
    for key in _NESTED:
        if key in closed:
            closed[key] = _closed(closed[key])
    if closed.get("type") == "object" and "properties" in closed:
        closed.setdefault("additionalProperties", False)
    return closed
