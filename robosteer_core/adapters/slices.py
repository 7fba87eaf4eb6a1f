"""Which slices of which projections a set of heads owns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Iterable, Literal

from robosteer_core.errors import UserError
from robosteer_core.vla.sites import Head, Sites

KeyValueRule = Literal["own", "any", "none"]


@dataclass(frozen=True)
class Slice:
    """`indices` of a projection's weight that may change: rows (dim 0) of q, k, v; columns (dim 1) of o."""

    dim: int
    indices: tuple[int, ...]


def head_slices(sites: Sites, heads: Iterable[Head], kv: KeyValueRule = "own") -> dict[str, Slice]:
    """Slices by module path for these heads' queries and outputs, and their keys and values by rule.

    A key-value head may serve several query heads, and changing it changes them all. `own` adapts it only where all its
    query heads are among `heads`; `any` where one is, and so leaks to heads that were not chosen; `none` never.
    Raises UserError for a head that the model does not have.
    """
    if kv not in ("own", "any", "none"):
        raise UserError(f"expected a key-value rule of own, any or none; found {kv!r}")
    by_site: dict = {}
    for head in sorted(set(heads)):
        by_site.setdefault(sites.site(head), []).append(head.head)
    if not by_site:
        raise UserError("expected at least one head to adapt; found none")
    slices: dict[str, Slice] = {}
    for site, chosen in by_site.items():
        own = tuple(row for head in chosen for row in site.rows(head))
        slices[site.q_proj] = Slice(0, own)
        size = site.heads // site.key_value_heads
        counts = [sum(site.group(head) == group for head in chosen) for group in range(site.key_value_heads)]
        needed = {"own": size, "any": 1, "none": size + 1}[kv]
        shared = tuple(row for group, count in enumerate(counts) if count >= needed for row in site.rows(group))
        if shared:
            slices[site.k_proj] = slices[site.v_proj] = Slice(0, shared)
        slices[site.o_proj] = Slice(1, own)
    return slices
