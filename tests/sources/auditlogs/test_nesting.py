"""Rows that are nested beyond what decoders take."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cfaudit_export.errors import ProtocolError
from cfaudit_export.sources.auditlogs.nesting import read_page
from cfaudit_export.sources.paging.query import Rejection

DEEP = "[" * 5_000 + "]" * 5_000
ROW: dict[str, Any] = {"description": 'say "]}" \\"', "time": "2026-11-20T00:00:00.000Z"}


def page(*rows: str) -> str:
    return f'{{"logs":[{",".join(rows)}],"result_info":{{"count":{len(rows)}}}}}'


@pytest.mark.parametrize(
    "deep",
    [
        '{"description":DEEP,"time":"2026-11-20T00:00:00Z"}'.replace("DEEP", DEEP),
        '{"zz":{"a":DEEP}}'.replace("DEEP", DEEP),
        DEEP,
    ],
)
def test_a_row_that_is_nested_too_deeply_is_one_that_cannot_be_read(deep: str) -> None:
    row = json.dumps(ROW)
    found = read_page(page(row, deep, row, deep))
    assert isinstance(found, Rejection)
    assert [issue.index for issue in found.issues] == [1, 3]
    assert "nested more than 100 levels" in found.issues[0].reason


def test_what_decoders_take_is_read() -> None:
    found = read_page(page(json.dumps(ROW), json.dumps(ROW | {"description": None})))
    assert not isinstance(found, Rejection)
    assert found.rows.num_rows == 2


@pytest.mark.parametrize(
    "text",
    [DEEP, '{"logs":[],"result_info":{"count":0,"x":DEEP}}'.replace("DEEP", DEEP), '{"lo":DEEP}'.replace("DEEP", DEEP)],
)
def test_a_page_that_is_deep_elsewhere_is_not_understood(text: str) -> None:
    with pytest.raises(ProtocolError, match="nested too deeply"):
        read_page(text)
