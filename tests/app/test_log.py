from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from cfaudit_export.app.log import logging_through, logging_to
from cfaudit_export.core.redaction import Redaction

LOG = logging.getLogger("cfaudit_export.something")
SECRET = "cfut_0123456789abcdef"


@contextmanager
def lines(form: str, verbosity: int = 0) -> Iterator[tuple[io.StringIO, Redaction]]:
    stream, redaction = io.StringIO(), Redaction()
    with logging_to(stream, form=form, verbosity=verbosity, redaction=redaction):
        yield stream, redaction


def test_a_json_line_has_the_fixed_text_and_what_varies() -> None:
    with lines("json") as (stream, _):
        LOG.info("window done", extra={"events": 1000, "window": "a/b", "time": "theirs"})
    line = json.loads(stream.getvalue())
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "info",
        "logger": "cfaudit_export.something",
        "message": "window done",
        "events": 1000,
        "window": "a/b",
        "time_": "theirs",
    }


def test_a_text_line_quotes_values_that_are_not_one_word() -> None:
    with lines("text") as (stream, _):
        LOG.info("batch loaded", extra={"sink": "s3", "error": 'no "way"', "empty": ""})
    assert stream.getvalue().endswith(' INFO batch loaded sink=s3 error="no \\"way\\"" empty=""\n')


@pytest.mark.parametrize("form", ["json", "text"])
def test_what_a_library_warns_of_is_one_line_like_any_other(form: str) -> None:
    before = warnings.showwarning
    with warnings.catch_warnings(), lines(form, verbosity=-1) as (stream, redaction):
        warnings.simplefilter("always")
        redaction.hide(SECRET)
        warnings.warn(f"\n  Python is old.\n  Use {SECRET}\x1b[2J", FutureWarning, stacklevel=1)
    [line] = stream.getvalue().splitlines()
    assert line.isprintable()
    for word in ("library warning", "Python is old.", "***", "FutureWarning", "test_log.py:"):
        assert word in line
    assert warnings.showwarning is before


@pytest.mark.parametrize("form", ["json", "text"])
def test_control_characters_cannot_forge_a_line_or_act_on_a_terminal(form: str) -> None:
    with lines(form) as (stream, _):
        LOG.info("odd", extra={"said": "x\n2026 INFO fine\x1b[2J\u202e\x9b"})
    assert stream.getvalue().count("\n") == 1
    assert stream.getvalue().strip().isprintable()


@pytest.mark.parametrize("form", ["json", "text"])
def test_a_known_secret_is_never_written(form: str) -> None:
    quoted = 'pass"word\\é-long'
    with lines(form) as (stream, redaction):
        redaction.hide(SECRET)
        redaction.hide(quoted)
        try:
            int(SECRET)
        except ValueError:
            LOG.exception("failed with %s", SECRET, extra={"header": f"Bearer {SECRET}", "other": quoted})
    written = stream.getvalue()
    assert SECRET not in written
    assert "word" not in written
    assert written.count("***") == 4


def test_a_short_or_empty_secret_does_not_blank_the_log() -> None:
    redaction = Redaction()
    redaction.hide("")
    redaction.hide(None)
    redaction.hide("a")
    assert redaction("a banana") == "a banana"


@pytest.mark.parametrize(
    ("verbosity", "own", "foreign"),
    [(-1, "WARNING", "WARNING"), (0, "INFO", "WARNING"), (1, "DEBUG", "WARNING"), (2, "DEBUG", "DEBUG")],
)
def test_verbosity_decides_who_may_speak(verbosity: int, own: str, foreign: str) -> None:
    library = logging.getLogger("somelibrary")
    with lines("text", verbosity):
        assert logging.getLevelName(LOG.getEffectiveLevel()) == own
        assert logging.getLevelName(library.getEffectiveLevel()) == foreign


def test_logging_is_left_as_it_was() -> None:
    root = logging.getLogger()
    before = (list(root.handlers), root.level, logging.getLogger("cfaudit_export").level)
    with lines("json", 2):
        assert len(root.handlers) == len(before[0]) + 1
    assert (list(root.handlers), root.level, logging.getLogger("cfaudit_export").level) == before


@pytest.mark.parametrize("form", ["json", "text"])
def test_a_traceback_follows_its_line(form: str) -> None:
    with lines(form) as (stream, _):
        try:
            1 / 0  # noqa: B018  # the traceback is what is tested
        except ZeroDivisionError:
            LOG.exception("broken")
    assert "ZeroDivisionError" in stream.getvalue()
    if form == "json":
        assert "ZeroDivisionError" in json.loads(stream.getvalue())["traceback"]


def test_somebody_elses_log_gets_the_text_with_what_varies_and_is_the_only_one(
    caplog: pytest.LogCaptureFixture,
) -> None:
    said: list[tuple[int, str]] = []
    logger = logging.getLogger("cfaudit_export.pipeline.run")
    with logging_through(lambda level, text: said.append((level, text))):
        logger.info("window done", extra={"window": "a b", "events": 3})
    assert said == [(logging.INFO, 'window done window="a b" events=3')]
    assert not caplog.records
    logger.warning("afterwards")
    assert [record.message for record in caplog.records] == ["afterwards"]
    assert len(said) == 1


@pytest.mark.parametrize(("verbosity", "lines"), [(-1, 1), (0, 2), (1, 2)])
def test_a_person_is_told_of_gaps_once_and_a_log_has_them(verbosity: int, lines: int) -> None:
    written = io.StringIO()
    with logging_to(written, form="text", verbosity=verbosity, redaction=Redaction()):
        logging.getLogger("cfaudit_export.pipeline.run").warning("gaps remain", extra={"gaps": 2})
        logging.getLogger("cfaudit_export.pipeline.run").warning("something else")
    assert len(written.getvalue().splitlines()) == lines
