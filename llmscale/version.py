"""The version of llmscale."""

__version__ = "0.1.0"
