"""Columns of the Parquet files, each with a line that says what it holds."""

from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa

from autointerp.errors import UserError

SCHEMA_VERSION = "2"
_DESCRIPTION = b"description"
_VERSION = b"schema_version"


def column(name: str, kind: pa.DataType, description: str) -> pa.Field:
    return pa.field(name, kind, metadata={_DESCRIPTION: description})


def schema_of(columns: Iterable[pa.Field]) -> pa.Schema:
    """A schema of the present version."""
    return pa.schema(list(columns), metadata={_VERSION: SCHEMA_VERSION})


def description(column: pa.Field) -> str:
    """What `column` was given; empty for a column that is not ours."""
    return str((column.metadata or {}).get(_DESCRIPTION, b"").decode())


def version_of(schema: pa.Schema, path: Path) -> int:
    """The version that wrote a file; evidence of the first one did not say so.

    Raises UserError where it is newer than this one.
    """
    version = (schema.metadata or {}).get(_VERSION, b"1")
    if not version.isdigit() or int(version) > int(SCHEMA_VERSION):
        raise UserError(
            f"{path} was written by a newer autointerp (tables of version {version.decode()!r}, "
            f"this one reads {SCHEMA_VERSION}): upgrade autointerp to read it"
        )
    return int(version)


def conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The table with the columns of `schema` and their descriptions, then any others.

    Columns that an earlier autointerp did not write are null.
    """
    others = [field for field in table.schema if field.name not in schema.names]
    fields, arrays = [], []
    for field in schema:
        if field.name in table.column_names:
            arrays.append(table[field.name])
            field = field.with_type(arrays[-1].type)
        else:
            arrays.append(pa.nulls(len(table), field.type))
        fields.append(field)
    for field in others:
        fields.append(field)
        arrays.append(table[field.name])
    metadata = {**(table.schema.metadata or {}), **schema.metadata}
    return pa.table(arrays, schema=pa.schema(fields, metadata=metadata))
