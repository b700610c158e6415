"""How good a token is, by table: both sides of each boundary, by both clocks."""

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
        pytest.param(0.0, 0.0, 0.0, id="over-at-once"),
    ],
)
def test_the_windows_are_shares_of_short_lives_and_fixed_for_long_ones(
    lifetime: float, stale: float, expired: float
) -> None:
    """20 % up to 225 s, and 5 % up to 30 s."""
    found = limits(now=1_000.0, expires_at=1_000.0 + lifetime, jitter=0.0)
    assert found == pytest.approx((1_000.0 + lifetime - stale, 1_000.0 + lifetime - expired))


@pytest.mark.parametrize(("jitter", "stale"), [(0.0, 225.0), (0.4, 202.5), (1.0, 168.75)])
def test_jitter_moves_the_stale_window_later_and_the_end_not_at_all(jitter: float, stale: float) -> None:
    """By a quarter of the window at most."""
    found = limits(now=0.0, expires_at=3600.0, jitter=jitter)
    assert found == pytest.approx((3600.0 - stale, 3570.0))


def test_a_token_without_an_expiry_has_no_limits() -> None:
    """It is fresh for as long as a float can say."""
    assert limits(now=0.0, expires_at=None, jitter=1.0) == (sys.float_info.max, sys.float_info.max)


@pytest.mark.parametrize(
    ("failures", "seconds"),
    [(1, 1.0), (2, 1.6), (3, 2.56), (9, 1.6**8), (10, 60.0), (11, 60.0), (12, 60.0), (100_000, 60.0)],
)
def test_the_backoff_grows_up_to_its_cap(failures: int, seconds: float) -> None:
    """42.9 s after nine failures, 60 s after ten."""
    assert backoff_window(failures) == pytest.approx(seconds)


@pytest.mark.parametrize(("attempts", "seconds"), [(1, 0.2), (2, 0.4), (3, 0.8)])
def test_pauses_within_a_refresh_double(attempts: int, seconds: float) -> None:
    """From a fifth of a second: callers wait."""
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
def test_the_time_until_it_is_stale_is_by_the_older_clock_too(
    wall: float, monotonic: float, seconds: float
) -> None:
    """Less than zero when it has passed."""
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
def test_one_look_at_both_clocks_is_believed_for_seconds(lifetime: float | None, sure_for: float) -> None:
    """Five at most, and never longer than what is left unused at the token's end."""
    clock = FakeClock()
    entry = cached(clock, lifetime)
    # Of the difference: in proportion to the time since 1970, seconds are nothing.
    assert (entry.sure_from, entry.sure_until - clock.time()) == (clock.time(), pytest.approx(sure_for))


def test_a_later_look_is_believed_anew_while_it_is_fresh() -> None:
    """The window moves with the looks, up to where the token becomes stale."""
    clock = FakeClock()
    entry, start = cached(clock), clock.time()
    entry.state(start + 100, clock.monotonic() + 100)
    assert (entry.sure_from, entry.sure_until) == (start + 100, start + 105)
    entry.state(start + 3372, clock.monotonic() + 3372)
    assert (entry.sure_from, entry.sure_until) == (start + 3372, start + 3375)


def test_a_look_that_finds_it_stale_is_not_believed() -> None:
    """A stale token is looked at each time: somebody has to start the refresh."""
    clock = FakeClock()
    entry, start = cached(clock), clock.time()
    entry.state(start + 3400, clock.monotonic() + 3400)
    assert (entry.sure_from, entry.sure_until) == (start, start + 5)


def test_a_new_entry_has_said_nothing() -> None:
    """What is said once for each token is not said yet; the fetch is dated by the monotonic clock."""
    clock = FakeClock()
    entry = cached(clock)
    assert (entry.stale_was_said, entry.refusal_was_said, entry.fetched_at) == (
        False,
        False,
        clock.monotonic(),
    )
