"""`--help` as plain text in groups: quick to print, and readable in 80 columns, in a pipe and in a manual.

typer's own boxes would cost more time than the rest of the program's start.
"""

from __future__ import annotations

import inspect
import textwrap
from itertools import groupby
from typing import Any

from typer.core import TyperCommand

_PLAIN = "Options"
_MOST_TERM = 30
_LEAST_TEXT = 10


class HelpfulCommand(TyperCommand):
    """A command that shows its options in their panels and its epilog as it is, and breaks lines between words only."""

    def format_help_text(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002  # the signature is typer's
        """Write the text of the command, paragraph by paragraph."""
        for paragraph in inspect.cleandoc(self.help or "").split("\n\n"):
            formatter.write_paragraph()
            formatter.write("".join(f"  {line}\n" for line in _wrapped(paragraph, formatter.width - 2)))

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the options, panel by panel."""
        write_options(self, ctx, formatter)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002  # the signature is typer's
        """Write the epilog."""
        write_lines(self.epilog, formatter)


def write_options(command: Any, ctx: Any, formatter: Any) -> None:
    """Write the options of a command, panel by panel."""
    panels: dict[str, list[tuple[str, str]]] = {}
    for option in command.get_params(ctx):
        if option.param_type_name != "option" or option.hidden:
            continue
        names = ", ".join(sorted([*option.opts, *option.secondary_opts], key=len))
        term = names if option.is_flag or option.count else f"{names} {option.metavar or option.name.upper()}"
        panels.setdefault(option.rich_help_panel or _PLAIN, []).append((term, option.help or ""))
    # What every command has comes last.
    for panel in sorted(panels, key=lambda name: name == _PLAIN):
        with formatter.section(panel):
            _write_terms(panels[panel], formatter)


def write_lines(text: str | None, formatter: Any) -> None:
    """Write a text, indented: its paragraphs in lines that fit, and lines that are indented already as they are."""
    if not text:
        return
    formatter.write_paragraph()
    for is_prose, run in groupby(inspect.cleandoc(text).splitlines(), lambda line: line[:1].strip() != ""):
        lines = list(run)
        if is_prose:
            lines = _wrapped(" ".join(lines), formatter.width - 2)
        formatter.write("".join(f"  {line}".rstrip() + "\n" for line in lines))


def _write_terms(terms: list[tuple[str, str]], formatter: Any) -> None:
    """Write terms, and beside each what it means; under it where the term is long."""
    margin = " " * formatter.current_indent
    wide = min(_MOST_TERM, max(len(term) for term, _ in terms))
    room = max(formatter.width - len(margin) - wide - 2, _LEAST_TEXT)
    for term, meaning in terms:
        first, *others = _wrapped(meaning, room) or [""]
        head = f"{margin}{term:<{wide}}  " if len(term) <= wide else f"{margin}{term}\n{margin}{'':<{wide}}  "
        formatter.write(f"{head}{first}".rstrip() + "\n")
        formatter.write("".join(f"{margin}{'':<{wide}}  {other}\n" for other in others))


def _wrapped(text: str, room: int) -> list[str]:
    return textwrap.wrap(text, room, break_long_words=False, break_on_hyphens=False)
