"""What row groups of a Parquet file take in memory once they are decoded, told before they are.

A page of a few kilobytes can decode to two gigabytes: its compressor repeats one byte, its dictionary has one long
value that every row has, or each value repeats the beginning of the one before. A footer may say otherwise, and so may
not be believed. The headers of the pages are, as Arrow reserves memory by them; only a dictionary whose values might
be long is looked into.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from cfaudit_export.analysis.files.location import OpenFile
from cfaudit_export.analysis.files.thrift import ThriftError, read_struct

_MOST_PAGES = 5_000
"""Of a column in a row group; writers make one of about 20,000 rows or a megabyte."""

_HEADER_BYTES = 512
_MOST_HEADER_BYTES = 1 << 20
_DICTIONARY, _DATA, _DATA_V2 = 2, 0, 3  # PageType in parquet.thrift
_HEADERS = {_DATA: 5, _DICTIONARY: 7, _DATA_V2: 8}  # the fields of PageHeader
_DELTA_BYTE_ARRAY = 7  # Encoding
_VALUE_BYTES = 16  # of any value but a text, with what Arrow keeps beside it
_CODECS = {"ZSTD": "zstd", "SNAPPY": "snappy", "GZIP": "gzip", "BROTLI": "brotli", "LZ4": "lz4_raw"}


class NoRoomError(Exception):
    """A row group takes more memory than it may."""


@dataclass(frozen=True, slots=True)
class _Page:
    kind: int
    content_at: int
    stored_bytes: int
    decoded_bytes: int
    values: int
    encoding: int


def require_room(
    file: OpenFile, metadata: Any, groups: Iterable[int], needs: Callable[[str], bool], most_bytes: int
) -> None:
    """Look whether the columns of each row group fit into memory.

    Args:
        file: the file.
        metadata: its footer.
        groups: the row groups.
        needs: says of a column's path whether it will be read.
        most_bytes: of one row group.

    Raises:
        NoRoomError: they do not.
        pa.ArrowInvalid: the headers of pages make no sense.
    """
    size = file.seek(0, os.SEEK_END)
    for index in groups:
        group, left = metadata.row_group(index), most_bytes
        for number in range(group.num_columns):
            chunk = group.column(number)
            if needs(chunk.path_in_schema):
                leaf = metadata.schema.column(number)
                left -= _decoded_bytes(file, size, chunk, leaf, rows=group.num_rows, most_bytes=most_bytes)
                if left < 0:
                    raise NoRoomError(
                        f"row group {index} takes more than {most_bytes >> 20} MB in memory, a quarter of sql_memory_mb"
                    )


def chunk_span(chunk: Any, size: int) -> tuple[int, int]:
    """Return where the pages of a column begin and end in a file of a size.

    Raises:
        pa.ArrowInvalid: not in the file.
    """
    start = min([chunk.data_page_offset, *filter(None, [chunk.dictionary_page_offset])])
    stop = start + chunk.total_compressed_size
    if not 0 < start <= stop <= size:
        raise pa.ArrowInvalid("its footer names pages that are not in the file")
    return start, stop


def _decoded_bytes(file: OpenFile, size: int, chunk: Any, leaf: Any, *, rows: int, most_bytes: int) -> int:
    """Return at least the bytes that the values of a column of a row group take, and no more than are too many."""
    total = values = dictionary_bytes = 0
    dictionary: _Page | None = None
    for page in _pages(file, *chunk_span(chunk, size)):
        total += page.decoded_bytes
        if total > most_bytes:
            return total
        if page.kind == _DICTIONARY:
            if dictionary:
                raise pa.ArrowInvalid("a column has two dictionaries in a row group")
            dictionary = page
        elif page.kind in {_DATA, _DATA_V2}:
            values += page.values
            total += page.values * page.decoded_bytes if page.encoding == _DELTA_BYTE_ARRAY else 0
    if values > rows and not leaf.max_repetition_level:
        raise pa.ArrowInvalid("a column has more values than there are rows")
    if dictionary and leaf.physical_type == "BYTE_ARRAY":
        dictionary_bytes = rows * dictionary.decoded_bytes
        if total + dictionary_bytes > most_bytes:
            dictionary_bytes = rows * _longest(file, chunk.compression, dictionary, rows)
    return total + dictionary_bytes + values * max(_VALUE_BYTES, leaf.length or 0)


def _pages(file: OpenFile, start: int, stop: int) -> Iterator[_Page]:
    at = start
    for _ in range(_MOST_PAGES):
        if at >= stop:
            return
        page = _page(file, at, stop)
        yield page
        at = page.content_at + page.stored_bytes
    raise NoRoomError(f"a column has more than {_MOST_PAGES:,} pages in a row group")


def _page(file: OpenFile, at: int, stop: int) -> _Page:
    length = _HEADER_BYTES
    while True:
        file.seek(at)
        content = file.read(min(length, stop - at))
        try:
            fields, header_bytes = read_struct(content)
            said = fields[_HEADERS[kind]] if (kind := int(fields[1])) in _HEADERS else {1: 0}
            page = _Page(
                kind=kind,
                content_at=at + header_bytes,
                stored_bytes=int(fields[3]),
                decoded_bytes=int(fields[2]),
                values=int(said[1]),
                encoding=int(said.get(4 if kind == _DATA_V2 else 2, 0)),
            )
        except IndexError:
            if length < min(stop - at, _MOST_HEADER_BYTES):
                length *= 8
                continue
            raise pa.ArrowInvalid("the header of a page ends early") from None
        except (ThriftError, KeyError, AttributeError, TypeError):
            raise pa.ArrowInvalid("the header of a page cannot be read") from None
        if min(page.stored_bytes, page.decoded_bytes, page.values) < 0 or page.content_at + page.stored_bytes > stop:
            raise pa.ArrowInvalid("a page is larger than what holds it")
        return page


def _longest(file: OpenFile, compression: str, page: _Page, rows: int) -> int:
    """Return the length of the longest value of a dictionary of texts."""
    if page.values > rows:
        raise pa.ArrowInvalid("a dictionary has more values than there are rows")
    file.seek(page.content_at)
    content = file.read(page.stored_bytes)
    if compression != "UNCOMPRESSED":
        try:
            content = pa.Codec(_CODECS[compression]).decompress(content, page.decoded_bytes, asbytes=True)
        except (KeyError, OSError, pa.ArrowException):  # another form of LZ4, or damage that Arrow will find
            return page.decoded_bytes
    longest = at = 0
    for _ in range(page.values):
        length = int.from_bytes(content[at : at + 4], "little")
        longest = max(longest, length)
        at += 4 + length
    if at > len(content):
        raise pa.ArrowInvalid("a dictionary is larger than its page")
    return longest
