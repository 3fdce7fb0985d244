"""Where the manifests of each sink are kept, by the settings alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cfaudit_export.app.manifests import manifest_places
from cfaudit_export.app.stamp import StampingStore
from cfaudit_export.errors import SettingsError, SinkError
from cfaudit_export.plugin.registry import load_plugins
from cfaudit_export.proof.keys import new_key, write_key
from cfaudit_export.settings import Settings
from cfaudit_export.settings.integrity import Integrity
from cfaudit_parquet import ParquetConfig
from cfaudit_parquet.sink import ParquetSink

NAME = "0123456789abcdef/shelf/00000001.json"


@pytest.fixture
def signed(tmp_path: Path) -> Path:
    write_key(new_key(), tmp_path / "signing.pem")
    return tmp_path / "signing.pem"


def places(tmp_path: Path, sinks: dict[str, Any], sinks_settings: Any = None, **integrity: Any) -> dict[str, Any]:
    settings = Settings(state_dir=tmp_path / "state", sinks=sinks_settings or {}, integrity=Integrity(**integrity))
    with manifest_places(settings, load_plugins(environ={}), sinks, {"parquet": "out"}) as found:
        return found


def parquet(tmp_path: Path) -> ParquetSink:
    return ParquetSink(ParquetConfig(str(tmp_path / "out")))


@pytest.mark.parametrize(
    ("wanted", "has_key", "expected"),
    [
        (None, False, {"parquet"}),
        (None, True, {"parquet", "shelf"}),
        (True, False, {"parquet", "shelf"}),
        (False, True, set()),
    ],
)
def test_sinks_of_files_have_manifests_and_others_with_a_key(
    tmp_path: Path, signed: Path, *, wanted: bool | None, has_key: bool, expected: set[str]
) -> None:
    sinks = {"parquet": parquet(tmp_path), "shelf": object()}
    found = places(tmp_path, sinks, manifests=wanted, key_file=signed if has_key else None)
    assert found.keys() == expected
    assert all(bool(place.keys) == has_key for place in found.values())


@pytest.mark.parametrize("path", [None, "kept"])
def test_those_of_a_sink_without_files_are_in_the_state_folder_or_where_the_settings_say(
    tmp_path: Path, signed: Path, path: str | None
) -> None:
    found = places(tmp_path, {"shelf": object()}, key_file=signed, path=path and str(tmp_path / path))
    assert found["shelf"].store.put_manifest(NAME, b"x")
    assert not found["shelf"].in_sink
    assert (tmp_path / (path or "state") / "_cfaudit/manifests" / NAME).read_bytes() == b"x"


def test_those_in_s3_are_reached_as_the_s3_sink_is(tmp_path: Path, signed: Path) -> None:
    access = {"s3": {"endpoint_url": "http://127.0.0.1:9", "attempts": 1, "bucket": "data", "region": "us-east-1"}}
    found = places(tmp_path, {"shelf": object()}, access, key_file=signed, path="s3://proofs/audit", lock_days=30)
    assert found["shelf"].location == "s3://proofs/audit"
    with pytest.raises(SinkError, match=r"s3://proofs/audit/_cfaudit/manifests|127\.0\.0\.1|credentials"):
        found["shelf"].store.get_manifest(NAME)


def test_a_folder_cannot_lock(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="lock_days is for manifests in S3"):
        places(tmp_path, {"parquet": parquet(tmp_path)}, lock_days=3)


class Faulty:
    def put_manifest(self, name: str, content: bytes) -> bool:
        raise KeyError(name)

    get_manifest = manifests = put_manifest


def test_a_faulty_sink_fails_alone_and_is_named(tmp_path: Path) -> None:
    store = places(tmp_path, {"faulty": Faulty()})["faulty"].store
    for ask in (
        lambda: store.put_manifest(NAME, b""),
        lambda: store.get_manifest(NAME),
        lambda: list(store.manifests("")),
    ):
        with pytest.raises(SinkError, match="the sink failed with"):
            ask()


def test_a_timestamp_is_kept_under_the_same_lock_as_its_manifest(tmp_path: Path) -> None:
    kept: list[tuple[str, int]] = []

    class Shelf:
        def put_manifest(self, name: str, content: bytes, lock_days: int | None = None) -> bool:
            kept.append((name, lock_days or 0))
            return True

    found = places(tmp_path, {"shelf": Shelf()}, lock_days=30, timestamp_url="http://127.0.0.1:1/tsa")
    assert isinstance(found["shelf"].store, StampingStore)
    assert found["shelf"].store.put_manifest(NAME, b"x")  # no authority answers there
    assert kept == [(NAME, 30)]
    assert found["shelf"].store.store.put_manifest(f"{NAME}.tsr", b"x")
    assert kept[1:] == [(f"{NAME}.tsr", 30)]
