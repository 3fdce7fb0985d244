from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from cfaudit_export.auth import credential_for
from cfaudit_export.errors import AccessError
from cfaudit_export.settings import Settings


def settings(tmp_path: Path, **more: Any) -> Settings:
    return Settings(state_dir=tmp_path, **more)


def test_the_variable_wins_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("from_file_000")
    file.chmod(0o600)
    hidden: list[str] = []
    here = settings(tmp_path, token_file=file)
    both = credential_for(here, environ={"CLOUDFLARE_API_TOKEN": "from_variable"}, hide=hidden.append)
    alone = credential_for(here, environ={"CLOUDFLARE_API_TOKEN": ""}, hide=hidden.append)
    assert asyncio.run(both.token()) == "from_variable"
    assert asyncio.run(alone.token()) == "from_file_000"
    assert hidden == ["from_variable", "from_file_000"]


def test_without_a_token_a_gateway_is_asked_with_its_own_headers(tmp_path: Path) -> None:
    hidden: list[str] = []
    here = settings(tmp_path, sources={"auditlogs": {"headers": {"X-Key": "GATEWAY_KEY"}}})
    credential = credential_for(here, environ={"GATEWAY_KEY": "gateway-secret"}, hide=hidden.append)
    assert asyncio.run(credential.token()) is None
    assert hidden == ["gateway-secret"]


def test_without_any_credential_the_variable_is_named(tmp_path: Path) -> None:
    with pytest.raises(AccessError, match="set CLOUDFLARE_API_TOKEN"):
        credential_for(settings(tmp_path), environ={})
