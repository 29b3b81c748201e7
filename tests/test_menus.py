"""Every member of every menu keeps its contract: as it is, copied to a new file of its folder, and
copied to a file of the user's own. So one file is all that a menu needs for one more member.
"""

import importlib
import inspect
import json
import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from llmscale import menu
from llmscale.commands import app
from llmscale.errors import InputError
from llmscale.explain.allocation import METHODS
from llmscale.explain.figures import FIGURES
from llmscale.explain.laws import LAWS
from llmscale.machine.gpus import GPUS
from llmscale.measure.executors import EXECUTORS, Place
from llmscale.measure.optimizers import OPTIMIZERS, allocate_state, build_optimizer, state_bytes
from llmscale.measure.schedules import SCHEDULES
from llmscale.measure.sweep.devices import allot_places
from llmscale.measure.sweep.makespan import Duration
from llmscale.measure.sweep.spec import asked_spec
from llmscale.measure.text.clean import KINDS, STEPS
from llmscale.measure.text.sources import SOURCES, open_source
from llmscale.measure.text.words import Words
from llmscale.measure.trackers import TRACKERS
from llmscale.measure.transformer import build_model
from llmscale.menu import Menu
from llmscale.runs.shape import ARCHITECTURES, shape_for


def law(name: str, _: Path) -> None:
    kind = LAWS.find(name)
    runs = kind.example_runs()
    example = kind(*kind.published)
    loss = example.loss(*(runs[column] for column in example.inputs))
    assert np.isfinite(loss).all()
    assert kind.plain or (loss > 0).all()
    surface = kind.surface([runs[column] for column in example.inputs], loss)
    theta = surface.theta(np.array([kind.published]))
    assert np.allclose(surface.evaluate(theta)[0], kind.level_of(loss), atol=1e-6)


def figure(name: str, _: Path) -> None:
    kind = FIGURES.find(name)
    assert kind.DRAWS in ("laws", "curves")
    assert set(inspect.signature(kind.draw).parameters) == {"evidence", "width", "title"}


def method(name: str, _: Path) -> None:
    found = METHODS.find(name)
    assert "20" in found.SOURCE
    wanted = {"table", "options", "law", "curves"}
    assert set(inspect.signature(found.allocate).parameters) >= wanted


def architecture(name: str, _: Path) -> None:
    shape = shape_for("2x32x2", vocab_size=50, context=16, arch=name)
    model = build_model(shape, seed=1)
    counts = {name: weight.numel() for name, weight in model.named_parameters()}
    assert sum(counts.values()) == shape.params_total
    block = [count for name, count in counts.items() if name.startswith("blocks.0.")]
    assert sum(block) == shape.params_per_layer
    assert shape.params_per_layer > shape.counts.matrices > 0
    tokens_BT = torch.randint(50, (2, 16), generator=torch.Generator().manual_seed(0))
    before_BTV = model(tokens_BT)
    tokens_BT[:, 9:] = (tokens_BT[:, 9:] + 1) % 50
    after_BTV = model(tokens_BT)
    torch.testing.assert_close(after_BTV[:, :9], before_BTV[:, :9])
    assert not torch.allclose(after_BTV[:, 9:], before_BTV[:, 9:])


def optimizer(name: str, _: Path) -> None:
    shape = shape_for("2x32x2", vocab_size=50, context=16)
    model = build_model(shape)
    found = build_optimizer(name, model, lr=0.01, beta2=0.99, weight_decay=0.1)
    assert all("lr_multiplier" in group for group in found.param_groups)
    allocate_state(found)
    kept = [value for state in found.state.values() for value in state.values() if value.dim()]
    assert sum(value.nbytes for value in kept) == pytest.approx(state_bytes(name, shape), rel=0.02)
    tokens_BT = torch.randint(50, (4, 17), generator=torch.Generator().manual_seed(0))
    losses = []
    for _step in range(8):
        loss, _each = model.losses(tokens_BT[:, :-1], tokens_BT[:, 1:], torch.full((4,), 0.25))
        loss.backward()
        for group in found.param_groups:
            group["lr"] = 0.003 * group["lr_multiplier"]
        found.step()
        found.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def schedule(name: str, _: Path) -> None:
    short, long = (SCHEDULES.find(name)(steps, 10, 0.2) for steps in (50, 100))
    shares = [short.fraction(step) for step in range(50)]
    assert all(0 < share <= 1 for share in shares)
    assert shares[:10] == sorted(shares[:10])
    if short.branches:
        alike = range(short.cooldown_start)
        assert [long.fraction(step) for step in alike] == [shares[step] for step in alike]


def source(name: str, folder: Path) -> None:
    texts = [f"text {number} " * 20 for number in range(8)]
    for number, text in enumerate(texts):
        (folder / f"part{number}.txt").write_text(text, encoding="utf-8")
    module = SOURCES.find(name)
    assert set(inspect.signature(module.open_source).parameters) == {
        "name",
        "config",
        "split",
        "text_column",
    }
    if not hasattr(module, "FORMATS") and not name.startswith("files"):
        return  # it reads no folder; test_sources.py has the rest of its contract
    opened = open_source(f"{name}:{folder}/*.txt")
    found = [text for shard in range(len(opened.shards)) for text in opened.documents(shard)]
    assert sorted(found) == sorted(texts)


def tracker(name: str, _: Path) -> None:
    found = TRACKERS.find(name)
    assert callable(found.begin)
    assert isinstance(found.NEEDS, str)


def executor(name: str, _: Path) -> None:
    kind = EXECUTORS.find(name)
    assert not inspect.isabstract(kind)
    assert kind.NEEDS is None or isinstance(kind.NEEDS, str)
    assert kind.check.__doc__ or kind.__doc__


def cleaning_step(name: str, _: Path) -> None:
    kind = STEPS.find(name)
    step = kind(name, kind.ARGUMENT)
    assert issubclass(kind, KINDS)
    words = Words(["a document of a few words", "x"])
    if hasattr(step, "rewritten"):
        assert step.rewritten(words.texts[0]) == words.texts[0]
    elif hasattr(step, "dropped"):
        assert set(step.dropped(words)) <= {0, 1}
    else:
        assert step.marks(words).shape == (2, kind.WIDTH)
        assert np.array_equal(step.marks(words), kind(name).marks(words))


def gpu(name: str, _: Path) -> None:
    found = GPUS.find(name)
    assert found.source
    assert found.mfu_source
    assert 0.05 < found.mfu < 0.7
    # A peak with sparsity would stand out, as would bytes or bytes a second in another unit.
    assert 100 < found.peak_flops / found.memory_bytes_per_second < 450
    assert 1 < found.memory_bytes / 1e10 < 30
    if found.power_watts is not None:
        assert 0.3 < found.peak_flops / found.power_watts / 1e12 < 2.5


CONTRACTS: dict[Menu[Any], Callable[[str, Path], None]] = {
    LAWS: law,
    FIGURES: figure,
    METHODS: method,
    ARCHITECTURES: architecture,
    OPTIMIZERS: optimizer,
    SCHEDULES: schedule,
    SOURCES: source,
    STEPS: cleaning_step,
    TRACKERS: tracker,
    EXECUTORS: executor,
    GPUS: gpu,
}
EVERY = [(one, name) for one in CONTRACTS for name in one]
every_member = pytest.mark.parametrize(
    ("one", "name"), EVERY, ids=[f"{one.word}-{name}" for one, name in EVERY]
)


def file_of(one: Menu[Any], name: str) -> Path:
    folder = importlib.import_module(one.package).__path__[0]
    return Path(folder, f"{name.replace('-', '_')}.py")


@every_member
def test_every_member_keeps_the_contract_of_its_menu(
    one: Menu[Any], name: str, tmp_path: Path
) -> None:
    CONTRACTS[one](name, tmp_path)
    assert one.summaries()[name]


@pytest.fixture
def another_file(tmp_path: Path) -> Iterator[Callable[[Menu[Any], str], str]]:
    """Puts a copy of a member into its menu's folder, as far as imports can tell; its name."""
    added: list[Menu[Any]] = []

    def add(one: Menu[Any], name: str) -> str:
        folder = tmp_path / "folder"
        folder.mkdir(exist_ok=True)
        text = file_of(one, name).read_text(encoding="utf-8")
        copy = f"{name.replace('-', '_')}_too"
        (folder / f"{copy}.py").write_text(text, encoding="utf-8")
        importlib.import_module(one.package).__path__.append(str(folder))
        vars(one).pop("names", None)
        added.append(one)
        return copy.replace("_", "-")

    yield add
    for one in added:
        importlib.import_module(one.package).__path__.pop()
        vars(one).pop("names", None)


@every_member
def test_a_new_file_is_a_new_member(
    one: Menu[Any],
    name: str,
    tmp_path: Path,
    another_file: Callable[[Menu[Any], str], str],
) -> None:
    copy = another_file(one, name)
    assert copy in one.names
    CONTRACTS[one](copy, tmp_path)


@every_member
def test_a_file_of_ones_own_is_a_member(one: Menu[Any], name: str, tmp_path: Path) -> None:
    if one is SOURCES:
        return  # a file that ends in .py is text to train on; functions in one are tested below
    text = file_of(one, name).read_text(encoding="utf-8")
    (tmp_path / "mine.py").write_text(text, encoding="utf-8")
    CONTRACTS[one](str(tmp_path / "mine.py"), tmp_path)


@pytest.mark.parametrize("one", CONTRACTS, ids=lambda one: one.word)
def test_what_is_on_no_menu_is_refused_with_the_nearest_name(one: Menu[Any]) -> None:
    name = one.names[0]
    with pytest.raises(InputError, match=f"there is no {one.word} '{name}x'") as caught:
        one.find(f"{name}x")
    assert f"did you mean {name}?" in str(caught.value.fix)
    with pytest.raises(InputError, match=r"there is no file \./none\.py"):
        one.find("./none.py:Mine")


def test_a_choice_is_named_by_its_file_and_what_that_holds(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("def halving(progress):\n    return 0.5 ** (4 * progress)\n", encoding="utf-8")
    pinned = SCHEDULES.pin(f"{path}:halving")
    assert re.fullmatch(r"mine\.py:halving@[0-9a-f]{16}", pinned)
    assert menu.bare_name(f"{path}:halving") == menu.bare_name(pinned) == "halving"
    assert SCHEDULES.find(pinned)(100, 0).fraction(50) == pytest.approx(0.25)
    texts = menu.texts_of([pinned, "wsd"])
    assert list(texts.values()) == [path.read_text(encoding="utf-8")]
    path.write_text("def halving(progress):\n    return 1.0\n", encoding="utf-8")
    assert SCHEDULES.pin(f"{path}:halving") != pinned
    with pytest.raises(InputError, match="not the one that it was"):
        menu.receive({key: f"{text}\n" for key, text in texts.items()})
    with pytest.raises(InputError, match="this command does not name"):
        SCHEDULES.find(f"mine.py:halving@{'0' * 16}")


def test_a_mistake_in_a_file_of_ones_own_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("def halving(progress)\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"mine\.py, line 1 cannot be run: SyntaxError"):
        SCHEDULES.find(f"{path}:halving")
    path.write_text("x = 1\n\nraise SystemExit(3)\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"mine\.py, line 3 cannot be run: SystemExit"):
        ARCHITECTURES.find(f"{path}:Mine")


def test_texts_of_a_function_are_read_and_known_by_what_they_say(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("def words():\n    yield from ('one', 'two')\n", encoding="utf-8")
    found = open_source(f"{path}:words")
    assert list(found.documents(0)) == ["one", "two"]
    assert list(found.documents(0, 1)) == ["two"]
    path.write_text("def words():\n    yield from ('one', 'too')\n", encoding="utf-8")
    assert open_source(f"{path}:words").fingerprint() != found.fingerprint()
    path.write_text("def words():\n    yield 3\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"mine\.py failed in words: TypeError: words yields int"):
        open_source(f"{path}:words").fingerprint()


def test_shapes_counts_an_architecture_of_ones_own(repository: Path) -> None:
    name = f"{repository}/experiments/own/window.py:GatedWindow"
    CONTRACTS[ARCHITECTURES](name, repository)
    CONTRACTS[ARCHITECTURES](f"{repository}/experiments/own/tied.py:Tied", repository)
    CONTRACTS[OPTIMIZERS](f"{repository}/experiments/own/lion.py:Lion", repository)
    own = shape_for("6x384x6", vocab_size=1024, context=256, arch=name)
    llama = shape_for("6x384x6", vocab_size=1024, context=256)
    gates = 6 * 384**2
    assert own.params == llama.params + gates
    assert llama.flops_per_token - own.flops_per_token == 12 * 6 * 384 * (256 - 64) - 6 * gates
    asked = ["shapes", "6x384x6", "--arch", name, "--context", "256", "--peak", "1T", "--json"]
    shown = CliRunner().invoke(app, asked)
    assert shown.exit_code == 0, shown.output
    assert json.loads(shown.stdout)["shapes"][0]["params_total"] == own.params_total


SPEC = """
sizes = ["1x32x1"]
tokens = "20k"
[data]
source = "mine.py:words"
tokenizer = "bpe:300"
validation_tokens = 2000
[recipe]
context = 32
arch = "window.py:GatedWindow"
optimizer = "lion.py:Lion"
schedule = "mine.py:halving"
[hardware]
device = "cpu"
dtype = "float32"
workers = 1
executor = "mine.py:Here"
[hardware.slurm-too]
cpus = 3
"""
MINE = """
from llmscale.measure.executors.local import Local

class Here(Local):
    "As local."

def words():
    yield from (f"{number} " * 40 for number in range(1500))

def halving(progress):
    print("{asked}")
    return 0.5 ** (4 * progress)
"""


def test_a_sweep_of_ones_own_choices_trains_resumes_and_never_runs_what_it_only_finds(
    repository: Path,
    tmp_path: Path,
    another_file: Callable[[Menu[Any], str], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert another_file(EXECUTORS, "slurm") == "slurm-too"
    for name in ("window.py", "lion.py"):
        text = (repository / "experiments" / "own" / name).read_text(encoding="utf-8")
        (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / "mine.py").write_text(MINE, encoding="utf-8")
    (tmp_path / "s.toml").write_text(SPEC, encoding="utf-8")
    out = tmp_path / "out"

    def llmscale(*words: object) -> Any:
        return CliRunner().invoke(app, [str(word) for word in words])

    first = llmscale("sweep", tmp_path / "s.toml", "--out", out, "--json")
    assert first.exit_code == 0, first.output
    (run,) = (out / "runs").iterdir()
    sweep = json.loads((out / "sweep.json").read_text())
    assert sweep["spec"]["hardware"]["slurm-too"]["cpus"] == 3
    assert re.fullmatch(r"mine\.py:Here@\w{16}", sweep["spec"]["hardware"]["executor"])
    assert len(sweep["own"]) == 3
    assert "{asked}" in (run / "worker.log").read_text()
    elsewhere = asked_spec(tmp_path / "s.toml", {"executor": "slurm-too"}).hardware
    assert allot_places(elsewhere, 1, "cpu", [Duration(1.0)]) == (Place(threads=3),)
    keywords = {"executor": "slurm-too", "executor_option": ["cpus=4"]}
    assert asked_spec(tmp_path / "s.toml", keywords).hardware.executor_options.cpus == 4
    own = (f"{tmp_path}/window.py:GatedWindow", f"{tmp_path}/lion.py:Lion")
    chosen = ["--arch", own[0], "--optimizer", own[1], "--schedule", f"{tmp_path}/mine.py:halving"]
    words = ["--data", f"{tmp_path}/mine.py:words", "--tokenizer", "bpe:300"]
    sizes = ["--sizes", "1x32x1", "--tokens", "20k", "--validation-tokens", "2000"]
    device = ["--context", "32", "--device", "cpu", "--dtype", "float32", "--workers", "1"]
    again = llmscale("sweep", *sizes, *words, *chosen, *device, "--out", out, "--dry-run", "--json")
    assert again.exit_code == 0, again.output
    assert f'"run_id": "{run.name}"' in again.stdout
    assert '"finished": true' in again.stdout

    (tmp_path / "lion.py").write_text("# another\n" + (tmp_path / "lion.py").read_text())
    changed = llmscale("sweep", tmp_path / "s.toml", "--out", out)
    assert changed.exit_code == 2
    assert "recipe.optimizer is lion.py:Lion@" in changed.stderr

    spec = run / "spec.json"
    trap = f"open({str(tmp_path / 'sprung')!r}, 'w')"
    spec.write_text(spec.read_text().replace('"own": {', f'"own": {{"trap.py@0": "{trap}", '))
    (run / "run.json").unlink()
    (out / "runs.parquet").unlink()
    menu._files.clear()
    for command in (["status", out], ["fit", out]):
        llmscale(*command)
    assert math.isfinite(SCHEDULES.find("wsd")(10, 1).fraction(3))
    assert not (tmp_path / "sprung").exists()
