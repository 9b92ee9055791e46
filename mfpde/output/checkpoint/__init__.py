"""Checkpoints: files that are complete or absent, in two generations."""
