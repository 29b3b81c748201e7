"""What tests of the page of `explore` share: runs, and the command."""

from typing import Any

import numpy as np
import pandas as pd
from typer.testing import CliRunner, Result

from llmscale.commands import app


def grid(noise: float = 0.004) -> pd.DataFrame:
    N, D = map(np.ravel, np.meshgrid(np.geomspace(1e7, 3e9, 6), np.geomspace(3e8, 1e11, 6)))
    factor = np.exp(noise * np.random.default_rng(0).standard_normal(len(N)))
    loss = (1.8 + 420 / N**0.36 + 2100 / D**0.31) * factor
    return pd.DataFrame({"params": N, "tokens": D, "loss": loss})


def run(*arguments: Any) -> Result:
    return CliRunner().invoke(app, ["explore", *map(str, arguments)])
