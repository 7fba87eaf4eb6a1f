"""Head-sparse LoRA: a compact PEFT layer in memory, an ordinary PEFT adapter on disk."""
