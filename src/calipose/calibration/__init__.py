"""What scores mean: maps from a model's own score to the expected OKS, and thresholds for a target precision."""
