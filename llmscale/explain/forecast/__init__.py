"""Forecasts beyond the runs, and backtests of them."""
