"""A page that is nested beyond what decoders take -> the rows that are to blame, as the server rejects rows."""

from __future__ import annotations

import re

from cfaudit_export.errors import ProtocolError
from cfaudit_export.sources.auditlogs.decode import decode_page
from cfaudit_export.sources.paging.page import Page
from cfaudit_export.sources.paging.query import Issue, Rejection

# Decoders end at some hundreds of levels; a row of the log has two.
DEEPEST = 100
# Where the rows are: in the list that a page has.
_LEVEL_OF_ROWS = 2
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)


def read_page(text: str) -> Page | Rejection:
    """Decode the text of a successful call; a row that is nested too deeply is one that cannot be read.

    Raises:
        ProtocolError: as `decode_page`, and where it is not a row that is nested too deeply.
    """
    try:
        return decode_page(text)
    except RecursionError:
        issues = tuple(Issue(index, "row", f"nested more than {DEEPEST} levels deep") for index in _deep_rows(text))
    if not issues:
        raise ProtocolError("the server's page is nested too deeply to be read; please report this")
    return Rejection(issues)


def _deep_rows(text: str) -> list[int]:
    """Return the positions of the rows that are nested too deeply, ascending."""
    start = text.find('"logs"')
    found: list[int] = []
    level, row = 1, -1
    for token in _TOKEN.finditer(text, start + len('"logs"')) if start >= 0 else ():
        if token[0] in "[{":
            row += level == _LEVEL_OF_ROWS
            level += 1
            if level == _LEVEL_OF_ROWS + DEEPEST + 1:
                found.append(row)
        elif token[0] in "]}":
            level -= 1
            if level < _LEVEL_OF_ROWS:
                break
    return found
