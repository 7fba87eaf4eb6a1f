"""Arrays to and from the columns of a data parquet."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute


def array_column(values: np.ndarray) -> pa.Array:
    """(N,) as plain values, (N, D) as fixed-size lists, as LeRobot 0.4.4 writes them."""
    if values.ndim == 1:
        return pa.array(values)
    return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(values).ravel()), values.shape[1])


def column_array(column: pa.ChunkedArray) -> np.ndarray:
    """Inverse of `array_column`; lists of any size type, as long as they are equally long.

    Raises ValueError for lists of different lengths, and for missing values.
    """
    if column.null_count:
        raise ValueError(f"{column.null_count} of {len(column)} values are missing")
    depth = 0
    kind = column.type
    while pa.types.is_fixed_size_list(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind):
        kind, depth = kind.value_type, depth + 1
    if depth == 0:
        return column.to_numpy()
    if depth > 1:
        return np.array(column.to_pylist())
    flat = column.combine_chunks().flatten() if len(column) else pa.array([], kind)
    if isinstance(flat, pa.ChunkedArray):
        flat = flat.combine_chunks()
    width, rest = divmod(len(flat), max(len(column), 1))
    if rest or (not pa.types.is_fixed_size_list(column.type) and len(set(pa.compute.list_value_length(column).to_pylist())) > 1):
        raise ValueError("its lists are not equally long")
    return flat.to_numpy(zero_copy_only=False).reshape(len(column), width)
