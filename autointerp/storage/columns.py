"""Columns of the Parquet files, each with a line that says what it holds."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
from pydantic import ConfigDict, TypeAdapter, ValidationError

from autointerp.errors import InputError, NotDoneError
from autointerp.storage.parquet_files import ParquetFile, renamed

SCHEMA_VERSION = "3"
_DESCRIPTION = b"description"
_VERSION = b"schema_version"
_FINITE = ConfigDict(allow_inf_nan=False)
# Columns that have a value in every row of every table that has them.
_NEVER_EMPTY = ("feature", "kind", "author", "time", "scorer", "metric")
# What columns were called in earlier versions: until version 3 `sae` was `coder`.
_FORMER_NAMES = {"sae": "coder"}
T = TypeVar("T")


def column(name: str, kind: pa.DataType, description: str) -> pa.Field:
    return pa.field(name, kind, metadata={_DESCRIPTION: description})


def schema_of(columns: Iterable[pa.Field]) -> pa.Schema:
    """A schema of the present version."""
    return pa.schema(list(columns), metadata={_VERSION: SCHEMA_VERSION})


def description(column: pa.Field) -> str:
    """What `column` was given; empty for a column that is not ours."""
    return str((column.metadata or {}).get(_DESCRIPTION, b"").decode(errors="replace"))


def version_of(schema: pa.Schema, path: Path) -> int:
    """The version that wrote a file; evidence of the first one did not say so.

    Raises AutointerpError where it is newer than this one.
    """
    version = (schema.metadata or {}).get(_VERSION, b"1").decode(errors="replace")
    if not re.fullmatch("[0-9]{1,9}", version) or int(version) > int(SCHEMA_VERSION):
        raise InputError(
            f"{path} was written by a newer autointerp (tables of version {version[:20]!r}, "
            f"this one reads {SCHEMA_VERSION}): upgrade autointerp to read it"
        )
    return int(version)


def checked(file: ParquetFile, schema: pa.Schema, path: Path, *, gaps: bool = True) -> ParquetFile:
    """The file, whose columns hold what those of `schema` do; others it may have besides.

    Columns of earlier versions go by their present names. Raises InputError where a newer
    autointerp wrote it, where one that is never empty is not there or has gaps (looked for unless
    `gaps` is false, which opens a file of many row groups sooner), or where one holds values of
    another kind, such as texts for numbers.
    """
    file = file.renamed(_former(schema, file.schema_arrow.names))
    written = file.schema_arrow
    version_of(written, path)
    for field in schema:
        places = written.get_all_field_indices(field.name)
        if len(places) > 1:
            raise InputError(
                f"{path} has {len(places)} columns named {field.name}; there must be one"
            )
        if places and not _are_alike(written.field(places[0]).type, field.type):
            found = written.field(places[0]).type
            raise InputError(f"{path}: column {field.name} has type {found}, not {field.type}")
        if field.name in _NEVER_EMPTY and not places:
            raise InputError(f"{path} has no column {field.name}")
        if field.name in _NEVER_EMPTY and gaps and _has_gaps(file, field.name):
            raise InputError(f"{path}: column {field.name} has missing values")
    return file


def _former(schema: pa.Schema, written: Iterable[str]) -> dict[str, str]:
    """Columns of the schema that a file has under a former name → that name."""
    names = set(written)
    return {
        name: former
        for name, former in _FORMER_NAMES.items()
        if name in schema.names and name not in names and former in names
    }


def _are_alike(found: pa.DataType, wanted: pa.DataType) -> bool:
    """Whether values can be taken for those wanted; other tools write them a little otherwise."""
    if pa.types.is_null(found) or found == wanted:
        return True
    if pa.types.is_dictionary(found):
        return _are_alike(found.value_type, wanted)
    if pa.types.is_list(wanted):
        is_list = pa.types.is_list(found) or pa.types.is_large_list(found)
        return is_list and _are_alike(found.value_type, wanted.value_type)
    if pa.types.is_struct(wanted):
        if not pa.types.is_struct(found):
            return False
        members = {found.field(i).name: found.field(i).type for i in range(found.num_fields)}
        needed = [wanted.field(i) for i in range(wanted.num_fields)]
        return all(f.name in members and _are_alike(members[f.name], f.type) for f in needed)
    if pa.types.is_timestamp(wanted):
        return pa.types.is_timestamp(found) and bool(found.tz)
    if pa.types.is_integer(found) and pa.types.is_floating(wanted):
        return True
    kinds = (
        (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view),
        (pa.types.is_integer,),
        (pa.types.is_floating,),
        (pa.types.is_boolean,),
    )
    return any(any(k(found) for k in kind) and any(k(wanted) for k in kind) for kind in kinds)


def _has_gaps(file: ParquetFile, name: str) -> bool:
    """By the footer, which counts them; where it does not the column is read."""
    groups = [file.metadata.row_group(g) for g in range(file.metadata.num_row_groups)]
    place = leaf_of(file, name)
    found = [group.column(place).statistics for group in groups]
    if all(one is not None and one.has_null_count for one in found):
        return any(one.null_count for one in found)
    return bool(file.read(columns=[name])[name].null_count)


def leaf_of(file: ParquetFile, name: str) -> int:
    """The place of a flat column in the footer, where nested ones before it have several."""
    schema = file.metadata.schema
    return next(i for i in range(len(schema)) if schema.column(i).path == name)


def metadata_of(file: ParquetFile, name: str, kind: type[T], path: Path) -> T:
    """What a file's metadata say under a name, in JSON. Raises AutointerpError."""
    raw = (file.schema_arrow.metadata or {}).get(name.encode(), b"")
    try:
        return TypeAdapter(kind, config=_FINITE).validate_json(raw)
    except ValidationError:
        raise NotDoneError(
            f"{path} has no {name} in its metadata: run `autointerp collect` again"
        ) from None


def _cast(values: pa.ChunkedArray, field: pa.Field) -> pa.ChunkedArray:
    if values.type == field.type:
        return values
    try:
        return values.cast(field.type)
    except pa.ArrowException as error:
        first_line = str(error).strip().splitlines()[0]
        raise InputError(f"column {field.name} cannot be read: {first_line}") from None


def conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The table with the columns of `schema` and their descriptions, then any others.

    Columns that an earlier autointerp called otherwise are renamed, those it did not write are
    null. Raises InputError where a value does not go into its column.
    """
    former = _former(schema, table.column_names)
    table = renamed(table, {old: new for new, old in former.items()})
    others = [field for field in table.schema if field.name not in schema.names]
    fields, arrays = [], []
    for field in schema:
        if field.name in table.column_names:
            arrays.append(_cast(table[field.name], field))
            field = field.with_type(arrays[-1].type)  # its lists may name their members otherwise
        else:
            arrays.append(pa.nulls(len(table), field.type))
        fields.append(field)
    for field in others:
        fields.append(field)
        arrays.append(table[field.name])
    metadata = {**(table.schema.metadata or {}), **schema.metadata}
    return pa.table(arrays, schema=pa.schema(fields, metadata=metadata))
