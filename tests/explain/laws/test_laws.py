"""One contract for every law in the menu: a new file is tested the moment it exists."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import llmscale
from llmscale.errors import InputError
from llmscale.explain import laws
from llmscale.explain.laws import LAWS, Law

EVERY_LAW = LAWS.names
COEFFICIENTS = {"E": 1.7, "A": 400.0, "B": 900.0, "alpha": 0.34, "beta": 0.29}


FARSEER = (-0.12, 0.12, 0.1, 2.0, 1.0, 0.05, -0.02, 0.9, 0.2)


AS_PUBLISHED = (
    *("routed", "joint-moe", "upcycling", "sparsity"),
    *(name for name in LAWS.names if LAWS.find(name).plain),
)
"""Laws that are no numbers, or no losses, at the coefficients and runs that suit the others."""


def example(name: str) -> Law:
    law: Any = LAWS.find(name)
    if name == "farseer":
        return law(*FARSEER)
    if name in AS_PUBLISHED:
        return law(*law.published)
    return law(*(COEFFICIENTS.get(coefficient, 0.5) for coefficient in law.coefficient_names()))


COLUMNS = {
    "pretrained": (0, 1),
    "bits": (3, 16),
    "lr_area": (1, 30),
    "annealing_area": (0.01, 1),
    "share": (0.01, 1),
}


def runs(law: Law, count: int = 23) -> list[np.ndarray]:
    """Values for every column that the law takes; those not named above are counts from a million
    up.
    """
    rng = np.random.default_rng(1)
    if law.name in AS_PUBLISHED:
        columns = type(law).example_runs()
        rows = rng.permutation(len(columns[law.inputs[0]]))[:count]
        return [columns[name][rows] for name in law.inputs]
    values = []
    for i, name in enumerate(law.inputs):
        low, high = COLUMNS.get(name, (1e6 * 20**i, 1e9 * 20**i))
        values.append(
            rng.integers(0, 2, count) * 1.0
            if low == 0
            else low * (high / low) ** rng.uniform(0, 1, count)
        )
    return values


@pytest.mark.parametrize("name", EVERY_LAW)
def test_every_law_says_what_it_is_and_where_it_comes_from(name: str) -> None:
    law = example(name)
    assert law.name == name
    assert law.formula.startswith(("L = ", "S = "))
    assert all(letter in law.formula for letter in law.coefficient_names())
    assert "20" in law.source
    assert set(law.exponents) <= set(law.coefficient_names())
    assert law.floor is None or law.floor in law.coefficient_names()
    assert law.without_floor is None or law.without_floor in EVERY_LAW


@pytest.mark.parametrize("name", EVERY_LAW)
def test_the_surface_of_every_law_is_the_logarithm_of_its_loss(name: str) -> None:
    law = example(name)
    inputs = runs(law)
    loss = law.loss(*inputs)
    assert loss.shape == inputs[0].shape
    assert isinstance(law.loss(*(float(values[0]) for values in inputs)), float)
    surface = law.surface(inputs, loss)
    coefficients = np.array([list(law.coefficients().values())])
    theta = surface.theta(coefficients)
    np.testing.assert_allclose(surface.evaluate(theta)[0][0], law.level_of(loss), atol=1e-12)
    np.testing.assert_allclose(surface.coefficients(theta), coefficients, rtol=1e-12)


@pytest.mark.parametrize("name", EVERY_LAW)
def test_the_derivatives_of_every_law_are_those_of_finite_differences(name: str) -> None:
    law = example(name)
    inputs = runs(law)
    surface = law.surface(inputs, law.loss(*inputs))
    theta = surface.theta(np.array([list(law.coefficients().values())]))[0]
    rng = np.random.default_rng(2)
    first, second = rng.standard_normal((2, 1, len(inputs[0])))

    def value(at: np.ndarray) -> np.ndarray:
        return surface.evaluate(at[None])[0][0]

    steps = 1e-6 * np.eye(len(theta))
    jacobian = np.stack(
        [(value(theta + step) - value(theta - step)) / 2e-6 for step in steps], axis=1
    )
    # The second derivatives are compared with differences of the first, which the line above is a
    # check of.
    curved = [
        first[0] @ (surface.jacobian(theta + step) - surface.jacobian(theta - step)) / 2e-6
        for step in steps
    ]
    gradient, hessian = surface.derivatives(surface.evaluate(theta[None])[1], first, second)
    np.testing.assert_allclose(
        surface.jacobian(theta), jacobian, atol=1e-6 * max(1.0, np.abs(jacobian).max())
    )
    np.testing.assert_allclose(
        gradient[0], first[0] @ jacobian, atol=1e-5 * max(1.0, np.abs(gradient).max())
    )
    expected = np.einsum("r,rp,rq->pq", second[0], jacobian, jacobian) + np.array(curved)
    np.testing.assert_allclose(hessian[0], expected, atol=1e-5 * max(1.0, np.abs(expected).max()))


@pytest.mark.parametrize("name", EVERY_LAW)
def test_every_law_starts_inside_its_bounds(name: str) -> None:
    law = example(name)
    inputs = runs(law)
    surface = law.surface(inputs, law.loss(*inputs))
    starts = surface.starts(8)
    assert 1 <= len(starts) <= 8
    assert ((starts >= surface.lower) & (starts <= surface.upper)).all()


def test_the_menu_is_the_list_of_files() -> None:
    files = {path.stem.replace("_", "-") for path in Path(laws.__file__).parent.glob("[a-z]*.py")}
    assert set(EVERY_LAW) == files
    assert {"power", "power-floor", "chinchilla"} <= files


def test_an_unknown_law_names_the_nearest() -> None:
    with pytest.raises(InputError, match="no law 'chinchila'") as error:
        LAWS.find("chinchila")
    assert "did you mean chinchilla?" in str(error.value.fix)


def test_a_law_in_another_variable_is_written_with_its_letter() -> None:
    assert LAWS.find("power-floor")(1.0, 2.0, 0.3, variable="tokens").formula == "L = E + A/D^alpha"  # type: ignore[call-arg]


def test_the_compute_optimal_exponents_of_chinchilla_add_up_to_one() -> None:
    optimal = example("chinchilla").compute_optimal()
    assert optimal is not None
    assert optimal["a"] == pytest.approx(0.29 / 0.63)
    assert optimal["a"] + optimal["b"] == pytest.approx(1)


NATURAL = {"params_total": "total_params", "params_active": "active_params", "n_experts": "experts"}


@pytest.mark.parametrize("name", ["moe", "joint-moe", "routed", "routed-floor"])
def test_laws_of_mixtures_of_experts_take_a_table_of_exactly_their_inputs(name: str) -> None:
    """Next to the counts that a law takes N is the active parameters, as C = 6ND has it."""
    kind = LAWS.find(name)
    law: Any = kind(*kind.published)
    columns = {one: kind.example_runs()[one] for one in law.inputs}
    noise = np.exp(0.001 * np.random.default_rng(0).standard_normal(len(columns[law.inputs[0]])))
    columns["loss"] = law.loss(*columns.values()) * noise
    if name == "joint-moe":
        columns["params_total"] = columns["params_active"] * (1 + 0.5 * columns["n_experts"])
    table = {NATURAL.get(one, one): values for one, values in columns.items()}
    fit = llmscale.fit(table, name, bootstrap=0)
    assert "mixed-settings" not in [note.code for note in fit.notes]
    np.testing.assert_allclose(fit.law.loss(*fit.inputs), fit.table.frame["loss"], rtol=0.01)
    if "params_active" in law.inputs:
        assert fit.origin.columns["params"] == fit.origin.columns["params_active"]
        with pytest.raises(InputError, match="any may be params"):
            llmscale.fit(table, "chinchilla")
