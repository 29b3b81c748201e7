"""The table of runs that laws are fitted to: a results folder, a file, a stream or a frame,
checked.

>>> import pandas as pd
>>> runs = pd.DataFrame({"N": ["125M", "1.3B"], "D": [2.5, 26], "ppl": [24.1, 12.4]})
>>> table = read_table(runs, columns={"loss": "ppl"}, units={"tokens": "B", "loss": "perplexity"})
>>> print(table)
2 runs from <table>
>>> table.frame[["params", "tokens", "loss"]].round(3).to_numpy().tolist()
[[125000000.0, 2500000000.0, 3.182], [1300000000.0, 26000000000.0, 2.518]]
"""

from llmscale.explain.table.columns.find import ALIASES, COUNTS
from llmscale.explain.table.columns.pairs import parse_columns
from llmscale.explain.table.columns.units import parse_units, to_base
from llmscale.explain.table.read import read_table
from llmscale.explain.table.run_table import NO_VALUE, Excluded, RunTable, groups

__all__ = [
    "ALIASES",
    "COUNTS",
    "NO_VALUE",
    "Excluded",
    "RunTable",
    "groups",
    "parse_columns",
    "parse_units",
    "read_table",
    "to_base",
]
