"""Every law with coefficients like those published, and runs that can tell them apart."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from llmscale.explain.laws import LAWS, Law

PUBLISHED: dict[str, dict[str, float]] = {
    "broken": {"a": 1.9, "b": 12.0, "c0": 0.12, "c1": 0.16, "d1": 3e7, "f1": 0.4},
    "chinchilla": {"E": 1.8172, "A": 477.8, "B": 2143.4, "alpha": 0.3473, "beta": 0.3672},
    "curve": {"L0": 2.6, "A": 0.45, "C": 0.6, "alpha": 0.5},
    "curve-size": {"L0": 1.9, "A": 0.45, "B": 90.0, "C": 0.6, "alpha": 0.5, "beta": 0.28},
    "data-constrained": {
        "E": 1.869,
        "A": 521.0,
        "B": 1487.0,
        "alpha": 0.3527,
        "beta": 0.3527,
        "R_D_star": 15.39,
        "R_N_star": 5.31,
    },
    "farseer": {
        "a1": -0.124,
        "b1": 0.424,
        "alpha": 0.123,
        "a2": 88.01,
        "b2": -6.287,
        "beta": -0.1,
        "a3": -0.021,
        "b3": -0.091,
        "gamma": 0.169,
    },
    "kaplan": {"N_c": 6.4e13, "D_c": 1.8e13, "alpha_N": 0.076, "alpha_D": 0.103},
    "moe": {
        "e": 0.94,
        "a": 16612.5,
        "b": 5455.67,
        "c": 0.4598,
        "d": 17.26,
        "alpha": 0.5962,
        "beta": 0.3954,
        "lam": -0.1666,
        "delta": 0.1603,
        "gamma": 0.1595,
    },
    "over-training": {"E": 1.51, "a": 141.0, "b": 190.0, "eta": 0.121},
    "power": {"A": 15.0, "alpha": 0.095},
    "power-floor": {"E": 1.7, "A": 400.0, "alpha": 0.34},
    "precision": {"E": 1.94, "A": 4299.0, "B": 18060.0, "alpha": 0.4965, "beta": 0.4, "gamma": 2.0},
    "transfer": {
        "N_c": 6.4e13,
        "D_c": 1.8e13,
        "alpha_N": 0.076,
        "alpha_D": 0.103,
        "k": 1.9e4,
        "alpha": 0.18,
        "beta": 0.38,
    },
}
"""From the papers where they give numbers for all of a law's coefficients, else of their kind."""


def example(name: str) -> Law:
    """The law with the coefficients above."""
    return LAWS.find(name)(**PUBLISHED[name])


def simulated(name: str) -> pd.DataFrame:
    """Runs without noise: the law's inputs, `run_id` and `loss`."""
    law = example(name)
    frame = _DESIGNS.get(name, _sizes_and_tokens)()
    frame["loss"] = law.loss(*(frame[column].to_numpy() for column in law.inputs))
    frame["run_id"] = [f"run{index}" for index in range(len(frame))]
    return frame


def _grid(**axes: np.ndarray) -> pd.DataFrame:
    values = np.meshgrid(*axes.values(), indexing="ij")
    return pd.DataFrame({name: value.ravel() for name, value in zip(axes, values, strict=True)})


def _sizes() -> pd.DataFrame:
    return _grid(params=np.geomspace(1e5, 1e10, 36), tokens=np.array([1e10]))


def _sizes_and_tokens() -> pd.DataFrame:
    return _grid(params=np.geomspace(1e7, 1e10, 7), tokens=np.geomspace(1e8, 1e12, 7))


def _with_bits() -> pd.DataFrame:
    frame = _grid(
        params=np.geomspace(3e7, 2e9, 4),
        tokens=np.geomspace(1.5e9, 5e10, 3),
        bits=np.arange(3.0, 8.0),
    )
    return frame[(frame.index % 5 < 3) | (frame["bits"] > 5)].reset_index(drop=True)


def _with_repetition() -> pd.DataFrame:
    frame = _grid(
        unique_tokens=np.array([1e8, 4e8, 1.5e9, 4e9]),
        epochs=np.array([1.0, 4.0, 15.0, 60.0]),
        params=_REPEATED_SIZES,
    )
    frame["tokens"] = frame["unique_tokens"] * frame.pop("epochs")
    return frame


_REPEATED_SIZES = np.array([7e6, 7e7, 7e8, 7e9])


def _experts() -> pd.DataFrame:
    frame = _grid(
        params_total=np.geomspace(1e8, 3e10, 5),
        sparsity=np.array([0.0, 0.5, 0.9, 0.98]),
        tokens=np.geomspace(2e9, 2e11, 3),
    )
    frame["params_active"] = frame["params_total"] * (1 - frame.pop("sparsity"))
    frame["params"] = frame["params_active"]
    return frame


def _fine_tuning() -> pd.DataFrame:
    return _grid(
        params=np.geomspace(1e6, 1e9, 6),
        tokens=np.geomspace(1e5, 1e9, 5),
        pretrained=np.array([0.0, 1.0]),
    )


def _curves() -> pd.DataFrame:
    frame = _grid(
        lr_area=np.geomspace(0.5, 20.0, 12), annealing_area=np.array([0.0, 0.1, 0.3, 0.5])
    )
    frame["params"], frame["tokens"] = 1e8, 1e6 * frame["lr_area"]
    return frame


def _curves_of_sizes() -> pd.DataFrame:
    frame = _grid(
        params=np.geomspace(1e6, 1e9, 4),
        lr_area=np.geomspace(0.5, 20.0, 5),
        annealing_area=np.array([0.0, 0.2, 0.5]),
    )
    frame["tokens"] = 1e6 * frame["lr_area"]
    return frame


_DESIGNS: dict[str, Callable[[], pd.DataFrame]] = {
    "broken": _sizes,
    "curve": _curves,
    "curve-size": _curves_of_sizes,
    "data-constrained": _with_repetition,
    "moe": _experts,
    "power": _sizes,
    "power-floor": _sizes,
    "precision": _with_bits,
    "transfer": _fine_tuning,
}
