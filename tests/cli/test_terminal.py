from __future__ import annotations

import pytest

from cfaudit_export.cli.terminal import Terminal

ODD = "a\x1b[2J\u202eb\nc"
SHOWN = "a\\x1b[2J\\u202eb"


def test_an_error_is_one_line_whatever_the_server_said(capsys: pytest.CaptureFixture[str]) -> None:
    Terminal().fail(ODD)
    assert capsys.readouterr().err == f"cfaudit-export: {SHOWN}\\nc\n"


def test_lines_and_cells_are_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    terminal = Terminal()
    terminal.say(ODD)
    terminal.answer(ODD)
    terminal.table(("what", ">n"), [(ODD, 1)])
    terminal.table(("what", ">n"), [("[bold]x[/bold]", 2)], answer=False)
    out, err = capsys.readouterr()
    assert out.startswith(f"{SHOWN}\nc\n")
    assert f"{SHOWN}\\nc" in out
    assert "[bold]x[/bold]" in err
    assert "\x1b" not in out + err


def test_secrets_are_hidden_everywhere(capsys: pytest.CaptureFixture[str]) -> None:
    terminal = Terminal()
    terminal.redaction.hide("cfut_0123456789")
    terminal.say("x cfut_0123456789")
    terminal.answer("x cfut_0123456789")
    terminal.fail("x cfut_0123456789")
    terminal.table(("what",), [("x cfut_0123456789",)])
    out, err = capsys.readouterr()
    assert "cfut_" not in out + err
    assert (out + err).count("***") == 4


def test_a_row_is_a_line_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    Terminal().table(("what",), [("long " * 100,)])
    assert len(capsys.readouterr().out.splitlines()) == 2
