"""The states of a token by table: both sides of each boundary, by both clocks."""

from __future__ import annotations

import sys

import pytest

from aio_authgrpc import Token
from aio_authgrpc._tokens.freshness import CachedToken, backoff_window, limits, pause_window
from aio_authgrpc.testing import FakeClock
from aio_authgrpc.tokens import TokenState

FRESH, STALE, EXPIRED = TokenState.FRESH, TokenState.STALE, TokenState.EXPIRED


def cached(clock: FakeClock, lifetime: float | None = 3600.0, *, jitter: float = 0.0) -> CachedToken:
    expires_at = None if lifetime is None else clock.time() + lifetime
    return CachedToken(Token("t", expires_at=expires_at), clock=clock, jitter=jitter)


@pytest.mark.parametrize(
    ("lifetime", "stale", "expired"),
    [
        pytest.param(1120.0, 224.0, 30.0, id="below-the-stale-window"),
        pytest.param(1125.0, 225.0, 30.0, id="at-the-stale-window"),
        pytest.param(1130.0, 225.0, 30.0, id="above-the-stale-window"),
        pytest.param(590.0, 118.0, 29.5, id="below-the-expired-window"),
        pytest.param(600.0, 120.0, 30.0, id="at-the-expired-window"),
        pytest.param(610.0, 122.0, 30.0, id="above-the-expired-window"),
        pytest.param(3600.0, 225.0, 30.0, id="an-hour"),
        pytest.param(60.0, 12.0, 3.0, id="a-minute"),
        pytest.param(3.0, 0.6, 0.15, id="three-seconds"),
        pytest.param(0.0, 0.0, 0.0, id="over-at-once"),
    ],
)
def test_the_windows_are_shares_of_a_short_life_and_fixed_in_a_long_one(
    lifetime: float, stale: float, expired: float
) -> None:
    """20 % up to 225 s before the end, and 5 % up to 30 s."""
    found = limits(now=1_000.0, expires_at=1_000.0 + lifetime, jitter=0.0)
    assert found == pytest.approx((1_000.0 + lifetime - stale, 1_000.0 + lifetime - expired))


@pytest.mark.parametrize(("jitter", "stale"), [(0.0, 225.0), (0.4, 202.5), (0.5, 196.875), (1.0, 168.75)])
def test_jitter_moves_the_stale_window_later_and_leaves_the_end_alone(jitter: float, stale: float) -> None:
    """It moves by a quarter of the window at most."""
    found = limits(now=0.0, expires_at=3600.0, jitter=jitter)
    assert found == pytest.approx((3600.0 - stale, 3570.0))


def test_a_token_without_an_expiry_has_no_limits() -> None:
    """It is fresh up to the largest float."""
    assert limits(now=0.0, expires_at=None, jitter=1.0) == (sys.float_info.max, sys.float_info.max)


@pytest.mark.parametrize(
    ("failures", "seconds"),
    [(1, 1.0), (2, 1.6), (3, 2.56), (9, 1.6**8), (10, 60.0), (11, 60.0), (12, 60.0), (100_000, 60.0)],
)
def test_the_backoff_grows_up_to_its_cap(failures: int, seconds: float) -> None:
    """It is 42.9 s after nine failures, and 60 s from ten on, also after a week of failures."""
    assert backoff_window(failures) == pytest.approx(seconds)


@pytest.mark.parametrize(("attempts", "seconds"), [(1, 0.2), (2, 0.4), (3, 0.8)])
def test_pauses_within_a_refresh_double(attempts: int, seconds: float) -> None:
    """They begin at 0.2 s: callers wait."""
    assert pause_window(attempts) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("wall", "monotonic", "state"),
    [
        pytest.param(0.0, 0.0, FRESH, id="at-once"),
        pytest.param(3374.9, 3374.9, FRESH, id="just-before-the-window"),
        pytest.param(3375.0, 3375.0, STALE, id="in-the-window"),
        pytest.param(3569.9, 3569.9, STALE, id="just-before-the-end"),
        pytest.param(3570.0, 3570.0, EXPIRED, id="at-the-end"),
        pytest.param(3374.9, 0.0, FRESH, id="suspended-until-just-before-the-window"),
        pytest.param(3375.0, 0.0, STALE, id="suspended-into-the-window"),
        pytest.param(3570.0, 0.0, EXPIRED, id="suspended-past-the-end"),
        pytest.param(-9000.0, 3374.9, FRESH, id="set-back-just-before-the-window"),
        pytest.param(-9000.0, 3375.0, STALE, id="set-back-in-the-window"),
        pytest.param(-9000.0, 3570.0, EXPIRED, id="set-back-past-the-end"),
    ],
)
def test_a_token_is_as_old_as_the_older_clock_says(wall: float, monotonic: float, state: TokenState) -> None:
    """Seconds since the fetch by either clock."""
    clock = FakeClock()
    entry = cached(clock)
    assert entry.state(clock.time() + wall, clock.monotonic() + monotonic) is state


@pytest.mark.parametrize(
    ("wall", "monotonic", "seconds"),
    [(0.0, 0.0, 3375.0), (375.0, 0.0, 3000.0), (0.0, 375.0, 3000.0), (3400.0, 10.0, -25.0)],
)
def test_the_seconds_until_it_is_stale_are_by_the_older_clock_too(
    wall: float, monotonic: float, seconds: float
) -> None:
    """They are negative once it is stale."""
    clock = FakeClock()
    entry = cached(clock)
    assert entry.stale_in(clock.time() + wall, clock.monotonic() + monotonic) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("lifetime", "sure_for"),
    [
        pytest.param(None, 5.0, id="without-an-expiry"),
        pytest.param(3600.0, 5.0, id="an-hour"),
        pytest.param(100.0, 5.0, id="what-is-unused-is-five-seconds"),
        pytest.param(98.0, 4.9, id="what-is-unused-is-less"),
        pytest.param(3.0, 0.15, id="three-seconds"),
    ],
)
def test_one_look_at_both_clocks_holds_for_seconds(lifetime: float | None, sure_for: float) -> None:
    """It holds for 5 s, and never longer than the part that is left unused at the token's end."""
    clock = FakeClock()
    entry = cached(clock, lifetime)
    assert entry.sure_from == clock.time()
    # The difference: compared with the seconds since 1970, any five seconds are approximately equal.
    assert entry.sure_until - clock.time() == pytest.approx(sure_for)


def test_a_later_look_at_a_fresh_token_moves_the_window() -> None:
    """The window ends where the token becomes stale."""
    clock = FakeClock()
    entry, start = cached(clock), clock.time()
    assert entry.look(start + 100, clock.monotonic() + 100) is FRESH
    assert entry.sure_from == start + 100
    assert entry.sure_until == start + 105
    assert entry.look(start + 3372, clock.monotonic() + 3372) is FRESH
    assert entry.sure_from == start + 3372
    assert entry.sure_until == start + 3375


def test_a_look_at_a_stale_token_does_not_move_the_window() -> None:
    """Every use of a stale token looks at it, and may start the refresh."""
    clock = FakeClock()
    entry, start = cached(clock), clock.time()
    assert entry.look(start + 3400, clock.monotonic() + 3400) is STALE
    assert entry.sure_from == start
    assert entry.sure_until == start + 5


def test_asking_for_the_state_does_not_move_the_window() -> None:
    """A question changes nothing."""
    clock = FakeClock()
    entry, start = cached(clock), clock.time()
    assert entry.state(start + 100, clock.monotonic() + 100) is FRESH
    assert entry.sure_from == start


@pytest.mark.parametrize(
    ("age", "challenge", "meant"),
    [
        pytest.param(9.9, "", True, id="just-below-ten-seconds"),
        pytest.param(10.0, "", False, id="ten-seconds"),
        pytest.param(100.0, 'Bearer error="insufficient_scope"', True, id="scope"),
        pytest.param(100.0, 'Bearer error="invalid_token"', False, id="invalid"),
    ],
)
def test_a_refusal_is_meant_for_a_young_token_and_for_its_scope(
    age: float, challenge: str, meant: bool
) -> None:
    """A new token would be refused as well."""
    clock = FakeClock()
    assert cached(clock).refusal_is_meant(clock.monotonic() + age, challenge) is meant


def test_a_new_entry_is_dated_and_has_emitted_nothing() -> None:
    """The fetch is dated by the monotonic clock; two events are still to be emitted once."""
    clock = FakeClock()
    entry = cached(clock)
    assert not entry.stale_was_said
    assert not entry.refusal_was_said
    assert entry.fetched_at == clock.monotonic()
