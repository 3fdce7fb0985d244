"""Which transforms are applied to what, and what is refused before anything is read."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from cfaudit_export import SettingsError, TransformPlugin
from cfaudit_export.app.transforms import require_transformed, transforms_of
from cfaudit_export.pipeline.transform import Transforms
from cfaudit_export.settings import IdentitySettings, Settings


@dataclass(frozen=True)
class MaskConfig:
    fields: tuple[str, ...] = ()
    salt: str = field(default="", repr=False)


class Mask:
    def __init__(self, config: MaskConfig) -> None:
        self.hides = config.fields

    def __call__(self, table: Any) -> Any:
        return table


@dataclass(frozen=True)
class AnyTransform:
    """Plugins, of which transforms are looked up here."""

    def transform(self, name: str) -> TransformPlugin:
        return TransformPlugin(name, MaskConfig, Mask, "masks")


def transforms(place: Path, **settings: Any) -> Transforms:
    return transforms_of(Settings(state_dir=place, **settings), cast("Any", AnyTransform()))


def test_transforms_are_named_with_a_digest_of_their_settings_without_secrets(tmp_path: Path) -> None:
    def said(**table: Any) -> str:
        [one] = transforms(tmp_path, transform=("mask",), transforms={"mask": table}).upon("parquet")
        return one.told

    one = said(fields=["actor_id"])
    assert one.startswith("mask:")
    assert said(fields=["actor_id"], salt="secret") == one
    assert said(fields=["zone_id"]) != one


def test_a_sink_has_those_of_the_run_and_its_own_each_built_once(tmp_path: Path) -> None:
    found = transforms(
        tmp_path,
        transform=("first",),
        sink=("parquet", "s3", "splunk"),
        sinks={"s3": {"bucket": "b", "transform": ["mask", "blank"]}, "splunk": {"transform": "mask"}},
    )
    named = {sink: [one.name for one in found.upon(sink)] for sink in ("parquet", "s3", "splunk")}
    assert named == {"parquet": ["first"], "s3": ["first", "mask", "blank"], "splunk": ["first", "mask"]}
    assert found.of_sink("s3")[0] is found.of_sink("splunk")[0]
    assert [one.name for one in found.all] == ["first", "mask", "blank"]


@pytest.mark.parametrize("column", ["actor_email", "actor_token_name"])
def test_what_the_identity_gives_away_is_hidden_only_where_the_identity_is_secret(tmp_path: Path, column: str) -> None:
    hiding: dict[str, Any] = {"transforms": {"mask": {"fields": [column]}}}
    said = f"transform 'mask' hides {column}, but event_key is computed from it and can be guessed back; set identity.k"
    with pytest.raises(SettingsError, match=said):
        transforms(tmp_path, transform=("mask",), **hiding)
    with pytest.raises(SettingsError, match=said):
        transforms(tmp_path, sink=("s3",), sinks={"s3": {"transform": ["mask"]}}, **hiding)
    assert transforms(tmp_path, transform=("mask",), identity=IdentitySettings(tmp_path / "key"), **hiding).all


def test_a_transform_is_not_applied_twice_to_what_a_sink_gets(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="'sinks.s3.transform' names 'mask', which is applied to all events alr"):
        transforms(tmp_path, transform=("mask",), sink=("s3",), sinks={"s3": {"transform": ["mask"]}})


def test_what_is_no_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="'sinks.s3.transform': expected a name or a list of names, not '3'"):
        transforms(tmp_path, sink=("s3",), sinks={"s3": {"transform": 3}})


def test_refused_events_are_not_replayed_around_a_transform(tmp_path: Path) -> None:
    settings = Settings(
        state_dir=tmp_path, transform=("first",), sinks={"lake": {"transform": ["first", "mask"]}, "vault": {}}
    )
    require_transformed(settings, "lake", "lake")
    require_transformed(settings, "lake", "vault")
    with pytest.raises(SettingsError, match="sink 'lake' has the transform 'mask', which events that 'vault' refused"):
        require_transformed(settings, "vault", "lake")
