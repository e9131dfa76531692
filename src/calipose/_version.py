"""The version, which checkpoints, exported files and requests for URLs name."""

__version__ = "0.1.0"
