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


def gated(tensors, at, x):
    """Llama's feed-forward network."""
    up, gate = (F.linear(x, tensors[f"{at}.{name}_proj.weight"]) for name in ("up", "gate"))
    return F.linear(F.silu(gate) * up, tensors[f"{at}.down_proj.weight"])


def llama(tensors, path, x, positions, mask, layers, width, epsilon):
    """Hidden states after the last norm, of all layers over all tokens."""
    for layer in range(layers):
        at = f"{path}.layers.{layer}"
        normed = rms(x, tensors[f"{at}.input_layernorm.weight"], epsilon)
        q, k, v = (F.linear(normed, tensors[f"{at}.self_attn.{name}_proj.weight"]).unflatten(-1, (-1, width)) for name in "qkv")
        x = x + F.linear(mix(rotate(q, positions), rotate(k, positions), v, mask), tensors[f"{at}.self_attn.o_proj.weight"])
        x = x + gated(tensors, f"{at}.mlp", rms(x, tensors[f"{at}.post_attention_layernorm.weight"], epsilon))
    return rms(x, tensors[f"{path}.norm.weight"], epsilon)


def timm(tensors, path, pixels, blocks, heads=16):
    """Patch tokens (B, patches, width) after the first `blocks` blocks of a vision transformer as timm builds it."""
    def linear(name, x):
        return F.linear(x, tensors[f"{path}.{name}.weight"], tensors[f"{path}.{name}.bias"])

    def norm(name, x):
        return F.layer_norm(x, x.shape[-1:], tensors[f"{path}.{name}.weight"], tensors[f"{path}.{name}.bias"], 1e-6)

    weight, bias = (tensors[f"{path}.patch_embed.proj.{kind}"] for kind in ("weight", "bias"))
    x = F.conv2d(pixels, weight, bias, stride=weight.shape[-1]).flatten(2).transpose(1, 2) + tensors[f"{path}.pos_embed"]
    before = [tensors[f"{path}.{name}"].expand(len(x), -1, -1) for name in ("cls_token", "reg_token") if f"{path}.{name}" in tensors]
    extra, x = sum(part.shape[1] for part in before), torch.cat([*before, x], 1)
    everything = torch.ones(1, x.shape[1], x.shape[1], dtype=torch.bool)
    for block in range(blocks):
        at = f"blocks.{block}"
        q, k, v = linear(f"{at}.attn.qkv", norm(f"{at}.norm1", x)).unflatten(-1, (3, heads, -1)).unbind(2)
        x = x + linear(f"{at}.attn.proj", mix(q, k, v, everything)) * tensors.get(f"{path}.{at}.ls1.scale_factor", 1.0)
        inner = F.gelu(linear(f"{at}.mlp.fc1", norm(f"{at}.norm2", x)))
        x = x + linear(f"{at}.mlp.fc2", inner) * tensors.get(f"{path}.{at}.ls2.scale_factor", 1.0)
    return x[:, extra:]
