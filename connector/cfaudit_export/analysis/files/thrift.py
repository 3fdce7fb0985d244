"""Thrift's compact protocol, as far as headers of Parquet pages go: a struct of numbers, texts and further structs."""

from __future__ import annotations

from typing import Any

_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _STRUCT = 1, 2, 3, 4, 5, 6, 7, 8, 12
_DEEPEST = 8


class ThriftError(ValueError):
    """Bytes are no struct of this kind."""


def read_struct(content: bytes, at: int = 0, depth: int = 0) -> tuple[dict[int, Any], int]:
    """Return the fields of a struct by their numbers, and where it ends; of a text only its length.

    Raises:
        IndexError: it goes on behind the bytes.
        ThriftError: it is none.
    """
    if depth > _DEEPEST:
        raise ThriftError("structs within structs")
    fields: dict[int, Any] = {}
    number = 0
    while head := content[at]:
        at += 1
        kind, step = head & 15, head >> 4
        if step:
            number += step
        else:
            number, at = _number(content, at)
        if kind in {_TRUE, _FALSE}:
            fields[number] = kind == _TRUE
        elif kind in {_I16, _I32, _I64}:
            fields[number], at = _number(content, at)
        elif kind == _STRUCT:
            fields[number], at = read_struct(content, at, depth + 1)
        elif kind == _BINARY:
            fields[number], at = _varint(content, at)
            at += fields[number]
        elif kind in {_BYTE, _DOUBLE}:
            at += 1 if kind == _BYTE else 8
        else:
            raise ThriftError(f"type {kind}")
    return fields, at + 1


def _number(content: bytes, at: int) -> tuple[int, int]:
    coded, at = _varint(content, at)
    return (coded >> 1) ^ -(coded & 1), at


def _varint(content: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 70:
        byte = content[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise ThriftError("a number of more than 64 bits")
