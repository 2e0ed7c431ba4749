"""The mission, line by line: what was specified, and the tests that show it.

`shown_by` names tests as `path::function`, relative to tests/. A line without any is owed by its `subpackage`.
"""

from __future__ import annotations

import attrs


@attrs.frozen
class Line:
    """One sentence of the specification."""

    key: str
    text: str
    subpackage: str
    shown_by: tuple[str, ...] = ()


ITEMS = [
    Line(
        "D1",
        "Parallel tool execution, with per-path advisory locks",
        "tools",
        (
            "tools/test_fan_out.py::test_three_tools_of_100_ms_take_exactly_100_ms",
            "tools/test_path_locks.py::TestLocks",
            "tools/test_builtin_files.py::test_reads_writes_edits_and_renames_side_by_side_lose_nothing",
        ),
    ),
    Line(
        "D2",
        "Streaming failover correctness (reset stream)",
        "resilience",
        (
            "resilience/test_failover.py::test_what_the_first_had_shown_is_taken_back",
            "resilience/test_algebra.py::test_what_the_reader_sees_is_what_was_returned",
        ),
    ),
    Line(
        "D3",
        "Structured error variants for retry",
        "llm",
        (
            "llm/test_provider_failures.py::test_a_status_becomes_its_error",
            "llm/test_provider_failures.py::test_an_error_event_under_status_200_is_typed",
            "llm/test_no_text_matching.py::test_no_decision_looks_at_the_text_of_an_error",
        ),
    ),
    Line(
        "D4",
        "Configurable retry policy (depends on D3)",
        "config",
        (
            "config/test_config.py::test_both_sets_of_names_in_both_spellings_set_the_same_policy",
            "config/test_config.py::test_the_retries_of_a_provider_override_the_general_ones",
            "agent/test_open_agent.py::test_the_settings_of_the_configuration_take_effect",
        ),
    ),
    Line(
        "D5",
        "Record actual latency in ResponseOutcome",
        "pipeline",
        ("pipeline/test_latency.py::test_any_round_is_measured_to_the_tick_and_told_truly",),
    ),
    Line(
        "D6",
        "Thread sender_id for cost recording",
        "costs",
        ("pipeline/test_pipeline.py::test_a_messages_sender_arrives_in_the_request_the_decision_and_the_outcome",),
    ),
    Line(
        "D7",
        "StreamCallback to FnMut: stateful callbacks work",
        "llm",
        (
            "llm/test_stream.py::test_a_counting_object_is_a_callback",
            "llm/test_stream.py::test_a_closure_with_nonlocal_state_is_a_callback",
        ),
    ),
    Line(
        "D8",
        "Bounded message bus channels: backpressure, no OOM",
        "bus",
        (
            "bus/test_bus.py::test_with_capacity_two_the_third_publisher_waits_until_one_is_taken",
            "bus/test_bus.py::test_the_default_is_1024_messages_each_way_and_backpressure",
        ),
    ),
    Line(
        "D9",
        "MCP transport concurrency (request-ID multiplexing)",
        "mcp",
        (
            "mcp/test_stdio.py::test_100_concurrent_calls_answered_in_reverse_order_reach_their_callers",
            "mcp/test_multiplexer_machine.py::TestMultiplexerMachine",
        ),
    ),
    Line(
        "D10",
        "Cache skill/agent bootstrap files (mtime check)",
        "context",
        (
            "context/test_no_open.py::test_the_second_call_of_a_session_opens_nothing",
            "context/test_no_open.py::test_a_change_that_keeps_size_and_mtime_opens_that_file_and_is_told",
        ),
    ),
    Line(
        "D11",
        "Async file I/O in skills loader",
        "context",
        ("context/test_skills.py::test_skills_are_parsed_in_a_thread",),
    ),
]

EXIT_CRITERIA = [
    Line(
        "exit D1",
        "Multiple tool calls execute concurrently; 3 tools with 100ms simulated latency complete in <200ms",
        "tools",
        ("tools/test_fan_out.py::test_three_tools_of_100_ms_take_less_than_200_ms_of_real_time",),
    ),
    Line(
        "exit D10",
        "Bootstrap files cached with mtime invalidation; second LLM call in same session skips disk",
        "context",
        ("context/test_no_open.py::test_the_second_call_of_a_session_opens_nothing",),
    ),
    Line(
        "exit D11",
        "Skills loader is async; no blocking file calls on the async executor path",
        "context",
        ("test_nothing_blocks.py::test_context_never_blocks",),
    ),
    Line(
        "exit D2",
        "First provider fails mid-stream, second provider's complete output is delivered cleanly",
        "resilience",
        ("resilience/test_failover.py::test_after_any_number_of_deltas_exactly_the_seconds_text_remains",),
    ),
    Line(
        "exit D3",
        "Retry logic uses ProviderError variants; no string-prefix matching",
        "llm",
        (
            "llm/test_no_text_matching.py::test_no_decision_looks_at_the_text_of_an_error",
            "resilience/test_retry.py::test_what_the_error_calls_final_is_final",
        ),
    ),
    Line(
        "exit D4",
        "Retry policy configurable via config.json (count, backoff delay, eligible status codes)",
        "config",
        (
            "config/test_config.py::test_both_sets_of_names_in_both_spellings_set_the_same_policy",
            "config/test_config.py::test_an_empty_list_of_statuses_is_every_server_error",
            "agent/test_open_agent.py::test_the_settings_of_the_configuration_take_effect",
        ),
    ),
    Line(
        "exit D7",
        "A stateful token-counting callback compiles and runs",
        "llm",
        (
            "llm/test_stream.py::test_a_counting_object_is_a_callback",
            "llm/test_stream.py::test_a_closure_with_nonlocal_state_is_a_callback",
        ),
    ),
    Line(
        "exit D8",
        "Message bus has configurable buffer size with backpressure",
        "bus",
        (
            "bus/test_bus.py::test_with_capacity_two_the_third_publisher_waits_until_one_is_taken",
            "bus/test_bus.py::test_each_direction_has_its_own_policy",
        ),
    ),
    Line(
        "exit D5",
        "latency_ms populated in all ResponseOutcome records (no hardcoded zeros)",
        "pipeline",
        (
            "pipeline/test_latency.py::test_a_failure_is_measured_like_a_success",
            "pipeline/test_latency.py::test_any_round_is_measured_to_the_tick_and_told_truly",
        ),
    ),
    Line(
        "exit D6",
        "sender_id from InboundMessage through ChatRequest and RoutingDecision to CostTracker.update(), end to end",
        "costs",
        ("agent/test_costs_end_to_end.py::test_the_ledger_has_sender_agent_target_and_cost",),
    ),
    Line(
        "exit D9",
        "MCP stdio transport supports concurrent requests via request-ID multiplexing (concurrent call test)",
        "mcp",
        ("mcp/test_stdio.py::test_100_concurrent_calls_answered_in_reverse_order_reach_their_callers",),
    ),
    Line(
        "exit regression", "All existing tests pass", "all", ("mission/test_mission.py::test_every_named_test_exists",)
    ),
]

GATES = [
    Line(
        "gate D-Perf",
        "D1 race condition tests verified",
        "tools",
        (
            "tools/test_builtin_files.py::test_edits_of_one_file_in_several_turns_at_once_lose_nothing",
            "tools/test_path_locks.py::TestLocks",
        ),
    ),
    Line(
        "gate D-Reliability",
        "streaming failover test coverage; D3 before D4",
        "resilience",
        (
            "resilience/test_algebra.py::test_what_the_reader_sees_is_what_was_returned",
            "resilience/test_retry.py::test_what_the_error_calls_final_is_final",
        ),
    ),
    Line(
        "gate D-Observability",
        "D6 end-to-end integration test required",
        "costs",
        ("agent/test_costs_end_to_end.py::test_the_ledger_has_sender_agent_target_and_cost",),
    ),
    Line(
        "gate D-Transport",
        "concurrent MCP test with 10+ simultaneous requests",
        "mcp",
        ("mcp/test_stdio.py::test_100_concurrent_calls_answered_in_reverse_order_reach_their_callers",),
    ),
    Line(
        "gate Security",
        "per-path advisory locks (D1) and backpressure default (D8)",
        "tools",
        (
            "tools/test_path_locks.py::TestLocks",
            "bus/test_bus.py::test_the_default_is_1024_messages_each_way_and_backpressure",
        ),
    ),
]

RISKS = [
    Line(
        "risk D1",
        "Race conditions when parallel tools write to the same file",
        "tools",
        (
            "tools/test_builtin_files.py::test_edits_of_one_file_in_several_turns_at_once_lose_nothing",
            "tools/test_builtin_files.py::test_reads_writes_edits_and_renames_side_by_side_lose_nothing",
        ),
    ),
    Line(
        "risk D2",
        "Partial output already rendered before failover is detected",
        "resilience",
        (
            "resilience/test_visibility.py::test_hold_shows_only_what_succeeded",
            "resilience/test_visibility.py::test_live_shows_at_once_and_takes_back",
        ),
    ),
    Line(
        "risk D9",
        "Multiplexer complexity: correlation map, orphan timeout, 10+ concurrent calls",
        "mcp",
        (
            "mcp/test_multiplexer_machine.py::TestMultiplexerMachine",
            "mcp/test_multiplexer.py::test_each_call_ends_at_its_own_deadline",
            "mcp/test_stdio.py::test_100_concurrent_calls_answered_in_reverse_order_reach_their_callers",
        ),
    ),
    Line(
        "risk D8",
        "Overflow policy misconfiguration causes message loss: default is backpressure",
        "bus",
        (
            "bus/test_bus.py::test_the_default_is_1024_messages_each_way_and_backpressure",
            "bus/test_bus.py::test_the_table_of_policies_names_every_policy",
        ),
    ),
    Line(
        "risk D3->D4",
        "String-matching regression: a check for it in CI",
        "llm",
        ("llm/test_no_text_matching.py::test_no_decision_looks_at_the_text_of_an_error",),
    ),
]

CONTRACTS = [
    Line(
        "09 needs D6",
        "sender_id for per-agent cost attribution",
        "costs",
        ("costs/test_meter.py::test_a_sub_agent_spends_the_money_of_whoever_started_it",),
    ),
    Line(
        "09/M1 needs D9",
        "FlowDelegator: 10 and more calls through one client from several tasks",
        "mcp",
        (
            "mcp/test_stdio.py::test_a_delegator_makes_many_calls_through_one_client_and_cancelling_one_leaves_the_others_alone",
        ),
    ),
    Line(
        "04/C3 overlaps D11",
        "one asynchronous skill loader",
        "context",
        (
            "context/test_skills.py::test_both_formats_are_loaded_in_the_order_of_their_names",
            "context/test_skills.py::test_skills_are_parsed_in_a_thread",
        ),
    ),
    Line(
        "06 needs D6",
        "channels produce InboundMessage which carries sender_id",
        "bus",
        (
            "pipeline/test_pipeline.py::test_a_messages_sender_arrives_in_the_request_the_decision_and_the_outcome",
            "pipeline/test_permissions.py::test_nobody_in_particular_is_refused",
        ),
    ),
    Line(
        "06 needs D8",
        "new channels use the bounded bus API only",
        "bus",
        (
            "bus/test_channel.py::test_messages_go_both_ways_and_it_ends_with_the_bus",
            "bus/test_channel.py::test_an_adapter_waits_when_the_bus_is_full",
        ),
    ),
]

NAMED = [
    Line(
        "parallel_tools_faster_than_sequential",
        "3 x 100 ms in under 200 ms",
        "tools",
        ("tools/test_fan_out.py::test_three_tools_of_100_ms_take_less_than_200_ms_of_real_time",),
    ),
    Line(
        "parallel_tools_preserve_order",
        "answers in call order",
        "tools",
        ("tools/test_fan_out.py::test_answers_come_in_call_order_however_long_each_takes",),
    ),
    Line(
        "parallel_tool_error_does_not_cancel_others",
        "isolation",
        "tools",
        ("tools/test_fan_out.py::test_an_error_is_its_calls_answer_and_the_others_go_on",),
    ),
    Line(
        "single_tool_unchanged",
        "one call is like any number",
        "tools",
        ("tools/test_fan_out.py::test_one_call_is_answered_like_many",),
    ),
    Line("empty_vec", "no calls, no answers", "tools", ("tools/test_fan_out.py::test_no_calls_no_answers",)),
    Line(
        "permissions_forwarded",
        "each call is checked",
        "tools",
        ("tools/test_fan_out.py::test_the_senders_permissions_reach_every_call",),
    ),
    Line(
        "same-path concurrent writes",
        "no lost update",
        "tools",
        ("tools/test_builtin_files.py::test_edits_of_one_file_in_several_turns_at_once_lose_nothing",),
    ),
    Line(
        "stream_failover_discards_partial_output",
        "A says 3 chunks and fails, B says 5: exactly B's 5",
        "resilience",
        ("resilience/test_failover.py::test_after_any_number_of_deltas_exactly_the_seconds_text_remains",),
    ),
    Line(
        "stream_failover_success_first_provider",
        "no second request",
        "resilience",
        ("resilience/test_failover.py::test_a_quick_one_is_not_hedged",),
    ),
    Line(
        "stream_failover_all_fail",
        "AllProvidersExhausted",
        "resilience",
        ("resilience/test_failover.py::test_when_nobody_can_every_error_is_in_the_cause",),
    ),
    Line(
        "stream_retry_discards_partial_output",
        "a retry takes back what was shown",
        "resilience",
        ("resilience/test_retry.py::test_what_was_shown_is_taken_back_before_the_wait",),
    ),
    Line(
        "257+ chunks",
        "no deadlock, however long the stream",
        "resilience",
        ("resilience/test_failover.py::test_after_any_number_of_deltas_exactly_the_seconds_text_remains",),
    ),
    Line(
        "truncated EOF",
        "a clean early end is a failure",
        "llm",
        (
            "llm/test_providers.py::test_a_truncated_stream_is_never_a_success",
            "llm/test_response_builder.py::test_a_stream_that_ends_before_its_terminal_mark_is_never_whole",
        ),
    ),
    Line(
        "in-band error",
        "an error event under HTTP 200 is a failure",
        "llm",
        ("llm/test_provider_failures.py::test_an_error_event_under_status_200_is_typed",),
    ),
    Line(
        "abort",
        "False closes the upstream connection at once",
        "llm",
        (
            "llm/test_stream.py::test_false_ends_the_answer_at_once",
            "llm/test_provider_consumers.py::test_a_consumer_that_leaves_closes_the_connection_at_once",
        ),
    ),
    Line(
        "reset event ordering",
        "Reset before anything of the next attempt",
        "resilience",
        ("resilience/test_algebra.py::test_what_the_reader_sees_is_what_was_returned",),
    ),
    Line(
        "retryable statuses",
        "500, 501, 502, 503, 504, 507, 529, 599 are; 400 is not",
        "llm",
        (
            "llm/test_failures.py::test_every_status_of_a_failing_server_is_worth_a_retry",
            "llm/test_failures.py::test_retryable_statuses_are_the_providers_own",
        ),
    ),
    Line(
        "retry defaults",
        "defaults when the section is absent, missing fields defaulted",
        "config",
        (
            "config/test_config.py::test_retry_defaults_when_the_section_is_absent",
            "config/test_config.py::test_missing_fields_of_retry_are_defaulted",
        ),
    ),
    Line(
        "retry custom",
        "custom count, delay and status codes honoured",
        "config",
        (
            "config/test_config.py::test_both_sets_of_names_in_both_spellings_set_the_same_policy",
            "agent/test_open_agent.py::test_the_settings_of_the_configuration_take_effect",
        ),
    ),
    Line(
        "one retry loop",
        "nothing below retries by itself",
        "llm",
        ("llm/test_provider_failures.py::test_a_provider_sends_each_request_once",),
    ),
    Line(
        "nonzero latency",
        "for complete and stream, on success and failure, monotonic",
        "pipeline",
        (
            "pipeline/test_latency.py::test_a_failure_is_measured_like_a_success",
            "pipeline/test_latency.py::test_any_round_is_measured_to_the_tick_and_told_truly",
            "pipeline/test_latency.py::test_an_answer_at_once_took_no_time_and_has_no_rate",
        ),
    ),
    Line(
        "decision has sender_id",
        "None without auth",
        "pipeline",
        (
            "pipeline/test_routing.py::test_a_decision_says_whom_it_is_for_and_why",
            "pipeline/test_routing.py::test_a_request_on_nobodys_behalf_has_next_to_no_rights",
        ),
    ),
    Line(
        "update calls record_actual with sender",
        "settled by actual usage",
        "costs",
        ("costs/test_meter.py::test_an_answer_says_what_it_cost_and_so_does_the_ledger",),
    ),
    Line(
        "refund on failure",
        "what was not sent costs nothing",
        "costs",
        ("costs/test_meter.py::test_what_never_left_costs_nothing",),
    ),
    Line(
        "capacity 2, third send waits",
        "and goes on when one is taken",
        "bus",
        ("bus/test_bus.py::test_with_capacity_two_the_third_publisher_waits_until_one_is_taken",),
    ),
    Line(
        "default 1024, custom capacity",
        "from the configuration",
        "bus",
        (
            "bus/test_bus.py::test_the_default_is_1024_messages_each_way_and_backpressure",
            "bus/test_bus.py::test_each_direction_has_its_own_policy",
        ),
    ),
    Line(
        "overflow policies",
        "block, drop_oldest, drop_newest, reject",
        "bus",
        ("bus/test_bus.py::test_the_table_of_policies_names_every_policy",),
    ),
    Line(
        "10+ concurrent requests",
        "with out-of-order replies",
        "mcp",
        ("mcp/test_stdio.py::test_100_concurrent_calls_answered_in_reverse_order_reach_their_callers",),
    ),
    Line(
        "orphan timeout",
        "a request without an answer ends",
        "mcp",
        (
            "mcp/test_multiplexer.py::test_the_default_deadline_is_30_s",
            "mcp/test_multiplexer.py::test_each_call_ends_at_its_own_deadline",
        ),
    ),
    Line(
        "wake all on stdout close",
        "every caller gets a typed error",
        "mcp",
        (
            "mcp/test_stdio.py::test_a_server_that_closed_its_stdout_is_gone_though_it_lives",
            "mcp/test_stdio.py::test_calls_in_flight_when_the_server_dies_fail_with_its_exit_code_and_last_words",
        ),
    ),
    Line(
        "stderr captured",
        "its tail is in the error",
        "mcp",
        (
            "mcp/test_stdio.py::test_a_flood_on_stderr_blocks_nothing_and_its_end_is_kept",
            "mcp/test_stdio.py::test_calls_in_flight_when_the_server_dies_fail_with_its_exit_code_and_last_words",
        ),
    ),
    Line(
        "server request with colliding id",
        "is not taken for a response",
        "mcp",
        ("mcp/test_multiplexer.py::test_requests_of_the_server_are_answered_though_their_ids_collide_with_ours",),
    ),
    Line(
        "notification",
        "in order, bounded",
        "mcp",
        (
            "mcp/test_multiplexer.py::test_notifications_are_heard_in_order_and_never_stall_an_answer",
            "mcp/test_multiplexer.py::test_50_000_notifications_to_a_sleeping_listener_are_bounded",
        ),
    ),
    Line(
        "string id",
        '"7" matches 7',
        "mcp",
        ("mcp/test_multiplexer.py::test_an_id_that_came_back_as_a_string_still_matches",),
    ),
    Line(
        "cancelled caller leaves no pending entry",
        "and the server is told",
        "mcp",
        (
            "mcp/test_multiplexer.py::test_one_caller_that_is_cancelled_everywhere_leaves_no_trace",
            "mcp/test_multiplexer.py::test_a_cancelled_caller_tells_the_server_at_once",
        ),
    ),
    Line(
        "child reaped",
        "no zombie, no grandchild",
        "mcp",
        (
            "mcp/test_stdio.py::test_a_server_whose_grandchild_holds_stdout_is_noticed_as_dead_and_nobody_survives",
            "mcp/test_stdio.py::test_no_descriptor_is_left_behind",
        ),
    ),
    Line(
        "shared HTTP client",
        "one pooled client for each endpoint",
        "net",
        (
            "net/test_http.py::test_a_finished_connection_serves_the_next_request",
            "net/test_http.py::test_one_task_may_have_several_requests_open",
        ),
    ),
    Line(
        "cache hit skips read",
        "counted outside",
        "context",
        (
            "context/test_no_open.py::test_the_second_call_of_a_session_opens_nothing",
            "files/test_cache.py::test_a_second_call_asks_and_does_not_read",
        ),
    ),
    Line(
        "cache miss reads",
        "once, also for concurrent misses",
        "context",
        ("files/test_cache.py::test_who_asks_at_the_same_time_shares_one_look",),
    ),
    Line(
        "mtime change",
        "is seen on the next call",
        "context",
        (
            "files/test_cache.py::test_a_change_is_seen_by_the_next_call",
            "files/test_cache.py::test_a_change_of_the_same_size_and_mtime_is_seen",
        ),
    ),
    Line(
        "deleted file",
        "is gone on the next call",
        "context",
        ("context/test_builder.py::test_what_is_deleted_is_gone_from_the_next_prompt",),
    ),
    Line(
        "empty file",
        "does not win",
        "context",
        ("context/test_builder.py::test_the_first_place_that_is_not_blank_wins",),
    ),
    Line(
        "concurrent access",
        "single flight",
        "context",
        (
            "files/test_cache.py::test_who_asks_at_the_same_time_shares_one_look",
            "context/test_skills.py::test_many_loads_at_once_read_once",
        ),
    ),
    Line(
        "loads SKILL.md and legacy",
        "both formats",
        "context",
        ("context/test_skills.py::test_both_formats_are_loaded_in_the_order_of_their_names",),
    ),
    Line(
        "missing dir", "is no error", "context", ("context/test_skills.py::test_no_folder_is_no_skill_and_no_problem",)
    ),
    Line(
        "SEC-SKILL-02/07",
        "names with .. and oversized files are refused",
        "context",
        (
            "context/test_skill_format.py::test_a_name_that_could_be_more_than_a_name_is_replaced_by_the_folders",
            "context/test_skills.py::test_each_malformed_skill_is_one_line_and_the_others_load",
        ),
    ),
    Line(
        "discover_with_trust",
        "workspace skills need trust",
        "context",
        ("context/test_skills.py::test_the_workspace_is_not_read_unless_it_is_trusted",),
    ),
    Line("no blocking calls", "on the event loop", "context", ("test_nothing_blocks.py::test_context_never_blocks",)),
]

ALL = [*ITEMS, *EXIT_CRITERIA, *GATES, *RISKS, *CONTRACTS, *NAMED]
