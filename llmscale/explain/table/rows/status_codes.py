"""Statuses of runs that are numbers: what 1 means, only whoever wrote them knows."""

import re
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

NO_STATUS = "no status"
MOST_WORDS = 12
"""A column of more words than this describes runs, and says no status."""


def are_numerals(given: pd.Series) -> bool:
    """Whether texts are whole numbers, and say no more than these do."""
    there = given.dropna()
    texts = all(isinstance(value, str) for value in there)
    return texts and all(re.fullmatch(r"\s*-?\d+(\.0*)?\s*", value) for value in there)


def are_codes(given: pd.Series) -> bool:
    """Whether numbers are whole, differ, and are few enough to be codes of statuses."""
    codes = given.dropna().astype(float).unique()
    return 1 < len(codes) <= MOST_WORDS and all(code % 1 == 0 for code in codes)


def numerals(given: pd.Series) -> NDArray[Any]:
    """Whole numbers as they are written, also where missing ones made floats of them."""
    texts = [NO_STATUS if pd.isna(value) else f"{float(value):.0f}" for value in given]
    return np.array(texts, dtype=object)
