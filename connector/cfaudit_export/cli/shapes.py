"""Options about shapes, of several commands."""

from __future__ import annotations

from typing import Annotated

import typer

from cfaudit_export.shapes.view import SHAPES

ShapeOption = Annotated[
    str | None, typer.Option("--shape", help="also offer events in another shape", metavar="|".join(SHAPES))
]
ShapeVersion = Annotated[
    str | None,
    typer.Option("--shape-version", help="version of the shape, as in 1.6.0 (default: newest)", metavar="VERSION"),
]
