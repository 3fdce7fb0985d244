"""What is said of rows that the server refuses: the truth, as far as it can be known, and nothing else."""

from __future__ import annotations

from collections import Counter, defaultdict
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from cfaudit_export.auth.token import TokenCredential
from cfaudit_export.core.model import Stream, Window, floor_ms
from cfaudit_export.plugin.interfaces import Extract
from cfaudit_export.plugin.records import Recover, SourceContext
from cfaudit_export.sources.auditlogs import AuditLogsConfig
from cfaudit_export.sources.auditlogs.source import AuditLogsSource
from cfaudit_sandbox import Sandbox, SandboxOptions, World

END = datetime(2026, 11, 20, tzinfo=UTC)
HOUR = timedelta(hours=1)
PATHS = {
    "action_result": ("action", "result"),
    "action_type": ("action", "type"),
    "actor_context": ("actor", "context"),
    "actor_email": ("actor", "email"),
    "actor_type": ("actor", "type"),
    "raw_method": ("raw", "method"),
    "raw_status_code": ("raw", "status_code"),
    "resource_product": ("resource", "product"),
    "resource_scope": ("resource", "scope"),
    "resource_type": ("resource", "type"),
}


def world_of(**options: Any) -> World:
    return World(SandboxOptions(**{"end_at": END, "events": 200, "span_seconds": 14_400.0, **options}))


def read(world: World, recover: str = "all", budget_calls: int = 0, **stream: Any) -> list[Extract]:
    with Sandbox(world) as sandbox:
        context = SourceContext(
            Stream(world.accounts[0].id, "auditlogs", **stream),
            TokenCredential(world.tokens["account"]),
            lambda: END,
            recover=Recover(recover),
        )
        with closing(AuditLogsSource(AuditLogsConfig(sandbox.mcp_url, budget_calls=budget_calls), context)) as source:
            source.connect()
            return list(source.extract([Window(floor_ms(datetime.fromtimestamp(world.since, UTC)) - HOUR, END + HOUR)]))


def shadows_of(extracts: list[Extract]) -> list[dict[str, Any]]:
    return [row for extract in extracts if extract.shadows is not None for row in extract.shadows.to_pylist()]


def truth_of(world: World) -> dict[datetime, list[dict[str, Any]]]:
    """The refused records by millisecond."""
    found = defaultdict(list)
    for poison in world.poison(world.accounts[0].id):
        found[floor_ms(datetime.fromtimestamp(poison.time_ns / 1e9, UTC))].append(poison.record)
    return found


def value_of(record: dict[str, Any], column: str) -> Any:
    if column == "actor_token_name":
        actor = record.get("actor") or {}
        return (actor.get("token") or {}).get("name") or actor.get("token_name")
    outer, inner = PATHS[column]
    part = record.get(outer)
    return part.get(inner) if isinstance(part, dict) else None


def assert_true(world: World, shadows: list[dict[str, Any]]) -> None:
    truth = truth_of(world)
    for at, count in Counter(floor_ms(shadow["event_time"]) for shadow in shadows).items():
        assert count == len(truth[at])
    for shadow in shadows:
        known = {name: value for name, value in shadow.items() if value is not None and name != "event_time"}
        assert known
        for column, value in known.items():
            assert all(str(value_of(record, column)) == str(value) for record in truth[floor_ms(shadow["event_time"])])


def test_a_refused_row_is_said_to_exist_with_what_filters_admit() -> None:
    world = world_of(poison={"array-response": 3, "long-id": 2})
    shadows = shadows_of(read(world))
    assert len(shadows) == 5
    assert_true(world, shadows)
    facets = ("action_type", "action_result", "actor_type", "raw_method", "raw_status_code", "resource_scope")
    assert all(shadow[facet] is not None for shadow in shadows for facet in facets)
    assert sum(shadow["actor_email"] is not None for shadow in shadows) >= 3


def test_what_is_odd_about_a_row_stays_unknown() -> None:
    world = world_of(poison={"api-context": 4})
    shadows = shadows_of(read(world))
    assert len(shadows) == 4
    assert all(shadow.get("actor_context") is None for shadow in shadows)


def test_a_filter_of_the_stream_is_known_of_its_shadows() -> None:
    world = world_of(poison={"array-response": 12})
    shadows = shadows_of(read(world, filters=(("action_result", "success"),)))
    assert shadows
    assert {shadow["action_result"] for shadow in shadows} == {"success"}
    assert_true(world, shadows)


@pytest.mark.parametrize(("recover", "budget_calls"), [("off", 0), ("auto", 160)])
def test_what_may_not_be_asked_casts_no_shadow(recover: str, budget_calls: int) -> None:
    extracts = read(world_of(poison={"array-response": 1}, events=20), recover, budget_calls)
    assert shadows_of(extracts) == []
    assert sum(len(extract.gaps) for extract in extracts) == 1


@settings(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck))
@example(150, 57, 600.0, 6, "adjacent", (True, True))  # the only rows nearby lie between two milliseconds
@given(
    seed=st.integers(0, 10_000),
    events=st.integers(1, 60),
    span=st.sampled_from([0.05, 600.0]),
    poison=st.integers(1, 12),
    placement=st.sampled_from(["random", "adjacent", "tied"]),
    edges=st.tuples(st.booleans(), st.booleans()),
)
def test_no_shadow_says_what_is_not_true_of_its_row(
    seed: int, events: int, span: float, poison: int, placement: str, edges: tuple[bool, bool]
) -> None:
    world = world_of(
        seed=seed,
        events=events,
        span_seconds=span,
        poison={"all": min(poison, events)},
        poison_placement=placement,
        ties=0.5,
        since_inclusive=edges[0],
        before_inclusive=edges[1],
    )
    assert_true(world, shadows_of(read(world)))
