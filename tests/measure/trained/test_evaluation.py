"""What models are worth: losses and scores against plain loops and the libraries' own numbers."""

import json
import math
import shlex
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sweeps import llmscale

from llmscale import evaluate, fit, generate, open_model, predict, read_runs
from llmscale.errors import InputError
from llmscale.explain.api.next_step import MORE_SIZES, NO_LAW, after_scores
from llmscale.explain.fit.fingerprint import is_of
from llmscale.measure.sweep.records import recorded_runs, write_tables
from llmscale.measure.trained.evaluation.kept import KeptScores
from llmscale.measure.trained.evaluation.measures import measures
from llmscale.measure.trained.evaluation.overlap import overlap
from llmscale.measure.trained.evaluation.scores import Metric, Score
from llmscale.measure.trained.evaluation.spec import EvalSpec
from llmscale.measure.trained.model import TrainedModel
from llmscale.measure.trained.places import find_run
from llmscale.runs.lock import only_writer
from llmscale.runs.results_folder import ResultsFolder
from llmscale.runs.run import Run
from llmscale.runs.run_folder import RunFolder
from llmscale.runs.scores import read_scores, write_measured, write_scores

HARNESS = "needs lm-evaluation-harness: pip install 'llmscale[lm-eval]'"
DOCUMENTS = [f"one {word}; two {word}; three; four é {word}." for word in ("two", "nine", "one")]


@pytest.fixture
def ladder(kept_ladder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(kept_ladder, tmp_path / "ladder"))


@pytest.fixture
def books(tmp_path: Path) -> Path:
    return write(tmp_path / "books.jsonl", [{"text": one} for one in DOCUMENTS])


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def run_of(ladder: Path, place: int = -1) -> Path:
    return sorted(ladder.glob("runs/*"))[place]


def score_of(place: Path, **settings: Any) -> Score:
    (run,) = evaluate(place, **settings).runs
    return run.scores[-1]


def encoded(trained: TrainedModel, text: str) -> list[int]:
    return list(trained.tokenizer.encode(text).ids)


def by_hand(trained: TrainedModel, tokens: list[int], stride: int) -> list[float]:
    """The loss of each token after the first, in windows as Hugging Face's guide moves them."""
    losses: list[float] = []
    before, end = 0, min(trained.context, len(tokens) - 1)
    while before < len(tokens) - 1:
        begin = max(0, end - trained.context)
        window = torch.tensor(tokens[begin : end + 1])
        logits = trained.model(window[None, :-1])[0]
        each = torch.nn.functional.cross_entropy(logits, window[1:], reduction="none")
        losses += each[before - begin :].tolist()
        before, end = end, min(end + stride, len(tokens) - 1)
    return losses


@pytest.mark.parametrize("stride", [None, 8, 5])
def test_a_loss_is_that_of_a_plain_loop_over_windows(
    stride: int | None, ladder: Path, books: Path
) -> None:
    found = score_of(run_of(ladder), data=f"books={books}", stride=stride)
    trained = open_model(run_of(ladder))
    end = trained.end_of_text
    tokens, lengths = [end], []
    for document in DOCUMENTS:
        ids = [*encoded(trained, document), end]
        tokens += ids
        lengths.append(len(ids))
    losses = by_hand(trained, tokens, stride or trained.context)
    assert len(losses) == sum(lengths) == found.tokens
    loss, bits = found.metrics
    assert loss.value == pytest.approx(np.mean(losses), rel=1e-5)
    size = sum(len(document.encode()) for document in DOCUMENTS)
    assert found.bytes == size
    assert bits.value == pytest.approx(sum(losses) / math.log(2) / size, rel=1e-5)


def test_a_standard_error_is_over_documents_or_over_windows_of_a_few(
    ladder: Path, books: Path, tmp_path: Path
) -> None:
    few = score_of(run_of(ladder), data=str(books)).metric("loss")
    assert few.over.endswith("windows")
    rows = [{"text": f"{one} {number}"} for number in range(10) for one in DOCUMENTS]
    many = score_of(run_of(ladder), data=str(write(tmp_path / "many.jsonl", rows))).metric("loss")
    assert many.over == "30 documents"
    trained = open_model(run_of(ladder))
    tokens, owners = [trained.end_of_text], []
    for number, row in enumerate(rows):
        ids = [*encoded(trained, row["text"]), trained.end_of_text]
        tokens += ids
        owners += [number] * len(ids)
    losses = pd.DataFrame({"of": owners, "loss": by_hand(trained, tokens, trained.context)})
    # A jackknife over documents, which knows no formula of a ratio's error.
    left = [losses[losses["of"] != one]["loss"].mean() for one in range(30)]
    jackknife = math.sqrt(29 / 30 * sum((one - np.mean(left)) ** 2 for one in left))
    assert many.stderr == pytest.approx(jackknife, rel=0.03)


def test_the_validation_text_gives_the_loss_of_the_row(ladder: Path) -> None:
    for run in evaluate(ladder).runs:
        (score,) = run.scores
        row = open_model(ladder / run.run_id).row
        assert row is not None
        assert score.metric("loss").value == pytest.approx(row.loss, abs=1e-5)
        assert score.metric("bits_per_byte").value == pytest.approx(row.bits_per_byte, abs=1e-5)


def test_scores_are_columns_measured_once_that_fit_takes_only_if_asked(
    ladder: Path, books: Path
) -> None:
    first = evaluate(ladder, data=[f"books={books}", f"test={books}", "validation"])
    assert not any(run.known for run in first.runs)
    again = evaluate(ladder, data=[f"books={books}", f"test={books}"])
    assert all(run.known == ("books", "test") for run in again.runs)
    assert again.runs[0].scores == first.runs[0].scores[:2]
    assert not any(run.known for run in evaluate(ladder, data=f"books={books}", stride=4).runs)
    table = pd.read_parquet(ladder / "runs.parquet").set_index("run_id")
    for run in first.runs:
        loss = run.scores[1].metric("loss")
        assert table.loc[run.run_id, "loss_test"] == loss.value
        assert table.loc[run.run_id, "loss_stderr_test"] == loss.stderr
    file = shutil.copy(ladder / "runs.parquet", ladder.parent / "runs.parquet")
    assert [read_runs(place).columns["loss"] for place in (ladder, file)] == ["loss", "loss"]
    asked = read_runs(ladder, columns="loss=loss_books").frame.set_index("run_id")["loss"]
    assert asked.to_dict() == table["loss_books"].to_dict()


def five_sizes(place: Path) -> tuple[ResultsFolder, list[Run]]:
    """A results folder of runs that were trained once, without their weights."""
    results = ResultsFolder(place)
    rows = recorded_runs(ResultsFolder(Path(__file__).parents[3] / "results" / "cpu"))[:5]
    for row in rows:
        results.run_folder(row.run_id).path.mkdir(parents=True)
        results.run_folder(row.run_id).write_row(row)
    write_tables(results, final=True)
    return results, rows


@pytest.mark.parametrize("column", ["loss_books", "accuracy_mc"])
def test_the_command_after_scores_of_several_sizes_runs(column: str, tmp_path: Path) -> None:
    results, rows = five_sizes(tmp_path / "own")
    for row in rows:
        value = row.params**-0.1
        scores = {"loss_books": value, "accuracy_mc": 1 - value}
        write_scores(results.run_folder(row.run_id), scores)
    write_tables(results, final=True)
    command = shlex.split(after_scores(results.path, column, {row.params for row in rows}))
    assert command[:2] == ["llmscale", "fit"]
    assert llmscale(*command[1:], "--bootstrap", "0").exit_code == 0


def test_a_kept_fit_is_used_until_what_it_read_changes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    results, rows = five_sizes(tmp_path / "own")
    kept = fit(results.path, law="power", bootstrap=20, keep=True).kept
    assert kept is not None

    def used() -> str | None:
        with caplog.at_level("INFO", logger="llmscale.explain"):
            return predict(results.path, params="1M", law="power").to_json()["kept"]

    def change(row: Run) -> None:
        results.run_folder(row.run_id).write_row(row)
        write_tables(results, final=True)

    write_scores(results.run_folder(rows[0].run_id), {"loss_books": 3.0})
    write_tables(results, final=True)
    assert used() == str(kept)
    change(replace(rows[0], device="another"))
    assert used() is None
    assert "is of the table before it changed: fitted again" in caplog.text
    change(rows[0])
    assert used() == str(kept)
    change(replace(rows[0], loss=9.0))
    assert used() is None
    change(rows[0])
    stated = json.loads(kept.read_text())["kept"]["table"]
    table = read_runs(results.path)
    assert is_of(table, stated)
    assert not is_of(table, stated.removeprefix("3-"))


def test_paths_are_as_they_were_named_and_the_next_step_works(
    ladder: Path, books: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ladder.parent)
    found = llmscale("eval", "ladder", "--data", books.name)
    assert "new columns of ladder/runs.parquet: loss_books" in found.stdout
    assert found.stdout.splitlines()[-1] == "next: llmscale plot ladder --columns loss=loss_books"
    assert after_scores("ladder", "loss_books", {1, 2, 3}).startswith("llmscale fit ladder ")
    for sizes, said in (({1}, MORE_SIZES), ({1, 2}, MORE_SIZES), ({1, 2, 3}, NO_LAW)):
        assert after_scores("ladder", "no_such_column", sizes) == said
        assert "llmscale" not in said
    run = run_of(Path("ladder"))
    for named in (run, Path("ladder", run.name)):
        assert find_run(named).folder.path == run
    monkeypatch.chdir("ladder/runs")
    assert find_run(run.name).folder.path == ladder / "runs" / run.name


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("=x", "--data =x has no name before the ="),
        ("x=", "--data x= has no text or task after the ="),
    ],
)
def test_half_of_a_name_and_its_text_is_one_sentence(given: str, said: str) -> None:
    found = llmscale("eval", "nowhere", f"--data={given}")
    assert found.exit_code == 2
    assert said in found.stderr


def test_columns_of_unlike_measures_are_told_of(ladder: Path, books: Path) -> None:
    assert not evaluate(ladder, data=str(books)).remarks
    one = evaluate(run_of(ladder), data=str(books), stride=4)
    assert "does not compare" in one.remarks[-1]
    told = [folder.name in one.remarks[-1] for folder in sorted(ladder.glob("runs/*"))]
    assert told == [True, True, True, False]


def test_a_table_that_a_sweep_holds_is_left_to_it(ladder: Path, books: Path) -> None:
    before = (ladder / "runs.parquet").read_bytes()
    with only_writer(ladder):
        found = evaluate(ladder, data=str(books))
    assert found.table is None
    assert "when it is written next" in found.remarks[-1]
    assert (ladder / "runs.parquet").read_bytes() == before
    (run_of(ladder) / "evaluations.json").write_text("{")
    again = evaluate(ladder, data=str(books))
    assert sorted(run.known for run in again.runs) == [(), *[("books",)] * 3]
    assert "loss_books" in pd.read_parquet(ladder / "runs.parquet")


def test_generated_texts_are_scored_as_the_libraries_do(ladder: Path, tmp_path: Path) -> None:
    from rouge_score.rouge_scorer import RougeScorer
    from sacrebleu.metrics import BLEU, CHRF

    rows = [
        {"prompt": "one two; one three;", "target": " one four"},
        {"prompt": "seven eight; seven nine;", "target": " eight zero; eight one"},
        {"prompt": "four; five; six", "target": "; seven"},
    ]
    task = write(tmp_path / "next.jsonl", rows)
    found = llmscale(
        *("eval", str(run_of(ladder)), "--task", str(task), "--max-new-tokens", "8"),
        *("--stop", ".", "--json"),
    )
    (score,) = json.loads(found.stdout)["runs"][0]["scores"]
    metrics = {one["name"]: one for one in score["metrics"]}
    prompts = [row["prompt"] for row in rows]
    written = [
        one.text.partition(".")[0]
        for one in generate(run_of(ladder), prompts, tokens=8, temperature=0).texts
    ]
    targets = [row["target"] for row in rows]
    for name, metric in (("bleu", BLEU()), ("chrf", CHRF())):
        assert metrics[name]["value"] == metric.corpus_score(written, [targets]).score
        assert "version:" in metrics[name]["signature"]
        assert metrics[name]["stderr"] > 0
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"])
    for name in ("rouge1", "rouge2", "rougeL"):
        each = [
            scorer.score(target, text)[name].fmeasure
            for target, text in zip(targets, written, strict=True)
        ]
        assert metrics[name]["value"] == pytest.approx(np.mean(each))
        assert metrics[name]["stderr"] == pytest.approx(np.std(each, ddof=1) / math.sqrt(3))
    exact = [text.strip() == target.strip() for text, target in zip(written, targets, strict=True)]
    assert metrics["exact_match"]["value"] == np.mean(exact)


def choice_rows() -> list[dict[str, Any]]:
    words = ["zero", "one", "two", "three", "four", "five", "six", "seven"]
    return [
        {
            "prompt": f"{words[number % 5]} {words[number % 7]};",
            "choices": [f" {words[number % 5]} {words[1 + number % 7]}", " cat", " one"],
            "answer": number % 3,
        }
        for number in range(12)
    ]


def log_probability(trained: TrainedModel, prompt: str, choice: str) -> float:
    before, after = encoded(trained, prompt), encoded(trained, choice)
    logits = trained.model(torch.tensor([before + after]))[0].log_softmax(-1)
    places = range(len(before) - 1, len(before) + len(after) - 1)
    return sum(float(logits[place, token]) for place, token in zip(places, after, strict=True))


def test_answers_that_share_nothing_with_their_targets_score_zero() -> None:
    found = {one.name: one for one in overlap(["zz", "yy", "xx"], ["a b c", "d e", "f g"])}
    assert (found["bleu"].value, found["bleu"].stderr) == (0.0, 0.0)
    assert found["rougeL"].value == 0.0


def test_choices_are_made_by_likelihood(ladder: Path, tmp_path: Path) -> None:
    rows = choice_rows()
    found = score_of(run_of(ladder), task=f"mc={write(tmp_path / 'choices.jsonl', rows)}")
    trained = open_model(run_of(ladder))
    plain, per_character = [], []
    for row in rows:
        likely = [log_probability(trained, row["prompt"], choice) for choice in row["choices"]]
        each = [one / len(text) for one, text in zip(likely, row["choices"], strict=True)]
        plain.append(np.argmax(likely) == row["answer"])
        per_character.append(np.argmax(each) == row["answer"])
    assert plain != per_character
    accuracy, normalised = found.metrics
    assert (accuracy.value, normalised.value) == (np.mean(plain), np.mean(per_character))
    assert accuracy.chance == pytest.approx(1 / 3)
    share = np.mean(plain)
    assert accuracy.stderr == pytest.approx(math.sqrt(share * (1 - share) / 11))


def test_fit_takes_a_score_that_rises_only_turned_round(ladder: Path) -> None:
    results = ResultsFolder(ladder)
    for run in recorded_runs(results):
        scores = {"accuracy_mc": 1 - run.params**-0.1, "bleu_next": run.flops / 1e10}
        write_scores(results.run_folder(run.run_id), scores)
    write_tables(results, final=True)
    refused = llmscale("fit", str(ladder), "--columns", "loss=accuracy_mc")
    assert refused.exit_code == 2
    assert "rises" in refused.output
    assert "--units loss=accuracy" in refused.output
    taken = read_runs(ladder, columns="loss=accuracy_mc", units="loss=accuracy").frame
    assert taken["loss"].tolist() == pytest.approx((taken["params"] ** -0.1).tolist())
    with pytest.raises(InputError, match="of 1 or of 100"):
        read_runs(ladder, columns="loss=bleu_next", units="loss=accuracy")
    percent = read_runs(ladder, columns="loss=bleu_next", units="loss=percent")
    assert "loss = 1 - bleu_next/100" in percent.reading
    assert percent.frame["loss"].tolist() == (1 - percent.frame["bleu_next"] / 100).tolist()


BAD: dict[str, tuple[list[str], str]] = {
    "no targets": (["--task", "prompts.jsonl"], "no targets"),
    "an answer that is none": (["--task", "answers.jsonl"], "none of its 2 choices"),
    "a text as a task": (["--task", "text.jsonl"], "neither a prompt nor a target"),
    "a target longer than the context": (["--task", "long.jsonl"], "no room"),
    "a choice longer than the context": (["--task", "choices.jsonl"], "a choice of"),
    "no UTF-8": (["--data", "latin.txt"], "not UTF-8"),
    "nothing there": (["--data", "nothing.txt"], "nothing.txt"),
    "an empty text": (["--data", "empty.jsonl"], "empty.jsonl"),
    "a longer context": (["--context", "64"], "trained on sequences of 32"),
    "fewer tokens than a sequence": (["--max-tokens", "4"], "less than one sequence"),
    "a longer stride": (["--stride", "64"], "would not be counted"),
    "one name twice": (["--data", "x=text.jsonl", "--task", "x=long.jsonl"], "called x"),
    "a standard error's columns": (["--data", "stderr_x=text.jsonl"], "begin with stderr"),
    "a norm's columns": (["--task", "norm_x=long.jsonl"], "begin with norm"),
    "a harness task's columns": (["--lm-eval", "norm_x"], "begin with norm"),
    "another text as its own": (["--data", "validation=text.jsonl"], "another name"),
    "no such harness task": (["--lm-eval", "my", "--lm-eval-folder", "none"], "is no folder"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_measured_is_one_sentence(
    name: str, kept_ladder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(Path("prompts.jsonl"), [{"prompt": "one"}])
    choices = {"prompt": "one", "choices": ["two", "six"], "answer": 2}
    write(Path("answers.jsonl"), [choices])
    write(Path("text.jsonl"), [{"text": "one two"}])
    write(Path("long.jsonl"), [{"prompt": "one", "target": "two " * 40}])
    write(Path("choices.jsonl"), [{**choices, "choices": ["two", "six " * 90], "answer": 0}])
    Path("latin.txt").write_bytes("né ".encode("latin-1") * 100)
    write(Path("empty.jsonl"), [{"text": ""}])
    arguments, said = BAD[name]
    found = llmscale("eval", str(run_of(kept_ladder)), *arguments)
    assert found.exit_code == 2, found.output
    assert said in " ".join(found.output.split())
    assert "fix:" in found.output
    assert not (run_of(kept_ladder) / "scores.json").exists()


def test_the_columns_of_a_mixture_s_source_are_its_training_s(ladder: Path, books: Path) -> None:
    run = run_of(ladder)
    write_scores(RunFolder(run), {"share_a": 0.5, "loss_a": 3.0})
    with pytest.raises(InputError, match="a is a source of the mixture"):
        evaluate(ladder, data=f"a={books}")
    assert not list(ladder.glob("runs/*/evaluations.json"))
    assert read_scores(RunFolder(run)) == {"share_a": 0.5, "loss_a": 3.0}


def test_names_that_differ_in_case_only_are_refused(ladder: Path, books: Path) -> None:
    with pytest.raises(InputError, match="names two by A and a"):
        evaluate(ladder, data=[f"A={books}", f"a={books}"])
    evaluate(run_of(ladder), data=f"a={books}", max_tokens=100)
    with pytest.raises(InputError, match="has scores of a, from which only case tells A"):
        evaluate(ladder, data=f"A={books}")


def test_two_measures_of_one_column_are_refused(ladder: Path) -> None:
    kept = KeptScores(RunFolder(run_of(ladder)))
    kept.add(Score("match_quiz", "lm-eval", (Metric("exact", 0.5),)), "key", "asked")
    with pytest.raises(InputError, match="a column of one name"):
        kept.add(Score("quiz", "lm-eval", (Metric("exact_match", 0.1),)), "key", "asked")
    assert read_scores(kept.folder) == {"exact_match_quiz": 0.5}


def test_of_a_damaged_file_of_training_s_scores_only_that_is_to_be_removed(
    ladder: Path, books: Path
) -> None:
    run = RunFolder(run_of(ladder))
    run.measured_path.write_text("{")
    with pytest.raises(InputError, match="is damaged") as damaged:
        evaluate(ladder, data=f"books={books}")
    assert str(damaged.value.fix).endswith(f"nothing is lost: rm {run.measured_path}")
    (ladder / "runs.parquet").rename(ladder / "aside")
    with pytest.raises(InputError) as damaged:
        read_scores(run)
    assert f"is lost: rm {run.measured_path}; or" in str(damaged.value.fix)
    (ladder / "aside").rename(ladder / "runs.parquet")
    write_measured(run, {"share_a": 0.5})
    write_tables(ResultsFolder(ladder), final=True)
    run.measured_path.write_text("{")
    assert llmscale("models", str(ladder)).exit_code == 0
    assert read_runs(ladder).runs == 4
    evaluate(ladder, data=f"books={books}")
    table = pd.read_parquet(ladder / "runs.parquet").set_index("run_id")
    assert table.loc[run.run_id, "share_a"] == 0.5
    assert table["loss_books"].notna().all()


def test_another_tokenizer_is_measured_again(ladder: Path, books: Path) -> None:
    run = run_of(ladder)
    evaluate(run, data=str(books))
    assert evaluate(run, data=str(books)).runs[0].known
    file = run / "tokenizer.json"
    tokenizer = json.loads(file.read_text())
    tokenizer["normalizer"] = {"type": "Lowercase"}
    file.write_text(json.dumps(tokenizer))
    assert not evaluate(run, data=str(books)).runs[0].known


@pytest.mark.parametrize("value", [math.nan, math.inf, "much", None, True, [1.0]])
def test_a_kept_score_that_is_damaged_is_measured_again(
    value: Any, ladder: Path, books: Path
) -> None:
    run = run_of(ladder)
    first = evaluate(run, data=str(books))
    file = run / "evaluations.json"
    kept = json.loads(file.read_text())
    kept["books"]["score"]["metrics"][0]["value"] = value
    file.write_text(json.dumps(kept))
    again = evaluate(run, data=str(books))
    assert not again.runs[0].known
    assert again.runs[0].scores == first.runs[0].scores
    assert "books was measured again" in again.remarks[0]


def test_a_loss_beyond_any_perplexity_is_shown() -> None:
    shown = Score("books", "text", (Metric("loss", 1e4),)).to_json()
    assert shown["perplexity"] == math.exp(700)


def test_all_runs_are_checked_before_the_first_is_measured(ladder: Path, books: Path) -> None:
    first = evaluate(ladder, data=str(books))
    file = run_of(ladder) / "scores.json"
    file.write_text("{")
    with pytest.raises(InputError, match=f"rm .*{file.name}"):
        evaluate(ladder, data=f"test={books}")
    assert "loss_test" not in read_scores(RunFolder(run_of(ladder, 0)))
    file.unlink()
    again = evaluate(ladder, data=str(books))
    assert sorted(run.known for run in again.runs) == [(), *[("books",)] * 3]
    assert again.runs[0].scores == first.runs[0].scores
    assert "loss_books" in read_scores(RunFolder(run_of(ladder)))


@pytest.mark.parametrize("option", ["context", "stride", "max_tokens"])
def test_what_does_not_apply_to_a_fine_tuned_run_is_refused(option: str, ladder: Path) -> None:
    trained = open_model(run_of(ladder))
    job = replace(trained.spec.job)
    object.__setattr__(job, "finetuning", "any")
    tuned = replace(trained, spec=replace(trained.spec, job=job))
    given: dict[str, Any] = {option: 8}
    (measure,) = measures(EvalSpec(**given))
    with pytest.raises(InputError, match="fine-tuned"):
        measure.check(tuned)


def test_a_tokenizer_that_does_not_fit_leaves_its_run_out(ladder: Path, books: Path) -> None:
    from tokenizers import Tokenizer, models

    Tokenizer(models.BPE({"a": 0, "<|endoftext|>": 1}, [])).save(
        str(run_of(ladder) / "tokenizer.json")
    )
    refused = llmscale("eval", str(run_of(ladder)), "--data", str(books))
    assert refused.exit_code == 2
    assert "would leave it out" in " ".join(refused.output.split())
    (run_of(ladder) / "tokenizer.json").write_text("{}")
    found = evaluate(ladder, data=str(books))
    assert [run_id for run_id, _ in found.left_out] == [run_of(ladder).name]
    assert len(found.runs) == 3


def test_the_harness_gets_likelihoods_and_texts(ladder: Path) -> None:
    pytest.importorskip("lm_eval", reason=HARNESS)
    from lm_eval.api.instance import Instance

    from llmscale.measure.trained.evaluation.harness_model import HarnessModel

    trained = open_model(run_of(ladder))
    model = HarnessModel(trained)

    def requests(kind: Any, *asked: tuple[Any, ...]) -> list[Any]:
        return [Instance(kind, {}, one, number) for number, one in enumerate(asked)]

    pairs = [("one two;", " one three"), ("six; seven", "; eight"), ("", "zero one")]
    found = model.loglikelihood(requests("loglikelihood", *pairs), disable_tqdm=True)
    for (likely, is_greedy), (prompt, choice) in zip(found[:2], pairs[:2], strict=True):
        assert likely == pytest.approx(log_probability(trained, prompt, choice), rel=1e-5)
        assert isinstance(is_greedy, bool)
    text = "one two; one three; one four; " * 5
    (rolling,) = model.loglikelihood_rolling(requests("loglikelihood_rolling", (text,)))
    tokens = [trained.end_of_text, *encoded(trained, text)]
    assert rolling == pytest.approx(-sum(by_hand(trained, tokens, trained.context)), rel=1e-5)
    asked = {"until": [";"], "max_gen_toks": 8}
    (written,) = model.generate_until(requests("generate_until", ("one two; one", asked)))
    whole = generate(trained, "one two; one", tokens=8, temperature=0).texts[0].text
    assert written == whole.partition(";")[0]


@pytest.mark.slow
def test_a_task_of_the_harness_scores_as_ours(ladder: Path, tmp_path: Path) -> None:
    pytest.importorskip("lm_eval", reason=HARNESS)
    task = write(tmp_path / "choices.jsonl", choice_rows())
    folder = tmp_path / "tasks"
    folder.mkdir()
    (folder / "own.yaml").write_text(
        f"""task: own
dataset_path: json
dataset_kwargs:
  data_files:
    test: {task}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{prompt}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: answer
target_delimiter: ""
metric_list:
  - metric: acc
  - metric: acc_norm
"""
    )
    command = ["eval", str(run_of(ladder)), "--task", str(task), "--json"]
    found = llmscale(*command, "--lm-eval", "own", "--lm-eval-folder", str(folder))
    assert found.exit_code == 0, found.output
    ours, theirs = json.loads(found.stdout)["runs"][0]["scores"]
    for one, other in zip(ours["metrics"], theirs["metrics"], strict=True):
        assert one["name"] == other["name"]
        assert one["value"] == pytest.approx(other["value"])
        assert one["stderr"] == pytest.approx(other["stderr"])
    assert "accuracy_own" in pd.read_parquet(ladder / "runs.parquet")
    missing = llmscale(*command, "--lm-eval", "owl", "--lm-eval-folder", str(folder))
    assert missing.exit_code == 2
    assert "did you mean own?" in missing.output
