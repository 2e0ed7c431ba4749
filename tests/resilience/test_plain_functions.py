"""Strategies around plain async functions: errors of other libraries, keys, and failover."""

from __future__ import annotations

import ssl

import httpx
import pytest
import trio

from clawft_trio.chat import Call
from clawft_trio.errors import AllProvidersExhausted, CircuitOpen
from clawft_trio.resilience import Bulkhead, CircuitBreaker, Failover, Retry, RetryBudget, compose
from clawft_trio.testing.scripted import ScriptedProvider

QUICK = Retry(max_retries=2, first_wait=0.0)
URL = httpx.Request("GET", "http://127.0.0.1/")


def status(code: int, **headers: str) -> httpx.HTTPStatusError:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.HTTPStatusError("no", request=URL, response=httpx.Response(code, headers=named, request=URL))


async def attempts_of(error: Exception, policy: Retry = QUICK) -> int:
    calls = 0

    @policy
    async def fetch() -> None:
        nonlocal calls
        calls += 1
        raise error

    with pytest.raises(type(error)):
        await fetch()
    return calls


@pytest.mark.parametrize(
    "error",
    [
        httpx.ConnectError("refused"),
        httpx.ReadTimeout("slow"),
        httpx.RemoteProtocolError("not HTTP"),
        httpx.PoolTimeout("busy"),
        ConnectionResetError(),
        TimeoutError(),
        OSError("no route"),
        trio.BrokenResourceError(),
        trio.TooSlowError(),
        status(503),
        status(429),
        status(400, x_should_retry="true"),
        ExceptionGroup("both", [httpx.ReadError("broke"), OSError()]),
    ],
)
async def test_transport_errors_and_failing_servers_are_retried(
    error: Exception, autojump_clock: trio.testing.MockClock
) -> None:
    assert await attempts_of(error) == 3


@pytest.mark.parametrize(
    "error",
    [
        httpx.LocalProtocolError("wrong header"),
        httpx.UnsupportedProtocol("ftp"),
        status(400),
        status(404),
        status(501),
        status(503, x_should_retry="false"),
        FileNotFoundError(),
        PermissionError(),
        ssl.SSLCertVerificationError(),
        ValueError(),
        trio.ClosedResourceError(),
        ExceptionGroup("one of them", [OSError(), ValueError()]),
    ],
)
async def test_what_would_be_the_same_again_is_not_retried(error: Exception) -> None:
    assert await attempts_of(error) == 1


async def test_a_retry_after_of_a_status_error_is_kept(autojump_clock: trio.testing.MockClock) -> None:
    assert await attempts_of(status(429, retry_after="7"), Retry(max_retries=1)) == 2
    assert trio.current_time() == 7.0
    assert await attempts_of(status(429, x_ratelimit_reset_requests="3s"), Retry(max_retries=1)) == 2
    assert trio.current_time() == 10.0
    # Longer than is waited for.
    assert await attempts_of(status(503, retry_after="600"), Retry(max_retries=1)) == 1


async def test_a_breaker_by_key_has_one_state_per_key(autojump_clock: trio.testing.MockClock) -> None:
    @CircuitBreaker(minimum_calls=1, by=lambda host: host)
    async def fetch(host: str) -> str:
        if host == "bad":
            raise OSError("down")
        return host

    with pytest.raises(OSError, match="down"):
        await fetch("bad")
    with pytest.raises(CircuitOpen) as caught:
        await fetch("bad")
    assert caught.value.provider == "bad"
    assert await fetch("good") == "good"


async def test_a_breaker_without_key_is_shared_by_all_calls(autojump_clock: trio.testing.MockClock) -> None:
    policy = compose(CircuitBreaker(minimum_calls=1))

    async def fetch(host: str) -> str:
        raise OSError(host)

    with pytest.raises(OSError, match="bad"):
        await policy.bind("f").run(lambda _: fetch("bad"), Call())
    own = CircuitBreaker(minimum_calls=1)
    with pytest.raises(OSError, match="bad"):
        await own(fetch, "bad")
    with pytest.raises(CircuitOpen):
        await own(fetch, "good")


async def test_a_wrong_request_of_ones_own_opens_no_breaker(autojump_clock: trio.testing.MockClock) -> None:
    breaker = CircuitBreaker(minimum_calls=1)

    async def fetch() -> None:
        raise status(422)

    wrapped = breaker(fetch)
    for _ in range(3):
        with pytest.raises(httpx.HTTPStatusError):
            await wrapped()


async def test_a_bulkhead_by_key_has_slots_per_key(autojump_clock: trio.testing.MockClock) -> None:
    @Bulkhead(max_concurrent=1, by=lambda host: host)
    async def fetch(host: str) -> None:
        await trio.sleep(1.0)

    async with trio.open_nursery() as nursery:
        for host in ("a", "a", "b", "b"):
            nursery.start_soon(fetch, host)
    assert trio.current_time() == 2.0


async def test_failover_works_around_plain_functions(autojump_clock: trio.testing.MockClock) -> None:
    async def primary(url: str) -> str:
        raise httpx.ConnectError("refused")

    async def backup(url: str, *, mark: str = "") -> str:
        return f"backup of {url}{mark}"

    assert await Failover(QUICK(primary), backup)("here") == "backup of here"

    async def slow(url: str) -> str:
        await trio.sleep(5.0)
        return "slow"

    assert await Failover(slow, backup, hedge_after=1.0)("here") == "backup of here"
    assert trio.current_time() == 1.0
    with pytest.raises(AllProvidersExhausted) as caught:
        await Failover(primary, primary, budget=RetryBudget())("here")
    assert "refused" in str(caught.value)
    assert [type(exc) for exc in caught.value.__cause__.exceptions] == [httpx.ConnectError] * 2

    async def wrong(url: str) -> str:
        raise ValueError(url)

    with pytest.raises(ValueError, match="here"):
        await Failover(wrong, backup)("here")


async def test_failover_takes_one_kind_of_target() -> None:
    async def fetch() -> None: ...

    with pytest.raises(TypeError, match="not both"):
        Failover(fetch, ScriptedProvider.saying("x"))
    with pytest.raises(TypeError, match="complete"):
        await Failover(ScriptedProvider.saying("x"))()
