"""Feature networks: one file a family."""
