"""The page about proof: what it has to be typed is typed here."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

PAGE = (Path(__file__).parents[3] / "docs" / "proof.md").read_text(encoding="utf-8")
ALONE = PAGE.partition("## Without us")[2]

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")


def blocks(text: str) -> list[str]:
    return re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def test_openssl_alone_verifies_a_manifest_as_the_page_says(export: Any, tmp_path: Path) -> None:
    export.days(1)
    (tmp_path / "audit.pub").write_text(export.keys[0].public.pem)
    [first, *_] = blocks(ALONE)
    typed = re.sub(r"^manifest=.*", f"manifest={export.path(1)}", first)
    done = subprocess.run(["sh", "-ec", typed], cwd=tmp_path, check=False, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "Signature Verified Successfully\n"), done.stderr
    [path] = export.files()
    listed = subprocess.run(["sha256sum", path], check=True, capture_output=True, text=True, timeout=60).stdout
    assert f'"sha256":"{listed.split()[0]}"' in (tmp_path / "payload").read_text()
    export.edit(1, gaps_open=3)
    done = subprocess.run(["sh", "-ec", typed], cwd=tmp_path, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stdout == "Signature Verification Failure\n"


def test_the_commands_of_the_page_are_those_of_the_program() -> None:
    from cfaudit_export.cli.app import COMMANDS

    typed = [line for block in blocks(PAGE) for line in block.splitlines() if line.startswith("cfaudit-export")]
    assert len(typed) > 3
    assert {line.split()[1] for line in typed} <= COMMANDS.keys()
