from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from cfaudit_sandbox import SandboxOptions, World
from cfaudit_sandbox.server.identity import Refusal, identify
from cfaudit_sandbox.server.upstream import Caller, Upstream

END = datetime(2026, 11, 20, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.now = END.timestamp()

    def __call__(self) -> float:
        return self.now


def upstream(clock: Clock | None = None, **options: Any) -> tuple[Upstream, World]:
    world = World(SandboxOptions(**({"events": 10, "end_at": END} | options)), clock or Clock())
    return Upstream(world), world


def caller(of: Upstream, world: World, token: str = "user") -> Caller:
    found = identify(of, world.tokens[token])
    assert isinstance(found, Caller)
    return found


def refusal(of: Upstream, token: str) -> tuple[int, str, str, int | None]:
    found = identify(of, token)
    assert isinstance(found, Refusal)
    return found.status, found.error, found.description, found.retry_after


def test_a_user_token_costs_two_probes_and_an_account_token_one() -> None:
    of, world = upstream(accounts=3)
    assert caller(of, world, "user").cost == 2
    assert caller(of, world, "legacy").cost == 2
    assert caller(of, world, "account").cost == 1
    assert of.counts["probes"] == 5


def test_a_token_sees_its_accounts_and_a_single_one_is_pinned() -> None:
    of, world = upstream(accounts=3)
    assert list(caller(of, world, "user").accounts) == world.accounts
    assert caller(of, world, "user").pinned is None
    assert caller(of, world, "account").pinned == world.accounts[0]
    of, world = upstream(accounts=1)
    assert caller(of, world, "user").pinned == world.accounts[0]


def test_only_the_first_twenty_accounts_can_be_used() -> None:
    of, world = upstream(accounts=25)
    assert list(caller(of, world).accounts) == world.accounts[:20]


@pytest.mark.parametrize(
    ("token", "answer"),
    [
        ("expired", (401, "invalid_token", "Access token is invalid or expired", None)),
        (
            "forbidden",
            (403, "insufficient_scope", "Token lacks required user:read or account:read scope", None),
        ),
    ],
)
def test_tokens_that_do_not_pass_the_probes_are_turned_away(token: str, answer: object) -> None:
    of, world = upstream()
    assert refusal(of, world.tokens[token]) == answer


def test_unknown_and_malformed_tokens_are_turned_away_differently() -> None:
    of, _ = upstream()
    assert refusal(of, "cfut_unknown")[2] == "Access token is invalid or expired"
    assert refusal(of, "cfut_süß")[2] == "Access token appears malformed; reauthenticate and try again"


@pytest.mark.parametrize(
    ("statuses", "answer"),
    [
        ((429, 503), (502, "server_error", "Cloudflare API is temporarily unavailable", None)),
        ((401, 429), (429, "temporarily_unavailable", "Rate limited, try again later", 30)),
        ((403, 401), (401, "invalid_token", "Access token is invalid or expired", None)),
        (
            (400, 403),
            (403, "insufficient_scope", "Token lacks required user:read or account:read scope", None),
        ),
        ((404, 404), (404, "invalid_request", "Failed to verify token", None)),
        (("drop", 404), (502, "server_error", "Cloudflare API is temporarily unavailable", None)),
    ],
)
def test_the_worse_of_both_probes_decides(statuses: tuple[Any, Any], answer: object) -> None:
    of, world = upstream()
    for status in statuses:
        of.fail_next(status, where="probe")
    assert refusal(of, world.tokens["user"]) == answer


def test_upstream_decides_how_long_to_wait() -> None:
    of, world = upstream()
    of.fail_next(429, where="probe", retry_after=7)
    assert refusal(of, world.tokens["user"])[3] == 7


def test_an_old_token_without_a_user_is_taken_for_an_account_token() -> None:
    of, world = upstream(accounts=3)
    of.fail_next(403, where="probe")
    assert caller(of, world, "legacy").accounts == (world.accounts[0],)
    of.fail_next(403, where="probe")
    assert refusal(of, world.tokens["user"])[0] == 403


def test_an_account_token_must_have_one_account() -> None:
    of, world = upstream(accounts=0)
    expected = "Account token must resolve to exactly one Cloudflare account"
    assert refusal(of, world.tokens["account"])[2] == expected


def test_a_call_over_the_budget_blocks_the_user_for_the_penalty_and_nobody_else() -> None:
    clock = Clock()
    of, world = upstream(clock, throttle_calls=4, throttle_seconds=100, throttle_window_seconds=50)
    assert of.audit(caller(of, world)) is None
    assert refusal(of, world.tokens["user"]) == (
        429,
        "temporarily_unavailable",
        "Rate limited, try again later",
        100,
    )
    assert refusal(of, world.tokens["legacy"])[3] == 100
    assert of.audit(caller(of, world, "account")) is None
    clock.now += 99.5
    assert refusal(of, world.tokens["user"])[3] == 1
    clock.now += 0.5
    assert of.audit(caller(of, world)) is None
    assert of.counts["throttled"] == 5


def test_the_budget_is_a_moving_window() -> None:
    clock = Clock()
    of, _ = upstream(clock, throttle_calls=2, throttle_window_seconds=50)
    assert of.charge("user") is None
    clock.now += 30
    assert of.charge("user") is None
    clock.now += 20
    assert of.charge("user") is None
    assert of.charge("user") is not None


def test_a_budget_that_ends_between_probe_and_audit_call_fails_the_call() -> None:
    of, world = upstream(throttle_calls=2)
    assert of.audit(caller(of, world)) == 429


def test_mishaps_come_at_their_rates_and_the_same_for_a_seed() -> None:
    def fates() -> list[object]:
        of, world = upstream(fail_rate=0.2, drop_rate=0.1, html_rate=0.1)
        who = caller(of, world)
        return [of.audit(who) for _ in range(1_000)]

    first = fates()
    assert first == fates()
    assert 150 < sum(isinstance(fate, int) and fate >= 500 for fate in first) < 250
    assert 60 < first.count("drop") < 140
    assert 60 < first.count("html") < 140


def test_planned_failures_come_first_and_only_so_often() -> None:
    of, world = upstream()
    who = caller(of, world)
    of.fail_next(503, times=2)
    assert [of.audit(who) for _ in range(3)] == [503, 503, None]


def test_a_token_without_permission_or_that_expired_meanwhile_fails_at_the_audit_call() -> None:
    of, world = upstream()
    assert of.audit(caller(of, world, "no_permission")) == 403
    assert of.audit(Caller("user", (), None, expired=True)) == 401


def test_reset_forgets_blocks_counts_and_plans() -> None:
    of, world = upstream(throttle_calls=0)
    of.fail_next(500)
    assert refusal(of, world.tokens["user"])[0] == 429
    of.reset()
    assert of.counts == {}
    assert of.planned("audit") is None
