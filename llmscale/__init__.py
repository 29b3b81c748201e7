"""Scaling laws of language models: measured on real text, fitted with error bars."""

__version__ = "0.1.0"
