"""MessagePack with NumPy arrays, in the layout of openpi's `msgpack_numpy`.

An array travels as a map with the keys (bytes) `__ndarray__`: true, `data`: its bytes in C order, `dtype`: NumPy's string
(`<f4`, `|u1`) and `shape`; a NumPy scalar as `__npgeneric__`: true, `data` and `dtype`. Nothing is ever unpickled.
"""

from __future__ import annotations

import msgpack
import numpy as np

#: Kinds of dtype that are no plain numbers or text: void, object, complex.
_REFUSED = "VOc"


def pack(message: object) -> bytes:
    """Raises ValueError for arrays of objects, and TypeError for what MessagePack does not know."""
    return msgpack.packb(message, default=_encode)


def unpack(data: bytes) -> object:
    """Raises ValueError where `data` is none, or describes an array that its bytes do not fill."""
    try:
        return msgpack.unpackb(data, object_hook=_decode)
    except ValueError:
        raise
    except Exception as error:  # msgpack has exceptions of its own for several kinds of damage
        raise ValueError(str(error) or type(error).__name__) from error


def _encode(value: object) -> object:
    if not isinstance(value, (np.ndarray, np.generic)):
        raise TypeError(f"cannot pack {type(value).__name__}")
    if value.dtype.kind in _REFUSED:
        raise ValueError(f"cannot pack an array of {value.dtype}")
    if isinstance(value, np.ndarray):
        return {b"__ndarray__": True, b"data": value.tobytes(), b"dtype": value.dtype.str, b"shape": value.shape}
    return {b"__npgeneric__": True, b"data": value.item(), b"dtype": value.dtype.str}


def _decode(value: dict) -> object:
    if b"__ndarray__" in value:
        dtype = _dtype(value)
        # A copy: the bytes of the message cannot be written to.
        return np.frombuffer(value[b"data"], dtype).reshape(value[b"shape"]).copy()
    if b"__npgeneric__" in value:
        return _dtype(value).type(value[b"data"])
    return value


def _dtype(value: dict) -> np.dtype:
    dtype = np.dtype(value[b"dtype"])
    if dtype.kind in _REFUSED:
        raise ValueError(f"an array of {dtype} is refused")
    return dtype
