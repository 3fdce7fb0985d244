"""An exception -> whose fault it is: the plugin out of whose code it came, or this program."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import metadata
from traceback import walk_tb

from cfaudit_export.core.escape import shown

_GROUP = "cfaudit_export"
_OURS = "cfaudit-export"
# Labels of links in metadata, the best place to report to first.
# https://packaging.python.org/en/latest/specifications/well-known-project-urls/
_LABELS = ("issues", "issue", "bugs", "bugtracker", "tracker", "source", "repository", "homepage", "home")


def report_to(error: BaseException, where: str) -> str:
    """Return the sentence that says what failed, and to whom to report it.

    Args:
        error: what was raised.
        where: where the traceback is, as in `with the lines above`.
    """
    dist = _distribution_of(error)
    if dist is None:
        return f"this is a fault in the program; please report it {where}"
    home = _home(dist)
    place = f" at {home}" if home else ", or where you got it from"
    plugin = f"{shown(dist.name)} {shown(dist.version)}"
    return f"this is a fault in the plugin {plugin}; report it to its author{place} {where}"


def _distribution_of(error: BaseException) -> metadata.Distribution | None:
    """Return the distribution of the plugin whose code is nearest to where it was raised; None where that is ours."""
    packages = {}
    for entry_point in metadata.entry_points(group=_GROUP):
        if entry_point.dist is not None and entry_point.dist.name != _OURS:
            packages[entry_point.module.partition(".")[0]] = entry_point.dist
    for module in _modules(error):
        package = module.partition(".")[0]
        if package in packages:
            return packages[package]
        if package.startswith(_GROUP):
            return None
    return None


def _modules(error: BaseException) -> Iterator[str]:
    """Yield the modules through which an error came, the nearest to its origin first."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    frames = [frame for frame, _ in walk_tb(error.__traceback__)]
    yield from (str(frame.f_globals.get("__name__", "")) for frame in reversed(frames))


def _home(dist: metadata.Distribution) -> str:
    """Return the link under which a distribution wants to hear of faults, else that of its home; empty without one."""
    links = {}
    for line in dist.metadata.get_all("Project-URL") or ():
        label, _, url = line.partition(",")
        links["".join(filter(str.isalpha, label.lower()))] = url.strip()
    links.setdefault("home", next(iter(dist.metadata.get_all("Home-page") or ()), ""))
    found = next((links[label] for label in _LABELS if links.get(label)), "")
    return shown(found) if found.startswith(("https://", "http://")) else ""
