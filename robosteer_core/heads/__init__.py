"""Which attention heads matter for a task: capture, score, select, draw.

`select` and `HeadSelection` are loaded on first use, so that the command line starts without numpy and torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from robosteer_core.heads.selection import HeadSelection, select

__all__ = ["HeadSelection", "select"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from robosteer_core.heads import selection

        return getattr(selection, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
