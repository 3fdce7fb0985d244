"""What was found, as values, each with the line that says it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cfaudit_export.core.model import Window, iso
from cfaudit_export.errors import ExitCode
from cfaudit_export.proof.chain import file_name

Kind = Literal["invalid", "incomplete", "note"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found.

    Attributes:
        kind: `invalid` for what was changed, removed or added; `incomplete` for what is not proved; `note` for what a
            reader should know.
        about: `manifest`, `file`, `batch`, `event`, `time`, `gap`, `chain`.
        name: of the file, the manifest, ...; empty where there is none.
        what: what is so.
        window: the time that it is about, where it is about one.
    """

    kind: Kind
    about: str
    name: str
    what: str
    window: Window | None = None

    @property
    def line(self) -> str:
        """Return the line that says it."""
        if self.kind == "invalid":
            return f"{self.name}  INVALID: {self.what}"
        return f"{self.name}: {self.what}" if self.name else self.what


def invalid(about: str, name: str, what: str, window: Window | None = None) -> Finding:
    """Return the finding that something was changed, removed or added."""
    return Finding("invalid", about, name, what, window)


def incomplete(about: str, what: str, window: Window | None = None, name: str = "") -> Finding:
    """Return the finding that something is not proved."""
    return Finding("incomplete", about, name, what, window)


def note(about: str, what: str) -> Finding:
    """Return a finding that changes no verdict."""
    return Finding("note", about, "", what)


def manifest_label(chain: str, sequence: int, *, alone: bool) -> str:
    """Return what a manifest is called; its chain is named where there are several."""
    number = file_name(sequence).removesuffix(".json")
    return f"Manifest {number}" if alone else f"Manifest {number} of {chain}"


def span(window: Window) -> str:
    """Return a time as people read it; one millisecond is a moment."""
    if window.duration.total_seconds() <= 0.001:
        return iso(window.since)
    return f"{iso(window.since)} to {iso(window.before)}"


def files_of(count: int) -> str:
    """Return a number of files in words."""
    return f"{count:,} file{'s' if count != 1 else ''}"


def verdict(findings: tuple[Finding, ...]) -> ExitCode:
    """Return what all findings together mean."""
    kinds = {one.kind for one in findings}
    if "invalid" in kinds:
        return ExitCode.CHANGED
    return ExitCode.INCOMPLETE if "incomplete" in kinds else ExitCode.OK
