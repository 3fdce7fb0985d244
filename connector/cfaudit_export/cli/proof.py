"""What the commands share that look at proof: keys and anchors as options, and what is proved of a period."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cfaudit_export.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from cfaudit_export.analysis.files.location import Location
    from cfaudit_export.analysis.verify.verified import Verified
    from cfaudit_export.core.model import Window
    from cfaudit_export.proof.chain import Anchor

PROOF = "How to prove"

Keys = Annotated[
    list[str] | None,
    typer.Option(
        "--public-key",
        help="file with a public key; of successive keys, one is enough; repeatable",
        metavar="FILE",
        rich_help_panel=PROOF,
    ),
]
Anchors = Annotated[
    list[str] | None,
    typer.Option(
        "--anchor",
        help="anchor kept elsewhere: SEQUENCE:SHA256, or a file of such lines, such as a log; repeatable",
        metavar="FILE|HASH",
        rich_help_panel=PROOF,
    ),
]


def proved(
    place: Location, keys: Sequence[str], anchors: Sequence[str], period: Window, about: Sequence[str]
) -> Verified | None:
    """Return what is proved of a period without a look at rows; None where no public key is given.

    Raises:
        CfauditError: a key, an anchor or the place cannot be used.
    """
    from cfaudit_export.analysis.files.location import reading_failed
    from cfaudit_export.analysis.verify.records import read_records
    from cfaudit_export.analysis.verify.verify import Asked, verify
    from cfaudit_export.proof.keys import load_public_key

    if not keys:
        if anchors:
            raise UsageError("--anchor needs --public-key")
        return None
    asked = Asked(
        keys=tuple(load_public_key(Path(one).expanduser()) for one in keys),
        since=period.since,
        until=period.before,
        accounts=tuple(about),
        anchors=tuple(found for one in anchors for found in anchors_in(one)),
        quick=True,
    )
    try:
        return verify(place, read_records(place), asked)
    except OSError as error:
        raise reading_failed(place, error) from error


def ended(proof: Verified | None, otherwise: ExitCode = ExitCode.OK) -> ExitCode:
    """Return the exit code of an answer: before all else, that the data it comes from was changed."""
    return ExitCode.CHANGED if proof and proof.exit_code == ExitCode.CHANGED else otherwise


def anchors_in(given: str) -> Sequence[Anchor]:
    """Return the anchors that an option gives: itself, or those in a file.

    Raises:
        UsageError: there is none.
    """
    from cfaudit_export.proof.chain import parse_anchors

    try:
        return parse_anchors(given)
    except ValueError:
        pass
    try:
        return parse_anchors(Path(given).expanduser().read_text("utf-8", "replace"))
    except OSError as error:
        raise UsageError(f"--anchor: '{given}' is neither SEQUENCE:SHA256 nor a file: {error.strerror}") from None
    except ValueError as error:
        raise UsageError(f"--anchor: '{given}' {error}") from None
