"""The pictures of the documentation, made from the program's own output: `python docs/generate.py --pictures`.

Terminals are SVG, without fonts from elsewhere. Pages are PNG by a browser, if there is one (`chromium`). All data is
the sandbox's, from a fixed seed.
"""  # noqa: INP001 - a script, no part of a package

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cfaudit_sandbox import Sandbox, SandboxOptions, World

FOLDER = Path(__file__).parent / "pictures"
_COLUMNS, _LINES = 100, 36
_SEED, _EVENTS = 7, 4_000
# An upright page of a screen, and a phone's.
_PAGE = (1_000, 1_080)


@dataclass(frozen=True, slots=True)
class TerminalPicture:
    """What a command prints, as a picture."""

    name: str
    command: tuple[str, ...]
    lines: int = _LINES


@dataclass(frozen=True, slots=True)
class PagePicture:
    """A page that a command writes, as a picture in light and in dark colours."""

    name: str
    command: tuple[str, ...]


TERMINALS = (
    TerminalPicture("demo", ("demo",)),
    TerminalPicture("plan", ("plan", "--since", "30d")),
    TerminalPicture("run", ("run",)),
    TerminalPicture("status", ("status",)),
    TerminalPicture("events", ("events", "-n", "8")),
    TerminalPicture("report", ("report", "--since", "7d")),
    TerminalPicture("timeline", ("timeline", "--since", "1d")),
)
"""The pictures of terminals, in the order in which the commands are run."""

PAGES = (
    PagePicture("report", ("report", "--since", "7d", "--html", "report.html")),
    PagePicture("timeline", ("timeline", "--since", "1d", "--html", "timeline.html")),
)
"""The pictures of pages."""

DIAGRAMS = ("flow", "delivery")
"""The diagrams, which are drawn here."""


def names() -> set[str]:
    """Return the names of all files of pictures."""
    return {
        *(f"{one.name}.svg" for one in TERMINALS),
        *(f"{one.name}-{colours}.png" for one in PAGES for colours in ("light", "dark")),
        *(f"{name}.svg" for name in DIAGRAMS),
    }


def make() -> None:
    """Make every picture; those of pages only where there is a browser."""
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / "flow.svg").write_text(_flow(), encoding="utf-8")
    (FOLDER / "delivery.svg").write_text(_delivery(), encoding="utf-8")
    options = SandboxOptions(events=_EVENTS, seed=_SEED, throttle_calls=1_200)
    with tempfile.TemporaryDirectory() as folder, Sandbox(World(options)) as sandbox:
        home = Path(folder) / "audit"
        home.mkdir()
        environ = _environ(home, sandbox)
        _ran(("init", "--sink", "parquet", "--save-token"), home, environ)
        for one in TERMINALS:
            said = _ran(one.command, home, environ).replace(str(home), "~/audit")
            picture = _terminal(f"cfaudit-export {' '.join(one.command)}", said, one.lines)
            (FOLDER / f"{one.name}.svg").write_text(picture, encoding="utf-8")
        for page in PAGES:
            _ran(page.command, home, environ)
            _photograph(home / page.command[-1], page.name)


def _environ(home: Path, sandbox: Sandbox) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CFAUDIT_", "CLOUDFLARE_"))}
    programs = f"{Path(sys.executable).parent}{os.pathsep}{kept.get('PATH', os.defpath)}"
    return kept | {
        "HOME": str(home),
        "PATH": programs,
        "TERM": "xterm-256color",
        "COLUMNS": str(_COLUMNS),
        "CLOUDFLARE_API_TOKEN": sandbox.world.tokens["user"],
        "CFAUDIT_SOURCES__AUDITLOGS__SERVER_URL": sandbox.mcp_url,
        "CFAUDIT_SOURCES__CODEMODE__SERVER_URL": sandbox.codemode_url,
    }


def _ran(command: tuple[str, ...], home: Path, environ: dict[str, str]) -> str:
    """Run a command at a terminal of its own, and return what a person would see in the end."""
    ours, theirs = pty.openpty()
    program = str(Path(sys.executable).parent / "cfaudit-export")
    with subprocess.Popen(  # noqa: S603  # the commands are the ones above
        [program, *command], cwd=home, env=environ, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs
    ) as running:
        os.close(theirs)
        said = b""
        while select.select([ours], [], [], 300)[0]:
            try:
                said += os.read(ours, 1 << 16)
            except OSError:  # the program has ended
                break
        code = running.wait()
    os.close(ours)
    text = said.decode().replace("\r\n", "\n")
    if code:
        raise SystemExit(f"{' '.join(command)} ended with {code}:\n{text}")
    # A progress bar goes when its work is done: what it wrote is wiped from the screen.
    return re.sub(r"\x1b\[\?25l.*?\x1b\[\?25h(?:\r\x1b\[1A\x1b\[2K|\r\x1b\[2K)?", "", text, flags=re.DOTALL)


def _terminal(title: str, said: str, most: int) -> str:
    """Return a text with its colours as SVG."""
    import io

    from rich.console import Console
    from rich.terminal_theme import MONOKAI
    from rich.text import Text

    lines = said.strip("\n").split("\n")
    shown = lines if len(lines) <= most else [*lines[: most - 1], "..."]
    console = Console(record=True, width=_COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(Text(f"$ {title}", style="bold"))
    console.print(Text.from_ansi("\n".join(shown)), overflow="fold")
    picture = console.export_svg(title=title, theme=MONOKAI, unique_id=re.sub(r"\W+", "-", title))
    picture = re.sub(r"\s*@font-face \{.*?\}", "", picture, flags=re.DOTALL)
    picture = picture.replace(
        "font-family: Fira Code, monospace", "font-family: ui-monospace, Menlo, Consolas, monospace"
    )
    return "\n".join(line.rstrip() for line in picture.splitlines()) + "\n"


def _photograph(page: Path, name: str) -> None:
    """Take a picture of a page in light and in dark colours."""
    if not shutil.which("chromedriver"):
        sys.stderr.write(f"no picture of {name}: there is no chromedriver\n")
        return
    for colours in ("light", "dark"):
        with _browser() as browser:
            media = {"features": [{"name": "prefers-color-scheme", "value": colours}]}
            browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
            browser.get(page.as_uri())
            browser.save_screenshot(str(FOLDER / f"{name}-{colours}.png"))


@contextmanager
def _browser() -> Iterator[object]:
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"):
        options.add_argument(argument)
    options.add_argument(f"--window-size={_PAGE[0]},{_PAGE[1]}")
    browser = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        yield browser
    finally:
        browser.quit()


# -- diagrams ---------------------------------------------------------------------------------------

_HEAD = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" aria-label="{about}">
<style>
  text {{ font-family: system-ui, -apple-system, "Segoe UI", sans-serif; font-size: 14px; fill: #1b1f24; }}
  .small {{ font-size: 12px; fill: #57606a; }}
  .box {{ fill: #ffffff; stroke: #8c959f; }}
  .ours {{ fill: #fff4e5; stroke: #d9730d; }}
  .arrow {{ stroke: #57606a; fill: none; marker-end: url(#tip); }}
</style>
<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">
<path d="M0 0 L8 4 L0 8 z" fill="#57606a"/></marker></defs>
<rect width="{width}" height="{height}" rx="8" fill="#f6f8fa"/>
"""


def _box(x: int, y: int, width: int, title: str, about: str = "", *, kind: str = "box") -> str:
    lines = [f'<rect class="{kind}" x="{x}" y="{y}" width="{width}" height="48" rx="6"/>']
    middle = x + width // 2
    lines.append(f'<text x="{middle}" y="{y + (21 if about else 29)}" text-anchor="middle">{title}</text>')
    if about:
        lines.append(f'<text class="small" x="{middle}" y="{y + 38}" text-anchor="middle">{about}</text>')
    return "\n".join(lines) + "\n"


def _arrow(x: int, y: int, to_x: int, to_y: int) -> str:
    return f'<path class="arrow" d="M{x} {y} L{to_x} {to_y}"/>\n'


def _flow() -> str:
    """Draw what is read, what a run does, and where events go."""
    text = _HEAD.format(
        width=960, height=292, about="Two servers of Cloudflare, one run with its checkpoint, four sinks"
    )
    text += _box(20, 60, 190, "API MCP server", "codemode: whole records")
    text += _box(20, 152, 190, "Audit Logs MCP server", "auditlogs: six fields")
    steps = (("plan", "which time"), ("extract", "in parallel"), ("map", "one schema"), ("stage", "on disk"))
    text += '<rect class="ours" x="250" y="30" width="450" height="200" rx="8"/>\n'
    text += '<text x="475" y="54" text-anchor="middle">cfaudit-export run</text>\n'
    for number, (title, about) in enumerate(steps):
        text += _box(264 + 108 * number, 70, 96, title, about)
        if number:
            text += _arrow(252 + 108 * number, 94, 262 + 108 * number, 94)
    text += _box(264, 166, 204, "checkpoint", "covered time, gaps, intents")
    text += _box(480, 166, 204, "load, then commit", "each sink for itself")
    text += _arrow(636, 118, 600, 164) + _arrow(480, 190, 470, 190)
    text += _arrow(210, 84, 248, 94) + _arrow(210, 176, 248, 120)
    for number, (title, about) in enumerate(
        (("Parquet", "folders by day"), ("S3", "the same, in a bucket"), ("BigQuery", "a table"), ("Splunk", "HEC"))
    ):
        text += _box(750, 20 + 60 * number, 190, title, about)
        text += _arrow(700, 190, 748, 44 + 60 * number)
    text += '<text class="small" x="20" y="274">report, timeline and sql read the exported files; '
    return text + "they call no server of Cloudflare.</text>\n</svg>\n"


def _delivery() -> str:
    """Draw in which order things become durable, and what a crash in between leaves."""
    text = _HEAD.format(width=960, height=190, about="Stage, intent, load, commit, and what happens after a crash")
    steps = (
        ("stage", "events on disk, synced", "nothing was promised: read again"),
        ("intent", "the batch in the checkpoint", "loaded from the staged file"),
        ("load", "the sink has it, durably", "asked for by its name, not doubled"),
        ("commit", "covered in the checkpoint", "done"),
    )
    text += '<text x="20" y="30">What becomes durable, in this order</text>\n'
    text += '<text class="small" x="20" y="130">What the next run does after a crash behind this step</text>\n'
    for number, (title, about, after) in enumerate(steps):
        x = 20 + 235 * number
        text += _box(x, 46, 205, title, about, kind="ours") + _box(x, 140, 205, after)
        if number:
            text += _arrow(x - 30, 70, x - 2, 70)
        text += _arrow(x + 102, 94, x + 102, 138) if number else ""
    return text.replace('<text class="small" x="20" y="130">', '<text class="small" x="20" y="116">') + "</svg>\n"


if __name__ == "__main__":
    make()
