"""Schedules, rules in size, and the jobs made of them."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmscale.errors import InputError
from llmscale.measure.schedules import SCHEDULES
from llmscale.measure.train.job import Job, JobText, evaluations, make_job
from llmscale.measure.train.recipe import Recipe, beta2, warmup_tokens
from llmscale.runs.shape import shape_for


def job(
    size: str = "2x16x1",
    tokens: int = 100_000,
    recipe: Recipe | None = None,
    *,
    seed: int = 0,
    dtype: str = "float32",
    fingerprint: str = "f",
    text_tokens: int = 1_000_000,
) -> Job:
    recipe = recipe or Recipe(context=64)
    shape = shape_for(size, vocab_size=300, context=recipe.context, arch=recipe.arch)
    text = JobText("text", fingerprint, text_tokens, validation_tokens=10_000)
    return make_job(size, shape, tokens, recipe, text, seed=seed, dtype=dtype)


@given(
    st.sampled_from(SCHEDULES.names),
    st.integers(1, 500),
    st.integers(0, 100),
    st.floats(0, 1),
    st.data(),
)
def test_a_learning_rate_is_always_positive_and_never_above_its_peak(
    name: str, steps: int, warmup: int, cooldown: float, data: st.DataObject
) -> None:
    schedule = SCHEDULES.find(name)(steps, warmup, cooldown)
    step = data.draw(st.integers(0, steps - 1))
    assert 0 < schedule.fraction(step) <= 1


def test_wsd_warms_up_stays_and_cools_down_by_one_minus_the_square_root() -> None:
    schedule = SCHEDULES.find("wsd")(steps=1000, warmup=100, cooldown=0.2)
    rates = [schedule.fraction(step) for step in range(1000)]
    assert rates[:100] == sorted(rates[:100])
    assert set(rates[100:800]) == {1.0}
    assert rates[800:] == sorted(rates[800:], reverse=True)
    assert rates[899] == pytest.approx(1 - (100 / 201) ** 0.5)
    assert rates[-1] < 0.01


def test_a_shorter_wsd_run_is_the_beginning_of_a_longer_one_until_it_cools_down() -> None:
    short, long = SCHEDULES.find("wsd")(500, 50), SCHEDULES.find("wsd")(2000, 50)
    assert [short.fraction(s) for s in range(short.cooldown_start)] == [
        long.fraction(s) for s in range(short.cooldown_start)
    ]


def test_cosine_ends_at_a_tenth() -> None:
    schedule = SCHEDULES.find("cosine")(steps=1000, warmup=100)
    assert schedule.fraction(100) == pytest.approx(1.0, abs=1e-4)
    assert schedule.fraction(550) == pytest.approx(0.55, abs=0.01)
    assert schedule.fraction(999) == pytest.approx(0.1, abs=1e-3)


def test_learning_rate_falls_with_size_and_batch_grows_with_tokens() -> None:
    recipe = Recipe(context=128)
    sizes = [10**power for power in range(4, 12)]
    rates = [recipe.learning_rate(size, 20 * size) for size in sizes]
    batches = [recipe.batch_sequences(size, 20 * size) for size in sizes]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] > 3 * rates[-1]
    assert batches == sorted(batches)
    assert all(batch & (batch - 1) == 0 for batch in batches)
    assert 0.5 < 128 * recipe.batch_sequences(10**8, 10**9) / (0.58 * 1e9**0.571) <= 1
    assert recipe.batch_sequences(1, 1) == 1
    assert recipe.learning_rate(10**6, 20 * 10**6) == pytest.approx(0.0035, rel=0.01)
    assert rates[-1] / rates[-2] == pytest.approx(10 ** (-1 / 3), rel=0.01)
    assert recipe.learning_rate(10**4, 10**10) == 0.03
    assert Recipe(lr_scale=0.5).learning_rate(10**6, 10**8) == pytest.approx(
        0.5 * Recipe().learning_rate(10**6, 10**8)
    )
    assert (
        Recipe(lr=0.01).learning_rate(10**4, 10**6)
        == Recipe(lr=0.01).learning_rate(10**9, 10**9)
        == 0.01
    )
    assert Recipe(context=128, batch_tokens=1000).batch_sequences(10**8, 10**9) == 8


def test_warm_up_and_second_beta_follow_their_sources() -> None:
    assert warmup_tokens(params=1_000, tokens=100_000) == 1_000
    assert warmup_tokens(params=1_000_000, tokens=100_000) == 10_000
    assert (beta2(524_288), beta2(524_287)) == (0.95, 0.99)


@pytest.mark.parametrize(
    "settings",
    [
        {"arch": "rnn"},
        {"schedule": "step"},
        {"lr": -1.0},
        {"clip": 0.0},
        {"cooldown": 1.5},
        {"context": 0},
    ],
)
def test_an_impossible_recipe_is_refused(settings: dict[str, object]) -> None:
    with pytest.raises(InputError):
        Recipe(**settings)  # type: ignore[arg-type]


def test_equal_jobs_have_equal_ids_and_everything_that_decides_a_run_enters_them() -> None:
    first = job()
    assert job().run_id == first.run_id
    assert (
        dataclasses.replace(first, size="10k", data="another name for the text").run_id
        == first.run_id
    )
    changed = [
        job(seed=1),
        job(dtype="bfloat16"),
        job(tokens=200_000),
        job("2x32x1"),
        job(fingerprint="g"),
        job(recipe=Recipe(context=64, lr_scale=2.0)),
        job(recipe=Recipe(context=64, arch="gpt2")),
        job(recipe=Recipe(context=64, schedule="cosine")),
        job(text_tokens=900_000),
    ]
    assert len({first.run_id, *(other.run_id for other in changed)}) == 1 + len(changed)


def test_every_size_trains_on_the_same_tokens_whatever_its_batch() -> None:
    jobs = [job(size, tokens=1_000_003) for size in ("2x16x1", "4x64x4", "4x144x6")]
    assert {one.tokens for one in jobs} == {1_000_003 // 64 * 64}
    for one in jobs:
        assert (
            (one.steps - 1) * one.batch_sequences < one.sequences <= one.steps * one.batch_sequences
        )
        assert one.flops == one.tokens * one.shape.flops_per_token


def test_a_budget_beyond_the_text_counts_epochs_and_unique_tokens() -> None:
    one = job(tokens=300_000, text_tokens=100_001)
    assert one.unique_tokens == 100_001 // 64 * 64
    assert one.epochs == pytest.approx(3, rel=0.01)
    assert job(tokens=50_000).unique_tokens == job(tokens=50_000).tokens


def test_evaluation_costs_at_most_a_tenth_of_training() -> None:
    for tokens in (10**5, 10**6, 10**8, 10**10):
        for validation in (10**4, 10**6):
            count = evaluations(tokens, validation)
            assert 1 <= count <= 20
            assert count == 1 or count * validation / 3 <= 0.1 * tokens
