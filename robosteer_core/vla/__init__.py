"""Vision-language-action policies, one file per family, on transformers' layers."""
