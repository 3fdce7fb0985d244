"""What counts say of rows that look the same, and which counts are worth asking for."""

from __future__ import annotations

from cfaudit_export.sources.paging.facets import Twins, distribute, wanted_counts

FACETS = ["action_type", "raw_method"]


def twins(rows: int, **counts: dict[str, int]) -> Twins:
    filters = {frozenset([(facet, value)]): n for facet, some in counts.items() for value, n in some.items()}
    return Twins("text", rows, filters)


def test_of_two_facets_that_all_twins_have_one_count_says_which_values_go_together() -> None:
    two = twins(2, action_type={"create": 1, "delete": 1}, raw_method={"POST": 1, "PUT": 1})
    (wanted,) = wanted_counts(two, FACETS)
    assert wanted == {("action_type", "create"), ("raw_method", "POST")}
    for together, pairs in ((1, [("create", "POST"), ("delete", "PUT")]), (0, [("create", "PUT"), ("delete", "POST")])):
        two.counts[wanted] = together
        assert [tuple(row.values()) for row in distribute(two, FACETS)] == pairs


def test_where_some_twins_lack_a_facet_every_value_of_it_is_asked_for() -> None:
    three = twins(3, action_type={"create": 1, "delete": 1}, raw_method={"POST": 1, "PUT": 2})
    wanted = wanted_counts(three, FACETS)
    assert wanted == [{("action_type", value), ("raw_method", "POST")} for value in ("create", "delete")]
    three.counts.update(dict.fromkeys(wanted, 0))
    rows = sorted((row.get("action_type", ""), row["raw_method"]) for row in distribute(three, FACETS))
    assert rows == [("", "POST"), ("create", "PUT"), ("delete", "PUT")]


def test_counts_that_contradict_each_other_leave_a_facet_empty() -> None:
    two = twins(2, action_type={"create": 1, "delete": 1}, raw_method={"POST": 1, "PUT": 1})
    two.counts[frozenset([("action_type", "create"), ("raw_method", "POST")])] = 2
    assert [set(row) for row in distribute(two, FACETS)] == [{"action_type"}, {"action_type"}]
