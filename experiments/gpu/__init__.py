"""The steps of experiments/gpu_check.py, and what runs them.

`settings` is what was asked for, `steps` the list of steps, `leader` runs them in processes of
their own (`child`), and `report` and `packing` show and keep what they found. The other files hold
the steps: functions that yield rows, each of which is kept as soon as it is there."""

from typing import Any, TypeAlias

Row: TypeAlias = dict[str, Any]
"""One finding, as JSON."""
