"""Feast's Redis layout (entity keys of version 3), written and read without Feast: importing it costs seconds and 200 MB.

One hash holds all views of one entity: its key is the serialised entity key and the project; each feature is a field
named by the first four bytes of a murmur3 hash, its value a `feast.types.Value`; `_ts:<view>` holds the time of the
view's row as a `google.protobuf.Timestamp`. Both messages are small enough to be written out here. Null is the empty
message; a field that is not there reads as null too, as it does in Feast.

A row older than its view's `lasts_s` counts as missing. Feast 0.67 declares that (`ttl`) and looks at it in historical
joins, but its Redis store does not when it reads online; here both sides mean the same.

Knows the types of `winnow.feature_views` alone, and no client: `read` is handed whatever sends HMGETs.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import mmh3
import numpy as np
import numpy.typing as npt

from winnow.errors import InvalidArgument
from winnow.feature_views import Cell, Dtype, StoredView
from winnow.types import strings

PROJECT = "winnow"
STRING = 2  # feast.types.ValueType
STRING_VAL, DOUBLE_VAL, STRING_LIST_VAL = 0x12, 0x29, 0x62  # tags: field number and wire type
LIST_ENTRY, SECONDS, NANOS = 0x0A, 0x08, 0x10
U32 = struct.Struct("<I")
DOUBLE = struct.Struct("<Bd")
NS = 1_000_000_000

Hmgets = Callable[[Sequence[tuple[bytes, Sequence[bytes]]]], Sequence[Sequence[bytes | None]]]
"""Sends one HMGET per (key, fields), all at once, and returns their replies in order."""


# ---------------------------------------------------------------------------------------------- names


def prefix(join_key: str) -> bytes:
    name = join_key.encode()
    return U32.pack(1) + U32.pack(STRING) + U32.pack(len(name)) + name + U32.pack(STRING)


def entity_key(join_key: str, entity: str, project: str = PROJECT) -> bytes:
    """The key of the hash of one entity that is named by one string."""
    value = entity.encode()
    return prefix(join_key) + U32.pack(len(value)) + value + project.encode()


def field_of(view: str, feature: str) -> bytes:
    return U32.pack(mmh3.hash(f"{view}:{feature}", signed=False))


def time_field(view: str) -> bytes:
    return f"_ts:{view}".encode()


# ---------------------------------------------------------------------------------------------- values


def encode(value: Cell, dtype: Dtype) -> bytes:
    """A `feast.types.Value`; empty for None."""
    if value is None:
        return b""
    match dtype:
        case "double":
            assert isinstance(value, float)
            return DOUBLE.pack(DOUBLE_VAL, value)
        case "string":
            assert isinstance(value, str)
            return delimited(STRING_VAL, value.encode())
        case "string_list":
            assert isinstance(value, list)
            return delimited(STRING_LIST_VAL, b"".join(delimited(LIST_ENTRY, text.encode()) for text in value))


def decode(message: bytes | None) -> Cell:
    """What `encode` was given; None for a null or a field that is not there. InvalidArgument for other types, and for
    bytes that are no value."""
    if not message:
        return None
    tag = message[0]
    if tag == DOUBLE_VAL and len(message) == DOUBLE.size:
        return DOUBLE.unpack(message)[1]  # type: ignore[no-any-return]
    try:
        if tag == STRING_VAL:
            return message[2:].decode() if len(message) == message[1] + 2 < 130 else inside(message, 0)[0].decode()
        if tag == STRING_LIST_VAL:
            return texts(inside(message, 0)[0])
    except (IndexError, UnicodeDecodeError) as wrong:
        raise InvalidArgument("a stored value is damaged") from wrong
    raise InvalidArgument(f"no value that Winnow's views hold: {message[:8].hex()}…")


def texts(message: bytes) -> list[str]:
    """A `feast.types.StringList`. Most texts are short: their length is one byte."""
    found, at, ends = [], 0, len(message)
    while at < ends:
        size, begins = (message[at + 1], at + 2) if message[at + 1] < 128 else number(message, at + 1)
        at = begins + size
        found.append(message[begins:at].decode())
    if at > ends:
        raise InvalidArgument("a stored value is cut short")
    return found


def inside(message: bytes, at: int) -> tuple[bytes, int]:
    """The bytes of the length-delimited field whose tag is at `at`, and where the next begins."""
    size, begins = number(message, at + 1)
    if begins + size > len(message):
        raise InvalidArgument("a stored value is cut short")
    return message[begins : begins + size], begins + size


def delimited(tag: int, content: bytes) -> bytes:
    return bytes((tag,)) + varint(len(content)) + content


def varint(value: int) -> bytes:
    """Base 128, least significant group first; negative numbers as their 64-bit two's complement."""
    value &= 2**64 - 1
    groups = bytearray()
    while value > 127:
        groups.append(value & 127 | 128)
        value >>= 7
    groups.append(value)
    return bytes(groups)


def number(message: bytes, at: int) -> tuple[int, int]:
    """The varint at `at`, and where it ends."""
    value = shift = 0
    while at < len(message) and shift < 70:
        value |= (message[at] & 127) << shift
        at += 1
        if message[at - 1] < 128:
            return value, at
        shift += 7
    raise InvalidArgument("a stored number is cut short")


def encode_time(at_ns: int) -> bytes:
    """A `google.protobuf.Timestamp` from nanoseconds since 1970."""
    seconds, nanos = divmod(at_ns, NS)
    said = bytes((SECONDS,)) + varint(seconds) if seconds else b""
    return said + bytes((NANOS,)) + varint(nanos) if nanos else said


def decode_time(message: bytes | None) -> int | None:
    """Nanoseconds since 1970; None where no row was written."""
    if message is None:
        return None
    parts, at = {SECONDS: 0, NANOS: 0}, 0
    while at < len(message):
        tag = message[at]
        parts[tag], at = number(message, at + 1)
    seconds = parts[SECONDS] - 2**64 if parts[SECONDS] >= 2**63 else parts[SECONDS]
    return seconds * NS + parts[NANOS]


# ---------------------------------------------------------------------------------------------- rows


@dataclass(frozen=True)
class Layout:
    """Views of one kind of entity, read together. Names of keys and fields are computed once."""

    views: tuple[StoredView, ...]
    project: str = PROJECT

    @cached_property
    def features(self) -> tuple[str, ...]:
        return tuple(name for view in self.views for name in view.features)

    @cached_property
    def dtypes(self) -> dict[str, Dtype]:
        return {name: view.dtype(name) for view in self.views for name in view.features}

    @cached_property
    def fields(self) -> tuple[bytes, ...]:
        """Per view its features, then its time."""
        return tuple(field for view in self.views for field in self._of[view.name])

    @cached_property
    def _of(self) -> dict[str, tuple[bytes, ...]]:
        return {
            view.name: (*(field_of(view.name, name) for name in view.features), time_field(view.name))
            for view in self.views
        }

    @cached_property
    def _prefix(self) -> bytes:
        (key,) = {view.key for view in self.views}
        return prefix(key)

    @cached_property
    def _suffix(self) -> bytes:
        return self.project.encode()

    def key(self, entity: str) -> bytes:
        value = entity.encode()
        return b"".join((self._prefix, U32.pack(len(value)), value, self._suffix))

    def row(self, view: StoredView, cells: Sequence[Cell], at_ns: int) -> dict[bytes, bytes]:
        """The fields of one view's row, as HSET takes them; `at_ns` is its time, nanoseconds since 1970."""
        values = [encode(cell, self.dtypes[name]) for name, cell in zip(view.features, cells, strict=True)]
        return dict(zip(self._of[view.name], [*values, encode_time(at_ns)], strict=True))

    def cells(self, reply: Sequence[bytes | None], now: float) -> list[Cell]:
        """One entity's features, from the reply to an HMGET of `fields`; None for what is null, missing or too old at
        `now` (seconds since 1970)."""
        found: list[Cell] = []
        begins = 0
        for view in self.views:
            ends = begins + len(view.features)
            at_ns = decode_time(reply[ends])
            alive = at_ns is not None and now * NS - at_ns <= view.lasts_s * NS
            found += map(decode, reply[begins:ends]) if alive else [None] * len(view.features)
            begins = ends + 1
        return found

    def read(self, entities: Sequence[str], hmgets: Hmgets, now: float) -> list[list[Cell]]:
        """A row of `features` per entity, by one round trip."""
        replies = hmgets([(self.key(entity), self.fields) for entity in entities])
        return [self.cells(reply, now) for reply in replies]

    def columns(self, rows: Sequence[Sequence[Cell]]) -> Mapping[str, npt.NDArray[np.generic]]:
        """Rows as a column per feature: float64 with NaN for null, else objects."""
        columns = zip(*rows, strict=True) if rows else ((),) * len(self.features)
        return {name: packed(column, self.dtypes[name]) for name, column in zip(self.features, columns, strict=True)}


def packed(column: Sequence[Cell], dtype: Dtype) -> npt.NDArray[np.generic]:
    if dtype == "double":
        return np.array(column, np.float64)  # None becomes NaN
    return strings(list(column))  # type: ignore[arg-type]
