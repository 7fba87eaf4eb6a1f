"""Transformers written out from the published formulas over named tensors, all tokens at once and without a cache."""

import math

import torch
from torch.nn import functional as F


def rms(x, scale, epsilon=1e-6):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + epsilon) * scale


def rotate(x, positions, base=10_000.0):
    """x (B, tokens, heads, width): the halves are turned against each other."""
    half = x.shape[-1] // 2
    angle = positions[..., None].float() / base ** (torch.arange(half) * 2 / x.shape[-1])
    sin, cos = angle.sin()[:, :, None], angle.cos()[:, :, None]
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


def mix(q, k, v, mask):
    """q (B, T, H, d), k and v (B, S, G, d), mask (B, T, S) -> (B, T, H d)."""
    k, v = (x.repeat_interleave(q.shape[2] // k.shape[2], 2) for x in (k, v))
    scores = torch.einsum("bthd,bshd->bhts", q, k) / math.sqrt(q.shape[-1])
    return torch.einsum("bhts,bshd->bthd", scores.masked_fill(~mask[:, None], -torch.inf).softmax(-1), v).flatten(2)


def blocks(valid, block):
    """Tokens see tokens of blocks up to their own, padding excepted: valid (B, T), block (T,) -> (B, T, T)."""
    return (block[None, :] <= block[:, None])[None] & valid[:, None, :] & valid[:, :, None] | torch.eye(len(block), dtype=torch.bool)


def sinusoid(time, width, dtype=torch.float64, low=4e-3, high=4.0):
    """openpi and lerobot work in float64 here, transformers' pi0 in float32: angles of 1,600 radians, so 1e-4 apart."""
    period = low * (high / low) ** torch.linspace(0, 1, width // 2, dtype=dtype)
    angle = time[:, None].to(dtype) * (1 / period * 2 * math.pi)
    return torch.cat([angle.sin(), angle.cos()], -1).float()


def mlp(tensors, name, x):
    """Two linear layers with a SiLU between them."""
    first, second = ((tensors[f"{name}_{part}.weight"], tensors[f"{name}_{part}.bias"]) for part in ("in", "out"))
    return F.linear(F.silu(F.linear(x, *first)), *second)
