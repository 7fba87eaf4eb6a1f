"""Trials of policies, what they prove, and the report of them."""
