"""Files of the user's own that do not give what their menu asks for: each is refused in a sentence
before anything is trained, and what one prints spoils nothing.
"""

import importlib
import json
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from trained import job
from typer.testing import CliRunner

import llmscale
from llmscale.commands import app
from llmscale.errors import InputError
from llmscale.explain.allocation import METHODS
from llmscale.explain.figures import COLUMN_INCHES, FIGURES, Evidence
from llmscale.machine.gpus import GPUS
from llmscale.measure.executors import EXECUTORS
from llmscale.measure.optimizers import OPTIMIZERS, allocate_state, build_optimizer, state_bytes
from llmscale.measure.schedules import SCHEDULES
from llmscale.measure.sweep.spec import SweepSpec, asked_spec
from llmscale.measure.text.sources import SOURCES, open_source
from llmscale.measure.trackers import TRACKERS
from llmscale.measure.train.conditions import Conditions
from llmscale.measure.train.own_model import check_architecture
from llmscale.measure.train.run_spec import RunSpec, read_spec
from llmscale.measure.transformer import build_model
from llmscale.menu import Menu
from llmscale.runs.checked import DamagedFile
from llmscale.runs.run_folder import RunFolder
from llmscale.runs.shape import ARCHITECTURES, shape_for

MENUS = {"arch": ARCHITECTURES, "optimizer": OPTIMIZERS, "schedule": SCHEDULES}
STEPS = """
import torch
from llmscale.measure.optimizers.adamw import Eager
class X(Eager):
    @torch.no_grad()
    def step(self, closure=None):
        self.count = getattr(self, "count", 0) + 1
        for group in self.param_groups:
            for weight in group["params"]:
                {step}
"""
BUILDS = """
from llmscale.measure.optimizers.adamw import AdamW
class X:
    @staticmethod
    def build(weights, parametrization, *, lr, beta2, weight_decay, dtype, compile):
        return AdamW({groups}, lr=lr)
"""
LLAMA = """
import torch
from llmscale.measure.models import Linear
from llmscale.measure.models.llama import Llama
class X(Llama):
    {body}
"""
OWN_GPU = """
class X:
    name, source = "Mine", "its data sheet"
    memory_bytes, memory_bytes_per_second, power_watts = 80e9, 2e12, None
    peak_flops = {peak}
"""
MLP = "def mlp(self, block, n): return super().mlp(block, n)"
RETURNS = "def X(progress): return "
WRONG: dict[Menu[Any], list[tuple[str, str]]] = {
    SCHEDULES: [
        ("def Y(progress): return 1", r"mine\.py has no schedule called 'X'"),
        (f"{RETURNS}2", r"schedule 'X' of .*mine\.py gave 2 at progress 0"),
        (f"{RETURNS}float('nan') if progress > 0.4 else 1", r"gave nan at progress 0\.4"),
        (f"{RETURNS}-progress", r"gave -0\.0\d+ at progress 0\.0"),
        (f"{RETURNS}'1'", "gave '1' at progress 0"),
        (f"{RETURNS}None", "gave None at progress 0"),
        (f"{RETURNS}True", "gave True at progress 0"),
        (f"import numpy\n{RETURNS}numpy.ones(2)", r"gave array\(\[1\., 1\.\]\) at progress 0"),
        (f"import random\n{RETURNS}random.random()", "gives two answers at progress 0"),
        (f"{RETURNS}0", "is 0 at every step"),
        (f"{RETURNS}1 / (progress < 0.5)", r"mine\.py, line 1 fails at progress 0\.5.*Zero"),
        ("def X(): return 1", "fails at progress 0: TypeError: X.. takes 0 positional"),
        (
            "from llmscale.measure.schedules import Schedule\nclass X(Schedule): pass",
            "cannot be used as a schedule: TypeError: .*after_warmup",
        ),
    ],
    OPTIMIZERS: [
        ("Y = 3", r"mine\.py has no optimizer called 'X'"),
        ("def X(groups, lr): pass", "makes a NoneType, and no torch.optim.Optimizer"),
        (
            STEPS.format(step="weight[0].nothing"),
            r"line 10 cannot be used as an optimizer: AttributeError",
        ),
        (STEPS.format(step="pass"), "changes no weight"),
        ("import torch\nclass X(torch.optim.Optimizer): pass", r"has no step\(\)"),
        (
            STEPS.format(step="weight.sub_(group['lr'] * torch.randn_like(weight))"),
            "two different steps of the same gradients",
        ),
        (STEPS.format(step="weight.sub_(0.01 * weight)"), "at learning rate 0"),
        (
            STEPS.format(step="weight.sub_(group['lr'] * weight.grad / self.count)"),
            "steps otherwise after a checkpoint",
        ),
        (BUILDS.format(groups="[weights[0].tensor]"), "steps 1 of the 4 weights"),
        (BUILDS.format(groups="[one.tensor for one in weights]"), "without `lr_multiplier`"),
    ],
    ARCHITECTURES: [
        ("def X(): pass", r"mine\.py has no architecture called 'X'"),
        (
            "from llmscale.measure.models import Architecture\nclass X(Architecture): pass",
            "cannot be used as an architecture: TypeError: .*layers",
        ),
        (LLAMA.format(body=f"{MLP}[..., :3]"), "cannot be trained: RuntimeError"),
        (LLAMA.format(body=f"{MLP} / 0"), "no finite numbers"),
        (LLAMA.format(body=MLP.replace("(block, n)", "(block, n.flip(1))")), "see later ones"),
        (LLAMA.format(body=f"{MLP} * torch.rand(())"), "gives other logits for the same tokens"),
        (
            LLAMA.format(
                body="def layers(self, shape): "
                "return {**super().layers(shape), 'attention.gate': Linear(4, 4)}"
            ),
            "never uses, and they count as parameters: blocks.0.attention.gate.weight",
        ),
        (
            "from dataclasses import replace\n"
            + LLAMA.format(
                body="def counts(self, shape): return replace(super().counts(shape), per_layer=17)"
            ),
            "counts 17 weights a block in the shape 2x32x2, and its model has 12,608",
        ),
    ],
    SOURCES: [
        ("class X: pass", "is neither a function nor a class of Source"),
        ("def X(): return 'abc'", "X returns one text, and not documents"),
        ("def X(): pass", "TypeError: 'NoneType' object is not iterable"),
        ("def X(a): yield a", "missing 1 required positional argument"),
        (
            "import itertools\ncount = itertools.count()\ndef X(): yield str(next(count))",
            "X yields other documents when it is called again",
        ),
        (
            "from llmscale.measure.text.sources import Source\nclass X(Source): pass",
            "failed in X: TypeError: .*documents",
        ),
    ],
    TRACKERS: [
        ("def X(): pass", "cannot be used as a tracker: TypeError: too many positional"),
        ("class X:\n    def __init__(self, run): pass", "has no log and no end"),
    ],
    EXECUTORS: [
        ("def X(): pass", r"mine\.py has no executor called 'X'"),
        (
            "from llmscale.measure.executors import Executor\nclass X(Executor): pass",
            "executor 'X' of .* lacks __init__, end, poll, ready, start and stop",
        ),
    ],
    FIGURES: [
        ("def X(evidence): pass", "cannot be used as a figure: TypeError"),
        ("def X(evidence, width, title): return 3", "gives an int, and no Drawing"),
        ("def X(evidence, width, title): 1 / 0", "line 1 cannot draw: ZeroDivisionError"),
    ],
    METHODS: [("def X(): pass", "method 'X' of .* has no SOURCE")],
    GPUS: [
        ("class X: pass", r"has no GPU called 'X': its X is not a class that says its peak_flops"),
        ("class X: peak_flops = 1e14", r"GPU 'X' of .*mine\.py does not say its name"),
        (OWN_GPU.format(peak="312"), "peak_flops of the GPU 'Mine' is 312, which is out of range"),
        (OWN_GPU.format(peak="'312T'"), "peak_flops of the GPU 'Mine' is '312T', which is no num"),
        (OWN_GPU.format(peak="1e14; memory_bytes_per_second = 3350"), "is 3350, which is out of"),
        (OWN_GPU.format(peak="1e14; mfu = 40"), "mfu of the GPU 'Mine' is 40"),
        (OWN_GPU.format(peak="1e14; mfu_source = 3"), "has a mfu_source that is no text"),
    ],
}


def used(one: Menu[Any], name: str) -> None:
    """Name a choice of one's own, and do with it what comes before the work."""
    one.pin(name)
    if one is ARCHITECTURES:
        check_architecture(ARCHITECTURES.pin(name))
    if one is SOURCES:
        opened = open_source(name)
        opened.fingerprint()
        list(opened.documents(0))
    if one is FIGURES:
        one.find(name).draw(Evidence(None), width=COLUMN_INCHES, title=None)


@pytest.mark.parametrize(
    ("one", "text", "problem"),
    [
        pytest.param(one, text, problem, id=f"{one.word}-{number}")
        for one, cases in WRONG.items()
        for number, (text, problem) in enumerate(cases)
    ],
)
def test_a_file_that_does_not_give_what_it_must_is_refused_in_a_sentence(
    one: Menu[Any], text: str, problem: str, tmp_path: Path
) -> None:
    path = tmp_path / "mine.py"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=problem) as caught:
        used(one, f"{path}:X")
    assert caught.value.fix
    assert "\n" not in caught.value.problem


def test_a_schedule_may_return_any_kind_of_number(tmp_path: Path) -> None:
    for number, given in enumerate(("1", "numpy.float32(1 - progress)", "torch.tensor(0.5)")):
        path = tmp_path / f"mine{number}.py"
        path.write_text(f"import numpy, torch\n{RETURNS}{given}", encoding="utf-8")
        share = SCHEDULES.find(f"{path}:X")(100, 0).fraction(50)
        assert type(share) is float
        assert 0.4 < share <= 1


def test_a_count_of_ones_own_begins_at_the_first_step_that_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    step = (
        "state = self.state[weight]; state['n'] = state.get('n', 0) + 1; "
        "state['mean'] = torch.zeros_like(weight); weight.sub_(group['lr'] * weight.grad)"
    )
    path.write_text(STEPS.format(step=step), encoding="utf-8")
    shape = shape_for("1x16x1", vocab_size=20, context=8)
    optimizer = build_optimizer(f"{path}:X", build_model(shape), lr=0.1, beta2=0.9, weight_decay=0)
    allocate_state(optimizer)
    for group in optimizer.param_groups:
        for weight in group["params"]:
            weight.grad = torch.ones_like(weight)
    optimizer.step()
    assert {state["n"] for state in optimizer.state.values()} == {1}
    assert state_bytes(f"{path}:X", shape) == 4 * shape.params_total


@pytest.mark.parametrize("place", ["keyword", "toml", "variant"])
def test_a_choice_that_is_not_there_is_found_when_settings_are_read(
    place: str, tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text("Y = 3", encoding="utf-8")
    table = {"toml": "recipe", "variant": "recipes.a"}.get(place, "")
    lines = f'sizes = ["1M"]\n[{table}]\noptimizer = "mine.py:X"' if table else 'sizes = ["1M"]'
    (tmp_path / "s.toml").write_text(lines, encoding="utf-8")
    given = {} if table else {"optimizer": f"{tmp_path}/mine.py:X"}
    with pytest.raises(InputError, match="no optimizer called 'X'"):
        _ = asked_spec(tmp_path / "s.toml", given).variants


def test_what_changes_nothing_is_said(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text(
        'sizes = ["10k", "10.1k", "1x16x1"]\n[hardware.slurm]\ncpus = 3\n', encoding="utf-8"
    )
    assert list(asked_spec(tmp_path / "s.toml", {}).remarks()) == [
        "[hardware.slurm] is not used: the executor is local",
        "sizes 10k and 10.1k are one shape, 2x24x2: it is trained once",
    ]
    assert not list(SweepSpec(sizes=("10k", "30k")).remarks())


PRINTS = """
print('{"read": true}')
from dataclasses import dataclass
from llmscale.explain.laws import Law

@dataclass(frozen=True)
class X(Law):
    "L = A/N^a"
    A: float
    a: float
    inputs = ("params",)

    def loss(self, N):
        print("evaluated")
        return self.A / N**self.a
"""


def test_what_a_file_prints_does_not_spoil_the_answer(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(PRINTS, encoding="utf-8")
    rows = "".join(f"{n},{5 * n**-0.1}\n" for n in (1e5, 2e5, 4e5, 8e5, 2e6))
    (tmp_path / "runs.csv").write_text(f"params,loss\n{rows}", encoding="utf-8")
    asked = ["fit", f"{tmp_path}/runs.csv", "--law", f"{tmp_path}/mine.py:X", "--bootstrap", "0"]
    shown = CliRunner().invoke(app, [*asked, "--json"])
    assert shown.exit_code == 0, shown.output
    assert json.loads(shown.stdout)["law"] == "X"
    assert '{"read": true}\n' in shown.stderr
    assert "evaluated\n" in shown.stderr


def test_a_command_names_the_line_that_fails(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        LLAMA.format(body="def attention_flops(self, shape): return 1 / (shape.d_model - 64)"),
        encoding="utf-8",
    )
    asked = ["shapes", "2x64x2", "--arch", f"{path}:X", "--peak", "1T"]
    shown = CliRunner().invoke(app, asked)
    assert shown.exit_code == 2
    assert "mine.py, line 6 fails: ZeroDivisionError" in shown.stderr.replace("\n", " ")


def test_ctrl_c_waits_until_the_library_has_been_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = []

    def load(name: str) -> Any:
        signal.raise_signal(signal.SIGINT)
        loaded.append(name)
        return sys.modules[name]

    monkeypatch.setattr(importlib, "import_module", load)
    monkeypatch.delitem(vars(llmscale), "Note", raising=False)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # test workers ignore it
    try:
        with pytest.raises(KeyboardInterrupt):
            _ = llmscale.Note
        assert loaded == ["llmscale.errors"]
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("choice", ["arch", "optimizer", "schedule"])
def test_a_path_that_stands_in_results_is_not_followed(choice: str, tmp_path: Path) -> None:
    sprung = tmp_path / "sprung"
    (tmp_path / "trap.py").write_text(f"open({str(sprung)!r}, 'w')\ndef X(): pass\n", "utf-8")
    payload = asdict(RunSpec(job(), Conditions("cpu", 8)))
    place = payload["job"]["shape"] if choice == "arch" else payload["job"]
    place[choice] = f"{tmp_path}/trap.py:X"
    # A stranger can name the folder after what the damaged file says.
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "spec.json").write_text(json.dumps(payload), encoding="utf-8")
    with pytest.raises(DamagedFile, match=f"there is no {MENUS[choice].word} .*trap.py:X"):
        read_spec(RunFolder(tmp_path / "run"))
    assert not sprung.exists()
