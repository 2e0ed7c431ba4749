"""A provider that plays a script in memory."""

from __future__ import annotations

import copy
from collections.abc import Callable

import attrs
import trio

from clawft_trio.attempts import AttemptInProgress, Usage, record_attempt
from clawft_trio.chat import (
    CALLS_MAY_RUN,
    CONTENT,
    Call,
    ChatRequest,
    ChatResponse,
    ReasoningDelta,
    StreamEvent,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    ToolCallReady,
    ToolCallSealed,
    UsageReport,
)
from clawft_trio.codec import decode_json
from clawft_trio.errors import InvalidData, ProviderError, StreamTruncated
from clawft_trio.testing.script import (
    CallTool,
    Fail,
    Finish,
    Hang,
    Report,
    Say,
    Script,
    Step,
    Think,
    Wait,
    check_scripts,
)


class ScriptedProvider:
    """A `Provider` that plays one script per call; the last one repeats.

        provider = ScriptedProvider(
            [Say("Hel"), Fail(ServerError("down"))],
            [Say("Hello."), Finish(usage=Usage(input_tokens=3, output_tokens=2))],
        )

    Nothing is sent and nothing is random, so under a `MockClock` every time is exact. Before each step it checkpoints,
    like a provider that reads from a network.

    Args:
      scripts: scripts for the first call, the second, …; the last one repeats.
      name: the provider's name in records, errors and responses.
      model: the model that answers when the request names none.
      choose: chooses the script for a request; *scripts* are not used then.
    """

    def __init__(
        self,
        *scripts: Script,
        name: str = "scripted",
        model: str = "",
        choose: Callable[[ChatRequest], Script] | None = None,
    ) -> None:
        if not scripts and choose is None:
            raise ValueError("a script is needed: ScriptedProvider([Say('Hello.'), Finish()])")
        check_scripts(scripts)
        self._scripts = tuple(map(tuple, scripts))
        self._choose = choose
        self._name = name
        self._model = model
        #: every request, in order of arrival
        self.requests: list[ChatRequest] = []
        #: number of running calls
        self.running: int = 0
        #: largest number of calls that ran at once
        self.peak: int = 0

    @classmethod
    def saying(cls, text: str, *, name: str = "scripted", usage: Usage | None = None) -> ScriptedProvider:
        """Return a healthy model that always answers *text*: `ScriptedProvider.saying("Hello.")`."""
        return cls([Say(text), Finish(usage=usage)], name=name)

    @classmethod
    def using_tools(cls, *tools: CallTool, then: str, name: str = "scripted") -> ScriptedProvider:
        """Return a model that calls *tools* at once and, when it gets their results, answers *then*.

            ScriptedProvider.using_tools(CallTool("weather", {"city": "Oslo"}), then="Wear a coat.")

        It decides by the last message of each request, so that any number of conversations may share it.
        """

        def choose(request: ChatRequest) -> Script:
            answered = bool(request.messages) and request.messages[-1].role == "tool"
            return [Say(then), Finish()] if answered else [*tools, Finish()]

        return cls(name=name, choose=choose)

    def __repr__(self) -> str:
        return f"<ScriptedProvider {self._name}: {self.calls} calls, {self.running} running>"

    @property
    def name(self) -> str:
        """Name in logs and errors."""
        return self._name

    @property
    def calls(self) -> int:
        """Number of calls so far."""
        return len(self.requests)

    async def complete(self, request: ChatRequest, call: Call) -> ChatResponse:
        """Play the next script to `call.emit` and return the resulting response.

        Raises:
          StreamTruncated: the script ended without `Finish`; `partial` has what was sent.
          Exception: the error of `Fail`.

        Cancellation: the attempt is recorded as cancelled; the next call plays the next script.
        """
        script = self._next_script(request)
        self.running += 1
        self.peak = max(self.peak, self.running)
        try:
            model = request.model or self._model
            with record_attempt(call.log, "/".join(filter(None, (self._name, model)))) as attempt:
                attempt.sent = True
                played = _ScriptPlayer(self._name, model, f"{self._name}-{self.calls}", call, attempt)
                response = await played.play(script)
        finally:
            self.running -= 1
        return attrs.evolve(response, attempts=call.log.records)

    def _next_script(self, request: ChatRequest) -> Script:
        self.requests.append(request)
        if self._choose is not None:
            return self._choose(request)
        return self._scripts[min(self.calls, len(self._scripts)) - 1]


class _ScriptPlayer:
    """Plays one script."""

    def __init__(self, provider: str, model: str, id: str, call: Call, attempt: AttemptInProgress) -> None:
        self._provider = provider
        self._model = model
        self._id = id
        self._call = call
        self._attempt = attempt
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._tool_calls: list[ToolCall] = []

    async def play(self, script: Script) -> ChatResponse:
        for step in script:
            await trio.lowlevel.checkpoint()
            if isinstance(step, Finish):
                return await self._finish(step)
            if isinstance(step, Fail):
                raise self._failure(step)
            await self._take(step)
        await trio.lowlevel.checkpoint()
        raise StreamTruncated(
            "the script ended without Finish",
            provider=self._provider,
            model=self._model,
            partial=self._response(""),
        )

    async def _take(self, step: Step) -> None:
        match step:
            case Say(text):
                self._text.append(text)
                await self._emit(TextDelta(text))
            case Think(text):
                self._reasoning.append(text)
                await self._emit(ReasoningDelta(text))
            case CallTool():
                await self._call_tool(step)
            case Report(usage):
                await self._report(usage)
            case Wait(seconds):
                await trio.sleep(seconds)
            case Hang():
                await trio.sleep_forever()

    async def _emit(self, event: StreamEvent) -> None:
        now = trio.current_time()
        if self._attempt.first_byte is None:
            self._attempt.first_byte = now
        if self._attempt.first_content is None and isinstance(event, CONTENT):
            self._attempt.first_content = now
        await self._call.emit(event)

    async def _call_tool(self, step: CallTool) -> None:
        index = len(self._tool_calls)
        made = ToolCall(id=step.id or f"call_{index}", name=step.name, arguments=step.arguments)
        self._tool_calls.append(made)
        first, *more = pieces(step.arguments, step.fragments)
        await self._emit(ToolCallDelta(index, made.id, made.name, first))
        for piece in more:
            await self._emit(ToolCallDelta(index, arguments=piece))
        if is_json_object(made.arguments):
            await self._emit(ToolCallSealed(made))

    async def _report(self, usage: Usage) -> None:
        self._attempt.usage = usage
        self._attempt.certainty = "exact"
        await self._emit(UsageReport(usage))

    async def _finish(self, step: Finish) -> ChatResponse:
        if step.usage is not None:
            await self._report(step.usage)
        reason = step.reason or ("tool_calls" if self._tool_calls else "stop")
        # Emitted at the terminal mark, as on the wire: before it a consumer cannot know that a call is complete.
        for made in self._tool_calls:
            if reason in CALLS_MAY_RUN and is_json_object(made.arguments):
                await self._emit(ToolCallReady(made))
        return self._response(reason)

    def _failure(self, step: Fail) -> Exception:
        # A copy, because an instance that is raised twice carries the traceback of the first call into the second.
        error = copy.copy(step.error) if isinstance(step.error, Exception) else step.error()
        if isinstance(error, ProviderError):
            error.provider = error.provider or self._provider
            error.model = error.model or self._model
            error.partial = error.partial or self._response("")
        return error

    def _response(self, finish_reason: str) -> ChatResponse:
        """Return the answer so far; an empty *finish_reason* marks it as incomplete."""
        return ChatResponse(
            content="".join(self._text),
            # A finished answer keeps invalid arguments: the executor of calls reports them to the model. A call that
            # was cut off must not be executed.
            tool_calls=tuple(self._tool_calls) if finish_reason else (),
            finish_reason=finish_reason,
            provider=self._provider,
            model=self._model,
            id=self._id,
            usage=self._attempt.usage,
            reasoning="".join(self._reasoning),
            latency=self._attempt.latency(trio.current_time()),
        )


def pieces(text: str, count: int) -> list[str]:
    """Split *text* into *count* pieces of about the same length; fewer when it is shorter, and at least one."""
    size = max(1, -(-len(text) // count))
    return [text[start : start + size] for start in range(0, len(text), size)] or [""]


def is_json_object(text: str) -> bool:
    """Return whether *text* is a JSON object, strictly."""
    try:
        return isinstance(decode_json(text), dict)
    except InvalidData:
        return False
