"""Sizes and counts as people write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmscale.errors import InputError
from llmscale.quantity import (
    format_bytes,
    format_count,
    format_seconds,
    parse_amount,
    parse_budget,
    parse_count,
    parse_list,
)


@pytest.mark.parametrize(
    ("text", "count"),
    [("30k", 30_000), ("1M", 10**6), ("1.5B", 1_500_000_000), ("2e9", 2 * 10**9), ("1T", 10**12),
     (" 7 ", 7),
     ("0.3M", 300_000), ("1_000", 1000), ("1.1k", 1100)],
)  # fmt: skip
def test_counts_read_as_people_write_them(text: str, count: int) -> None:
    assert parse_count(text) == count
    assert parse_amount(text) == count


@pytest.mark.parametrize(("text", "amount"), [("0.5", 0.5), ("2.5", 2.5), ("1.2345k", 1234.5)])
def test_amounts_keep_their_fractions(text: str, amount: float) -> None:
    assert parse_amount(text) == amount


@pytest.mark.parametrize(
    "text", ["10Q", "", "M", "0", "-3M", "1.2.3", "1 M M", "nan", "inf", "0.0001", "1e", "ten"]
)
def test_what_is_no_positive_count_is_refused(text: str) -> None:
    with pytest.raises(InputError) as error:
        parse_count(text, "size")
    assert error.value.exit_code == 2
    assert error.value.problem.startswith("size")


@given(st.integers(min_value=1, max_value=9_990_000_000_000))
def test_a_formatted_count_reads_back_within_its_three_digits(count: int) -> None:
    assert parse_count(format_count(count)) == pytest.approx(count, rel=0.0051)


@given(st.integers(min_value=1, max_value=10**12))
def test_a_whole_number_reads_back_exactly(count: int) -> None:
    assert parse_count(str(count)) == count


def test_a_budget_is_tokens_or_tokens_per_parameter() -> None:
    assert parse_budget("100M").tokens(params=7) == 100_000_000
    assert parse_budget("20x").tokens(params=1_000_000) == 20_000_000
    assert str(parse_budget("20x")) == "20x"
    assert str(parse_budget("4M")) == "4M"
    for wrong in ("x", "-5x", "0x", "infx", "nanx", "5y"):
        with pytest.raises(InputError):
            parse_budget(wrong)


def test_an_amount_with_a_currency_is_to_be_written_without() -> None:
    for money in ("$50k", "50k€"):
        with pytest.raises(InputError, match="without the currency, like 50k"):
            parse_amount(money, "--money")
    with pytest.raises(InputError, match="write it like 30k"):
        parse_amount("much", "--money")


def test_a_list_keeps_its_order_and_each_item_once() -> None:
    assert parse_list("3,1,, 2", parse_count, "sizes") == (3, 1, 2)
    with pytest.raises(InputError, match="sizes names 3 twice"):
        parse_list("3,1,3", parse_count, "sizes")
    with pytest.raises(InputError, match="sizes names 2k and 2000"):
        parse_list("2k,2000", parse_count, "sizes")
    with pytest.raises(InputError, match="empty"):
        parse_list(" , ", parse_count, "sizes")


def test_durations_and_memory_read_like_prose() -> None:
    assert [format_seconds(s) for s in (0.5, 45, 200, 20_000, 500_000, 3e8)] == [
        "0.5 s",
        "45 s",
        "3.3 min",
        "5.6 h",
        "5.8 days",
        "9.5 years",
    ]
    assert format_seconds(39_074.7 * 365.25 * 86400) == "39,100 years"
    assert [format_bytes(b) for b in (12, 2048, 3 << 20, 5 << 30, 2 << 40)] == [
        "12 B",
        "2 KiB",
        "3 MiB",
        "5 GiB",
        "2.0 TiB",
    ]
