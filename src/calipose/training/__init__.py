"""Targets, losses, recipes and the training loop (needs torch, apart from `recipe`)."""
