"""Calipose: all people's poses in one pass, each with a score that is its expected OKS."""

__version__ = "0.1.0"
