"""The mission, line by line: what was specified, and the tests that show it.

`shown_by` names tests as `path::function`, relative to tests/. A line without any is owed by its `room`.
"""

from __future__ import annotations

import attrs


@attrs.frozen
class Line:
    """One sentence of the specification."""

    key: str
    text: str
    room: str
    shown_by: tuple[str, ...] = ()


ITEMS = [
    Line("D1", "Parallel tool execution, with per-path advisory locks", "tools"),
    Line("D2", "Streaming failover correctness (reset stream)", "resilience", (
        "resilience/test_failover.py::test_what_the_first_had_shown_is_taken_back",
        "resilience/test_algebra.py::test_what_the_reader_sees_is_what_was_returned",
    )),
    Line("D3", "Structured error variants for retry", "llm"),
    Line("D4", "Configurable retry policy (depends on D3)", "config"),
    Line("D5", "Record actual latency in ResponseOutcome", "pipeline"),
    Line("D6", "Thread sender_id for cost recording", "costs"),
    Line("D7", "StreamCallback to FnMut: stateful callbacks work", "llm", (
        "llm/test_stream.py::test_a_counting_object_is_a_callback",
        "llm/test_stream.py::test_a_closure_with_nonlocal_state_is_a_callback",
    )),
    Line("D8", "Bounded message bus channels: backpressure, no OOM", "bus"),
    Line("D9", "MCP transport concurrency (request-ID multiplexing)", "mcp"),
    Line("D10", "Cache skill/agent bootstrap files (mtime check)", "context"),
    Line("D11", "Async file I/O in skills loader", "context"),
]

EXIT_CRITERIA = [
    Line("exit D1", "Multiple tool calls execute concurrently; 3 tools with 100ms simulated latency complete in <200ms", "tools"),
    Line("exit D10", "Bootstrap files cached with mtime invalidation; second LLM call in same session skips disk", "context"),
    Line("exit D11", "Skills loader is async; no blocking file calls on the async executor path", "context"),
    Line("exit D2", "First provider fails mid-stream, second provider's complete output is delivered cleanly", "resilience", (
        "resilience/test_failover.py::test_after_any_number_of_deltas_exactly_the_seconds_text_remains",
    )),
    Line("exit D3", "Retry logic uses ProviderError variants; no string-prefix matching", "llm"),
    Line("exit D4", "Retry policy configurable via config.json (count, backoff delay, eligible status codes)", "config"),
    Line("exit D7", "A stateful token-counting callback compiles and runs", "llm", (
        "llm/test_stream.py::test_a_counting_object_is_a_callback",
        "llm/test_stream.py::test_a_closure_with_nonlocal_state_is_a_callback",
    )),
    Line("exit D8", "Message bus has configurable buffer size with backpressure", "bus"),
    Line("exit D5", "latency_ms populated in all ResponseOutcome records (no hardcoded zeros)", "pipeline"),
    Line("exit D6", "sender_id from InboundMessage through ChatRequest and RoutingDecision to CostTracker.update(), end to end", "costs"),
    Line("exit D9", "MCP stdio transport supports concurrent requests via request-ID multiplexing (concurrent call test)", "mcp"),
    Line("exit regression", "All existing tests pass", "all", ("mission/test_mission.py::test_every_named_test_exists",)),
]

GATES = [
    Line("gate D-Perf", "D1 race condition tests verified", "tools"),
    Line("gate D-Reliability", "streaming failover test coverage; D3 before D4", "resilience", (
        "resilience/test_algebra.py::test_what_the_reader_sees_is_what_was_returned",
        "resilience/test_retry.py::test_what_the_error_calls_final_is_final",
    )),
    Line("gate D-Observability", "D6 end-to-end integration test required", "costs"),
    Line("gate D-Transport", "concurrent MCP test with 10+ simultaneous requests", "mcp"),
    Line("gate Security", "per-path advisory locks (D1) and backpressure default (D8)", "tools"),
]

RISKS = [
    Line("risk D1", "Race conditions when parallel tools write to the same file", "tools"),
    Line("risk D2", "Partial output already rendered before failover is detected", "resilience", (
        "resilience/test_delivery.py::test_hold_shows_only_what_succeeded",
        "resilience/test_delivery.py::test_live_shows_at_once_and_takes_back",
    )),
    Line("risk D9", "Multiplexer complexity: correlation map, orphan timeout, 10+ concurrent calls", "mcp"),
    Line("risk D8", "Overflow policy misconfiguration causes message loss: default is backpressure", "bus"),
    Line("risk D3->D4", "String-matching regression: a check for it in CI", "llm"),
]

CONTRACTS = [
    Line("09 needs D6", "sender_id for per-agent cost attribution", "costs"),
    Line("09/M1 needs D9", "FlowDelegator: 10 and more calls through one client from several tasks", "mcp"),
    Line("04/C3 overlaps D11", "one asynchronous skill loader", "context"),
    Line("06 needs D6", "channels produce InboundMessage which carries sender_id", "bus"),
    Line("06 needs D8", "new channels use the bounded bus API only", "bus"),
]

NAMED = [
    Line("parallel_tools_faster_than_sequential", "3 x 100 ms in under 200 ms", "tools"),
    Line("parallel_tools_preserve_order", "answers in call order", "tools"),
    Line("parallel_tool_error_does_not_cancel_others", "isolation", "tools"),
    Line("single_tool_unchanged", "one call is like any number", "tools"),
    Line("empty_vec", "no calls, no answers", "tools"),
    Line("permissions_forwarded", "each call is checked", "tools"),
    Line("same-path concurrent writes", "no lost update", "tools"),
    Line("stream_failover_discards_partial_output", "A says 3 chunks and fails, B says 5: exactly B's 5", "resilience", (
        "resilience/test_failover.py::test_after_any_number_of_deltas_exactly_the_seconds_text_remains",
    )),
    Line("stream_failover_success_first_provider", "no second request", "resilience", (
        "resilience/test_failover.py::test_a_quick_one_is_not_hedged",
    )),
    Line("stream_failover_all_fail", "AllProvidersExhausted", "resilience", (
        "resilience/test_failover.py::test_when_nobody_can_every_error_is_in_the_cause",
    )),
    Line("stream_retry_discards_partial_output", "a retry takes back what was shown", "resilience", (
        "resilience/test_retry.py::test_what_was_shown_is_taken_back_before_the_wait",
    )),
    Line("257+ chunks", "no deadlock, however long the stream", "resilience", (
        "resilience/test_failover.py::test_after_any_number_of_deltas_exactly_the_seconds_text_remains",
    )),
    Line("truncated EOF", "a clean early end is a failure", "llm"),
    Line("in-band error", "an error event under HTTP 200 is a failure", "llm"),
    Line("abort", "False closes the upstream connection at once", "llm", (
        "llm/test_stream.py::test_false_ends_the_answer_at_once",
    )),
    Line("reset event ordering", "Reset before anything of the next attempt", "resilience", (
        "resilience/test_algebra.py::test_what_the_reader_sees_is_what_was_returned",
    )),
    Line("retryable statuses", "500, 501, 502, 503, 504, 507, 529, 599 are; 400 is not", "llm"),
    Line("retry defaults", "defaults when the section is absent, missing fields defaulted", "config"),
    Line("retry custom", "custom count, delay and status codes honoured", "config"),
    Line("one retry loop", "nothing below retries by itself", "llm"),
    Line("nonzero latency", "for complete and stream, on success and failure, monotonic", "pipeline"),
    Line("decision has sender_id", "None without auth", "pipeline"),
    Line("update calls record_actual with sender", "settled by actual usage", "costs"),
    Line("refund on failure", "what was not sent costs nothing", "costs"),
    Line("capacity 2, third send waits", "and goes on when one is taken", "bus"),
    Line("default 1024, custom capacity", "from the configuration", "bus"),
    Line("overflow policies", "block, drop_oldest, drop_newest, reject", "bus"),
    Line("10+ concurrent requests", "with out-of-order replies", "mcp"),
    Line("orphan timeout", "a request without an answer ends", "mcp"),
    Line("wake all on stdout close", "every caller gets a typed error", "mcp"),
    Line("stderr captured", "its tail is in the error", "mcp"),
    Line("server request with colliding id", "is not taken for a response", "mcp"),
    Line("notification", "in order, bounded", "mcp"),
    Line("string id", '"7" matches 7', "mcp"),
    Line("cancelled caller leaves no pending entry", "and the server is told", "mcp"),
    Line("child reaped", "no zombie, no grandchild", "mcp"),
    Line("shared HTTP client", "one pooled client for each endpoint", "net"),
    Line("cache hit skips read", "counted outside", "context"),
    Line("cache miss reads", "once, also for concurrent misses", "context"),
    Line("mtime change", "is seen on the next call", "context"),
    Line("deleted file", "is gone on the next call", "context"),
    Line("empty file", "does not win", "context"),
    Line("concurrent access", "single flight", "context"),
    Line("loads SKILL.md and legacy", "both formats", "context"),
    Line("missing dir", "is no error", "context"),
    Line("SEC-SKILL-02/07", "names with .. and oversized files are refused", "context"),
    Line("discover_with_trust", "workspace skills need trust", "context"),
    Line("no blocking calls", "on the event loop", "context"),
]

ALL = [*ITEMS, *EXIT_CRITERIA, *GATES, *RISKS, *CONTRACTS, *NAMED]
