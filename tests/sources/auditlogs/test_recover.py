"""Columns rebuilt by filters, over HTTP, against the records that the server keeps to itself."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import pyarrow as pa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cfaudit_export.auth.token import TokenCredential
from cfaudit_export.core.model import Stream, Window, floor_ms
from cfaudit_export.plugin.interfaces import Extract
from cfaudit_export.plugin.records import Recover, SourceContext
from cfaudit_export.sources.auditlogs import AuditLogsConfig
from cfaudit_export.sources.auditlogs.shadow_probe import MOST_CALLS
from cfaudit_export.sources.auditlogs.source import AuditLogsSource
from cfaudit_export.sources.paging.facets import CANDIDATES
from cfaudit_sandbox import Sandbox, SandboxOptions, World
from cfaudit_sandbox.world.query import value_of

END = datetime(2026, 11, 20, tzinfo=UTC)
FACETS = tuple(CANDIDATES)
Cells = tuple[Any, ...]


def read(world: World, mode: Literal["auto", "off", "all"] = "all", **config: Any) -> list[Extract]:
    since = floor_ms(datetime.fromtimestamp(world.since, UTC)) - timedelta(hours=1)
    with Sandbox(world) as sandbox:
        token = TokenCredential(world.tokens["account"])
        context = SourceContext(Stream(world.accounts[0].id, "auditlogs"), token, lambda: END, recover=Recover(mode))
        config = {"budget_calls": 0, "server_url": sandbox.mcp_url, **config}
        with closing(AuditLogsSource(AuditLogsConfig(**config), context)) as source:
            source.connect()
            return list(source.extract([Window(since, END + timedelta(hours=1))]))


def text_of(row: dict[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace").decode()


def truth(world: World) -> dict[str, Counter[Cells]]:
    """By text of a row, what its filters would be met by; several where rows look the same."""
    account = world.accounts[0].id
    readable = Counter(map(text_of, world.rows(account)))
    odd = {row.record["id"] for row in world.poison(account) if "id" in row.record}
    found: dict[str, Counter[Cells]] = defaultdict(Counter)
    clean = [record for record in world.records(account) if record.get("id") not in odd]
    for record, row in zip(clean, world.rows(account), strict=True):
        cells = (value_of(record, facet) for facet in FACETS)
        found[text_of(row)][
            tuple(cell if str(cell) in CANDIDATES[f] else None for f, cell in zip(FACETS, cells, strict=True))
        ] += 1
    assert Counter({text: counts.total() for text, counts in found.items()}) == readable
    return found


def rebuilt(extracts: list[Extract]) -> dict[str, list[Cells]]:
    found: dict[str, list[Cells]] = defaultdict(list)
    for extract in extracts:
        if not extract.events.num_rows:
            continue
        columns = [extract.events[facet].to_pylist() for facet in FACETS]
        for text, *cells in zip(extract.events["event_raw"].to_pylist(), *columns, strict=True):
            found[text].append(tuple(cells))
    return found


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    seed=st.integers(0, 10_000),
    events=st.integers(1, 60),
    span=st.sampled_from([0.05, 600.0]),
    twins=st.sampled_from([0.0, 0.6]),
    edges=st.tuples(st.booleans(), st.booleans()),
    page_size=st.sampled_from([5, 1000]),
    piece_rows=st.sampled_from([1, 20, 20_000]),
)
def test_rebuilt_columns_are_true_or_empty_and_empty_only_where_rows_look_the_same(
    *, seed: int, events: int, span: float, twins: float, edges: tuple[bool, bool], page_size: int, piece_rows: int
) -> None:
    world = World(
        SandboxOptions(
            end_at=END,
            seed=seed,
            events=events,
            span_seconds=span,
            ties=0.6,
            twins=twins,
            since_inclusive=edges[0],
            before_inclusive=edges[1],
        )
    )
    found, expected = rebuilt(read(world, page_size=page_size, piece_rows=piece_rows)), truth(world)
    assert found.keys() == expected.keys()
    for text, cells in found.items():
        possible = expected[text]
        if len(possible) == 1:  # one row, or rows that are the same in everything that can be asked
            assert cells == list(possible.elements())
            continue
        for place in range(len(FACETS)):  # which of the twins has which value makes no difference; how many do, does
            said = Counter(one[place] for one in cells if one[place] is not None)
            assert said <= _column(possible, place)
        whole = Counter(one for one in cells if None not in one)
        assert whole <= possible, "values that go together belong to one row"


def test_between_odd_rows_and_in_small_pieces_rebuilt_columns_are_true_and_few_stay_empty() -> None:
    world = World(SandboxOptions(end_at=END, seed=3, events=240, span_seconds=600.0, twins=0.0, poison_fraction=0.03))
    found, expected = rebuilt(read(world, page_size=10, piece_rows=30, concurrency=1)), truth(world)
    assert {text: len(cells) for text, cells in found.items()} == {text: c.total() for text, c in expected.items()}
    single = [(*cells, *expected[text]) for text, cells in found.items() if len(cells) == 1]
    pairs = [pair for said, true in single for pair in zip(said, true, strict=True)]
    assert all(said in (None, true) for said, true in pairs)
    assert sum(said != true for said, true in pairs) < len(pairs) / 20


def test_around_odd_rows_columns_are_all_there_for_a_bounded_number_of_calls() -> None:
    """A refusal says where rejected rows stand, so that counting takes the place of reading around each of them."""
    odd = 8
    options = {"end_at": END, "seed": 4, "events": 160, "span_seconds": 3_600.0, "twins": 0.0, "ties": 0.0}
    world = World(SandboxOptions(**options, poison={"delegated-service": odd}))
    plain, whole = read(world, "off", concurrency=1), read(world, "all", concurrency=1)
    found, expected = rebuilt(whole), truth(world)
    assert {text: Counter(cells) for text, cells in found.items()} == expected
    calls = [sum(one.calls for one in extracts) for extracts in (plain, whole)]
    values = sum(map(len, CANDIDATES.values()))
    assert calls[1] - calls[0] <= values + len(CANDIDATES) * 2 * odd + MOST_CALLS


def test_each_page_of_a_value_is_read_once_however_many_pieces_there_are() -> None:
    world = World(SandboxOptions(end_at=END, seed=5, events=600, span_seconds=3_600.0, twins=0.0))
    size = 50
    extracts = read(world, page_size=size, piece_rows=100)
    calls = sum(one.calls for one in extracts)
    assert len([one for one in extracts if one.events.num_rows]) > 4
    events = pa.concat_tables([one.events.select(FACETS) for one in extracts if one.events.num_rows])
    least = math.ceil(events.num_rows / size)
    for facet in FACETS:
        rows = Counter(map(str, events[facet].to_pylist()))
        least += sum(max(1, math.ceil(rows[value] / size)) for value in CANDIDATES[facet])
    pages_cut_short = 1 + len(extracts)  # where a piece ends the walk reads on behind it
    assert calls <= least + pages_cut_short


def _column(possible: Counter[Cells], place: int) -> Counter[Any]:
    column: Counter[Any] = Counter()
    for cells, count in possible.items():
        column[cells[place]] += count
    return column


def test_what_the_budget_leaves_out_is_counted_and_said() -> None:
    world = World(SandboxOptions(end_at=END, events=400, span_seconds=3_600.0))
    extracts = read(world, "auto", budget_calls=12)
    assert sum(extract.trimmed for extract in extracts) == 400
    assert {one for extract in extracts for one in extract.events["fidelity"].to_pylist()} == {"trimmed"}
    extracts = read(world, "auto", budget_calls=2_000)
    assert sum(extract.trimmed for extract in extracts) == 0
    assert {one for extract in extracts for one in extract.events["fidelity"].to_pylist()} == {"recovered"}
