"""LoRA on slices of a linear layer: only the chosen heads' rows or columns have parameters. And its ordinary companions.

In memory the factor next to the slice is as small as the slice; a state dict holds it dense, with zeros elsewhere, so
that what is saved is an ordinary PEFT LoRA and what PEFT saved loads here.
"""

from __future__ import annotations

import warnings
from typing import Any, Mapping

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners import lora
from peft.utils import ModulesToSaveWrapper
from torch import nn

from robosteer_core.adapters.slices import Slice
from robosteer_core.adapters.targets import Targets

ADAPTER = "default"


class SlicedLinear(lora.Linear):
    """A linear layer with W + s B A, where B has only the slice's rows, or A only the slice's columns.

    Which one is `config.slices[module path]`. Registered with PEFT by `LoraConfig._register_custom_module`, which PEFT
    marks as experimental: the version is pinned, and the tests compare with PEFT's own layer.
    """

    def __init__(self, base_layer: nn.Module, adapter_name: str, config: LoraConfig, **kwargs: Any) -> None:
        self._slices: dict[str, Slice] = {}
        super().__init__(base_layer, adapter_name, config=config, **kwargs)
        self.register_state_dict_post_hook(_expand)
        self.register_load_state_dict_pre_hook(_contract)

    def update_layer(self, adapter_name: str, r: int, lora_alpha: int, config: LoraConfig, **kwargs: Any) -> None:
        super().update_layer(adapter_name, r, lora_alpha, config=config, **kwargs)
        part = config.slices[kwargs["target_name"]]
        self._slices[adapter_name] = part
        indices = torch.tensor(part.indices)
        self.register_buffer(f"_indices_{adapter_name}", indices.to(self.get_base_layer().weight.device), persistent=False)
        weight = self.get_base_layer().weight
        factors = self.lora_B if part.dim == 0 else self.lora_A
        size = (r, len(part.indices)) if part.dim == 0 else (len(part.indices), r)
        factors[adapter_name] = nn.Linear(*size, bias=False, device=weight.device, dtype=weight.dtype)
        self.reset_lora_parameters(adapter_name, config.init_lora_weights)
        self.set_adapter(self.active_adapters, inference_mode=config.inference_mode)

    def indices(self, adapter_name: str) -> torch.Tensor:
        return getattr(self, f"_indices_{adapter_name}")

    def get_delta_weight(self, adapter: str) -> torch.Tensor:
        """(out, in): what merging adds to the weight, zero outside of the slice."""
        delta = torch.zeros_like(self.get_base_layer().weight)
        product = self.lora_B[adapter].weight @ self.lora_A[adapter].weight * self.scaling[adapter]
        return delta.index_add_(self._slices[adapter].dim, self.indices(adapter), product.to(delta.dtype))

    def forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        if self.disable_adapters and self.merged:
            self.unmerge()
        result = self.base_layer(x, *args, **kwargs)
        if self.disable_adapters or self.merged:
            return result
        for adapter in self.active_adapters:
            if adapter not in self._slices:
                continue
            a, b, scaling, indices = self.lora_A[adapter], self.lora_B[adapter], self.scaling[adapter], self.indices(adapter)
            if self._slices[adapter].dim == 0:
                result = result.index_add(-1, indices, b(a(x)) * scaling)
            else:
                result = result + b(a(x.index_select(-1, indices))) * scaling
        return result


def _expand(module: SlicedLinear, state: dict[str, torch.Tensor], prefix: str, _: Any) -> None:
    for adapter, part in module._slices.items():
        key = _key(prefix, adapter, part)
        if key in state:
            compact = state[key]
            size = list(compact.shape)
            size[part.dim] = module.out_features if part.dim == 0 else module.in_features
            state[key] = compact.new_zeros(size).index_copy(part.dim, module.indices(adapter), compact)


def _contract(module: SlicedLinear, state: dict[str, torch.Tensor], prefix: str, *_: Any) -> None:
    for adapter, part in module._slices.items():
        key = _key(prefix, adapter, part)
        if key in state:
            state[key] = state[key].index_select(part.dim, module.indices(adapter).to(state[key].device))


def _key(prefix: str, adapter: str, part: Slice) -> str:
    return f"{prefix}lora_{'B' if part.dim == 0 else 'A'}.{adapter}.weight"


def _layer(target: nn.Module, adapter_name: str, config: LoraConfig, **kwargs: Any) -> lora.Linear:
    """The compact layer where the configuration names a slice of this module, else PEFT's own."""
    kind = SlicedLinear if kwargs["target_name"] in config.slices else lora.Linear
    return kind(target, adapter_name, config=config, **kwargs)


def adapter_config(targets: Targets, rank: int, alpha: float) -> LoraConfig:
    """PEFT's configuration of an adapter on these modules; saved, it describes an ordinary LoRA."""
    modules = sorted((*targets.slices, *targets.whole))
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=modules, bias="none", modules_to_save=list(targets.full) or None)
    config.target_modules = modules  # PEFT keeps a set, whose order would differ from run to run
    config.slices = dict(targets.slices)  # not a field, so it is not saved; SlicedLinear reads it
    config._register_custom_module({nn.Linear: _layer})
    return config


def add_adapter(model: nn.Module, targets: Targets | Mapping[str, Slice], rank: int, alpha: float, name: str = ADAPTER) -> LoraConfig:
    """Put a new adapter, which changes nothing yet, into `model` in place; only its parameters require gradients.

    `targets` may be slices alone. The first factor is drawn from torch's global generator.
    """
    targets = targets if isinstance(targets, Targets) else Targets(dict(targets))
    config = adapter_config(targets, rank, alpha)
    with warnings.catch_warnings():
        # A second adapter beside the first is meant.
        warnings.filterwarnings("ignore", message="Already found a `peft_config` attribute")
        inject_adapter_in_model(config, model, adapter_name=name)
    for path in targets.full:
        module = model.get_submodule(path)
        if isinstance(module, ModulesToSaveWrapper):
            module.update(name)
        else:
            module = ModulesToSaveWrapper(module, name)
            parent, _, last = path.rpartition(".")
            setattr(model.get_submodule(parent), last, module)
        module.set_adapter(name)
    return config


def adapter_layers(model: nn.Module) -> dict[str, SlicedLinear]:
    """Layers with a compact adapter by module path."""
    return {path: module for path, module in model.named_modules() if isinstance(module, SlicedLinear)}


def adapted_modules(model: nn.Module) -> dict[str, lora.Linear | ModulesToSaveWrapper]:
    """All that adapters put into a model by module path: compact and ordinary LoRA layers, and modules trained in full."""
    return {path: module for path, module in model.named_modules() if isinstance(module, lora.Linear | ModulesToSaveWrapper)}


def switch(model: nn.Module, name: str | None) -> None:
    """Make one of the adapters in `model` the active one, without gradients; None turns all of them off."""
    for module in adapted_modules(model).values():
        has = name in (module.lora_A if isinstance(module, lora.Linear) else module.modules_to_save)
        # Set first: PEFT turns on the gradients of what is active when it enables it.
        if has:
            module.set_adapter([name], inference_mode=True)
        module.enable_adapters(has)
        module.requires_grad_(False)


def merge(model: nn.Module) -> None:
    """Add the active adapter to the base weights and take the adapters' layers out again."""
    for path, module in adapted_modules(model).items():
        if isinstance(module, lora.Linear):
            module.merge(safe_merge=True)
            merged = module.get_base_layer()
        else:
            active = module.active_adapters
            merged = module.modules_to_save[active[0]] if active and not module.disable_adapters else module.original_module
        parent, _, name = path.rpartition(".")
        setattr(model.get_submodule(parent), name, merged)
    # PEFT leaves its configuration on the model that it injected into.
    if hasattr(model, "peft_config"):
        del model.peft_config
