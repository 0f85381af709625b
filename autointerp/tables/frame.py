"""pandas frames that know the types and the meaning of their columns."""

from typing import Any, ClassVar

import pandas as pd
import pyarrow as pa

# Integers that may be missing must not become floats, nor booleans objects.
_NULLABLE = {
    pa.int32(): pd.Int32Dtype(),
    pa.int64(): pd.Int64Dtype(),
    pa.bool_(): pd.BooleanDtype(),
}
_CATEGORIES = (
    *("run", "sae", "status", "labeler", "prompt_hash", "kind", "split"),
    *("scorer", "metric", "mode", "judge"),
)


class TableFrame(pd.DataFrame):
    """A DataFrame that gives itself back as an Arrow table, also once it is filtered."""

    _metadata: ClassVar[list[str]] = ["arrow_schema"]
    arrow_schema: pa.Schema | None = None  # of the table it was made from

    @property
    def _constructor(self) -> type["TableFrame"]:
        return TableFrame

    def to_arrow(self) -> pa.Table:
        """The rows as an Arrow table; a named index becomes a column again.

        Columns that were read from a run have the types they have there, and its descriptions of
        them in their metadata (`description`). Missing values are null.
        """
        named = [name for name in self.index.names if name is not None]
        frame = self.reset_index(level=named) if named else self
        table = pa.Table.from_pandas(pd.DataFrame(frame), preserve_index=False)
        known = pa.schema([]) if self.arrow_schema is None else self.arrow_schema
        for place, name in enumerate(table.column_names):
            field = known.field(name) if name in known.names else None
            if field is None:
                continue
            try:
                values = table[name].cast(field.type)
            except pa.ArrowException:  # the column is no longer what was read
                continue
            table = table.set_column(place, field, values)
        return table.replace_schema_metadata(known.metadata)


def frame_of(table: pa.Table, *, arrow_lists: bool) -> TableFrame:
    """The table in pandas: columns that repeat are categories, lists are Arrow's or numpy's."""

    def dtype(kind: pa.DataType) -> Any:
        if arrow_lists and pa.types.is_list(kind):
            return pd.ArrowDtype(kind)
        return _NULLABLE.get(kind)

    categories = [name for name in _CATEGORIES if name in table.column_names]
    frame = TableFrame(table.to_pandas(categories=categories, types_mapper=dtype))
    for field in table.schema:
        if field.type in _NULLABLE and table[field.name].null_count == 0:
            frame[field.name] = frame[field.name].astype(field.type.to_pandas_dtype())
    frame.arrow_schema = table.schema
    return frame
