"""Finetuning of chosen heads on demonstrations, and the baselines that it is compared with."""
