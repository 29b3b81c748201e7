"""A loss is written with the digits that its interval bears and its size asks for."""

import pytest

import llmscale
from llmscale.explain import digits, html

SIZES = [1e7 * 2.0**power for power in range(10)]


@pytest.mark.parametrize(
    ("value", "low", "high", "written"),
    [
        (2.34561, 2.33001, 2.35999, "2.3456 [2.3300, 2.3600]"),
        (2.81, 2.1, 3.93, "2.81 [2.10, 3.93]"),
        (0.0021, 0.0020995, 0.0021007, "0.00210000 [0.00209950, 0.00210070]"),
        (45.678, 40.1, 52.3, "45.7 [40.1, 52.3]"),
        (0.0, -0.0001, 0.5, "0.000 [0.000, 0.500]"),
        (2.0, 2.0, 2.0, "2.0000 [2.0000, 2.0000]"),
        (1.5, 1.2, 3e9, "1.50 [1.20, 3e+09]"),
        (2.34561, float("nan"), float("nan"), "2.3456"),
        (0.0021234, float("nan"), float("nan"), "0.002123"),
    ],
)
def test_digits_follow_the_width_of_the_interval(
    value: float, low: float, high: float, written: str
) -> None:
    assert digits.with_ends(value, low, high) == written


def test_ends_of_coefficients_are_told_apart() -> None:
    assert html.ends((1.75, 1.87)) == "[1.75, 1.87]"
    assert html.ends((0.0017995, 0.0018001)) == "[0.0017995, 0.0018001]"


def test_how_many_times_is_no_power_of_ten() -> None:
    said = [digits.times(value) for value in (3.14159, 999.99999, 1970.3)]
    assert said == ["3.14x", "1,000x", "1,970x"]


def test_forecasts_of_small_losses_show_their_interval() -> None:
    losses = [0.0018 + 20 / N**0.6 * (1 + 0.002 * (-1) ** place) for place, N in enumerate(SIZES)]
    told = llmscale.predict(
        {"params": SIZES, "loss": losses}, law="power-floor", params=2e10, bootstrap=50
    )
    for text in (told.verdict, str(told), told._repr_html_()):
        ends = [digits.number(end, told.low, told.high) for end in (told.low, told.high)]
        assert f"[{', '.join(ends)}]" in text
        assert len(set(ends)) == 2
