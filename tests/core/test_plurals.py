from __future__ import annotations

import pytest

from cfaudit_export.core.plurals import are, counted


@pytest.mark.parametrize(
    ("number", "said"), [(0, "0 gaps are"), (1, "1 gap is"), (2, "2 gaps are"), (2_000, "2,000 gaps are")]
)
def test_a_number_has_its_noun_and_verb(number: int, said: str) -> None:
    assert f"{counted(number, 'gap')} {are(number)}" == said


def test_a_noun_may_have_a_plural_of_its_own() -> None:
    assert [counted(number, "batch", "batches") for number in (1, 3)] == ["1 batch", "3 batches"]
