"""The columns of a label table, as pages list them."""

from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

ColumnType = Literal["integer", "number", "text", "boolean", "list"]


@dataclass(frozen=True, slots=True)
class Column:
    name: str
    type: ColumnType
    description: str


def columns_of(schema: pa.Schema) -> list[Column]:
    return [
        Column(
            field.name,
            _type(field.type),
            (field.metadata or {}).get(b"description", b"").decode(errors="replace"),
        )
        for field in schema
    ]


def _type(kind: pa.DataType) -> ColumnType:
    if pa.types.is_boolean(kind):
        return "boolean"
    if pa.types.is_integer(kind):
        return "integer"
    if pa.types.is_floating(kind):
        return "number"
    return "list" if pa.types.is_list(kind) else "text"
