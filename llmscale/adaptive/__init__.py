"""The loop of `llmscale next --auto`: sweep, fit, choose, until a forecast is narrow enough."""
