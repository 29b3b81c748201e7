"""Files from elsewhere are data: none of them runs code, and none makes a command reach outside its
results folder.
"""

import ast
import functools
import json
import os
import pickle
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from trained import train_one
from typer.testing import CliRunner

from llmscale.commands import app
from llmscale.errors import InputError, LlmscaleError
from llmscale.machine.child import child_environment, python
from llmscale.measure.sweep.hardware import Hardware
from llmscale.measure.sweep.jobs import jobs_of
from llmscale.measure.sweep.spec import SweepSpec, parse_budgets
from llmscale.measure.text.prepare import TextSpec, TokenStore, prepare
from llmscale.measure.train.checkpoint import read_checkpoint
from llmscale.measure.train.conditions import Conditions
from llmscale.measure.train.job import Job
from llmscale.measure.train.loop import TrainingInterrupted
from llmscale.measure.train.recipe import Recipe
from llmscale.measure.transformer import build_model
from llmscale.runs.results_folder import ResultsFolder
from llmscale.runs.run_folder import CHECKPOINT, RunFolder


def llmscale(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(word) for word in arguments])


class Malicious:
    """A pickle that makes a folder as it is loaded."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.mark),)


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """What a malicious file makes when it is run."""
    return tmp_path / "it-ran"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> TokenStore:
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("text") / "numbers.txt"
    path.write_text(
        "\n\n".join(" ".join(map(str, np.cumsum(rng.integers(1, 9, 200)))) for _ in range(200))
    )
    return prepare(TextSpec(source=str(path), tokenizer="bpe:300"))


def spec_on(store: TokenStore) -> SweepSpec:
    """What `sweep_of` asks for."""
    return SweepSpec(
        sizes=("1x16x1",),
        tokens=parse_budgets("20k"),
        data=TextSpec(source=store.name, tokenizer="bpe:300"),
        recipe=Recipe(context=32),
        hardware=Hardware(device="cpu", dtype="float32"),
    )


def job_on(store: TokenStore) -> Job:
    (job,) = jobs_of(spec_on(store), store)
    return job


def sweep_of(store: TokenStore, out: Path) -> list[object]:
    return [
        "sweep",
        "--sizes",
        "1x16x1",
        "--tokens",
        "20k",
        "--data",
        store.name,
        "--tokenizer",
        "bpe:300",
        "--context",
        32,
        "--device",
        "cpu",
        "--dtype",
        "float32",
        "--out",
        out,
    ]


def write_pickle(path: Path, content: object, *, zipped: bool) -> None:
    """As torch.save writes it, or as older ones did: a bare pickle."""
    if not zipped:
        path.write_bytes(pickle.dumps(content, protocol=2))
        return
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("checkpoint/data.pkl", pickle.dumps(content, protocol=2))
        archive.writestr("checkpoint/version", "3\n")
        archive.writestr("checkpoint/byteorder", "little")


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("name", ["checkpoint.pt", "trunk-9.pt"])
def test_a_malicious_pickle_as_a_checkpoint_or_a_trunk_is_refused_and_not_run(
    name: str, zipped: bool, store: TokenStore, tmp_path: Path, mark: Path
) -> None:
    write_pickle(tmp_path / name, Malicious(mark), zipped=zipped)
    texts = store.train(), store.validation()
    start = tmp_path / name if name.startswith("trunk") else None
    refused = None
    try:
        found = train_one(job_on(store), Conditions("cpu", 4), *texts, tmp_path, start=start)
    except LlmscaleError as error:
        refused = error.problem
    assert name in refused if refused else found.parent is None, "or all steps were trained anew"
    assert not mark.exists()
    pickle.loads(pickle.dumps(Malicious(mark)))
    assert mark.exists(), "the file is as malicious as it should be"


def write_dcp(folder: Path, mark: Path, step: int = 10**6) -> Path:
    """A `checkpoint.dcp` as several processes left it in older versions, whose index of tensors is
    malicious.
    """
    path = folder / "checkpoint.dcp"
    path.mkdir(parents=True)
    (path / ".metadata").write_bytes(pickle.dumps(Malicious(mark)))
    (path / "__0_0.distcp").write_bytes(pickle.dumps(Malicious(mark)))
    state = {
        "step": step,
        "seconds": 1.0,
        "model": {},
        "optimizer": {},
        "curve": [],
        "loss_sum": 0,
        "steps_summed": 0,
    }
    (path / "state.json").write_text(json.dumps(state))
    return path


@pytest.fixture(scope="module")
def hostile_index(store: TokenStore, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The index of a checkpoint that several processes wrote, as its writer would like to have
    it.
    """
    weights = build_model(job_on(store).shape).state_dict()
    tensors = {}
    for name, weight in weights.items():
        part = {
            "offsets": [0] * weight.dim(),
            "sizes": list(weight.shape),
            "file": "__0_0.distcp",
            "at": 0,
            "bytes": 9,
        }
        tensors[f"model.{name}"] = {"dtype": "float32", "size": list(weight.shape), "parts": [part]}
    return tensors


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (None, "is not used: it has no tensors.json"),
        ({}, "does not hold the state of this run, or is damaged"),
        ({"step": 10**6}, "is of step 1000000, and run"),
        ({"file": "../../x.distcp"}, "no file of tensors"),
        ({"file": ".metadata"}, "no file of tensors"),
        ({"dtype": "load"}, "no tensor is of type 'load'"),
        ({"size": [1 << 60, 1 << 60]}, "is no list of sizes"),
        ({"size": [1 << 40, 1 << 40]}, "no tensor has the size"),
        ({"size": [3, 5]}, "is of a model of another shape"),
        ({"size": "x"}, "is no list of sizes"),
        ({"at": -1}, "is no list of sizes"),
        ({"text": "["}, "does not say what the tensors"),
        ({"state": "[]"}, "does not say how far the run is"),
    ],
)
def test_a_malicious_checkpoint_of_several_processes_is_named_and_not_run(
    wrong: dict[str, Any] | None,
    words: str,
    store: TokenStore,
    hostile_index: dict[str, Any],
    tmp_path: Path,
    mark: Path,
) -> None:
    path = write_dcp(tmp_path, mark, step=(wrong or {}).get("step", 1))
    if wrong is not None:
        tensors = json.loads(json.dumps(hostile_index))
        first = next(iter(tensors.values()))
        first |= {key: value for key, value in wrong.items() if key in first}
        first["parts"][0] |= {
            key: value for key, value in wrong.items() if key in first["parts"][0]
        }
        (path / "tensors.json").write_text(wrong.get("text", json.dumps({"tensors": tensors})))
        (path / "state.json").write_text(wrong.get("state", (path / "state.json").read_text()))
    said: list[str] = []
    try:
        texts = store.train(), store.validation()
        train_one(
            job_on(store),
            Conditions("cpu", 4),
            *texts,
            tmp_path,
            warn=said.append,
            stop=lambda: True,
        )
    except TrainingInterrupted:
        anew = read_checkpoint(tmp_path / CHECKPOINT)
        assert anew is not None
        assert anew.step == 1
    except LlmscaleError as error:
        said.append(f"{error.problem} {error.fix}")
    assert not mark.exists()
    assert words in said[0]
    assert str(path) in said[0]
    assert "without it" in said[0]


def test_a_malicious_token_store_is_refused_and_not_run(
    store: TokenStore, tmp_path: Path, mark: Path
) -> None:
    shutil.copytree(store.path, tmp_path / "store")
    content = pickle.dumps(Malicious(mark))
    for name in ("train.bin", "validation.bin"):
        (tmp_path / "store" / name).write_bytes(content)
    with pytest.raises(InputError, match="is torn"):
        TokenStore.open(tmp_path / "store")
    meta = json.loads((store.path / "meta.json").read_text())
    for dtype in ("object", "O", "float32", "U4", None):
        (tmp_path / "store" / "meta.json").write_text(json.dumps({**meta, "dtype": dtype}))
        with pytest.raises(InputError, match="no token numbers"):
            TokenStore.open(tmp_path / "store")
    assert not mark.exists()


@pytest.mark.parametrize("setting", ["tokenizer", "rule", "source"])
def test_a_specification_file_runs_no_code_whatever_it_points_at(
    setting: str, tmp_path: Path, mark: Path
) -> None:
    target = tmp_path / "evil.json"
    target.write_bytes(pickle.dumps(Malicious(mark)))
    (tmp_path / "evil.py").write_text(f"import os; os.mkdir({str(mark)!r})")
    for path in (
        target,
        tmp_path / "evil.py",
        f"$(mkdir {mark})",
        f"__import__('os').mkdir({str(mark)!r})",
    ):
        table = "recipe" if setting == "rule" else "data"
        spec = tmp_path / "evil.toml"
        spec.write_text(
            f'sizes = ["1x16x1"]\ntokens = ["20k"]\n[{table}]\n{setting} = '
            f"{json.dumps(str(path))}\n"
        )
        result = llmscale("sweep", spec, "--dry-run", "--out", tmp_path / "out", "--device", "cpu")
        if not (setting == "source" and path == tmp_path / "evil.py"):  # which is text, and short
            assert result.exit_code == 2, result.output
        assert not mark.exists()
    assert not (tmp_path / "out").exists()


def test_code_that_comes_with_a_dataset_is_not_run(tmp_path: Path, mark: Path) -> None:
    folder = tmp_path / "evil"
    folder.mkdir()
    (folder / "evil.py").write_text(f"import os\nos.mkdir({str(mark)!r})\n")
    result = llmscale("data", "inspect", f"hub:{folder}")
    assert result.exit_code != 0
    assert not mark.exists()
    (folder / "train.jsonl").write_text('{"text": "one two three"}\n')
    llmscale("data", "inspect", f"hub:{folder}")
    assert not mark.exists()


@pytest.mark.parametrize(
    "name", ["../../x", "/etc/x", "..", ".", "", "a/b", ".ssh", "a\0b", "x" * 300]
)
def test_a_run_id_never_becomes_a_path_elsewhere(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no name of a run"):
        ResultsFolder(tmp_path).run_folder(name)
    run = tmp_path / "runs" / "0123456789ab"
    for place in (
        name,
        f"../{name}/trunk-1.pt",
        f"../0123456789ab/{name}",
        "trunk-1.pt",
        "../../../etc/passwd",
    ):
        with pytest.raises(InputError):
            RunFolder(run).sibling_file(place)
    assert (
        RunFolder(run).sibling_file("../ba9876543210/trunk-1.pt")
        == tmp_path / "runs" / "ba9876543210" / "trunk-1.pt"
    )


@pytest.fixture(scope="module")
def swept(store: TokenStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep that went on in a folder whose run says to start elsewhere, from another text and a
    malicious state.
    """
    out = tmp_path_factory.mktemp("results") / "swept"
    job = job_on(store)
    run = out / "runs" / job.run_id
    run.mkdir(parents=True)
    poisoned = {
        "job": job.to_json(),
        "device_name": "cpu",
        "store": "/etc",
        "start": "../../../../precious.pt",
    }
    (run / "spec.json").write_text(json.dumps(poisoned))
    write_dcp(run, out.parent / "it-ran")
    (out / "sweep.json").write_text(json.dumps({"basis": spec_on(store).basis()}))
    result = llmscale(*sweep_of(store, out))
    assert result.exit_code == 0, result.output
    assert "is not used: it has no tensors.json" in (run / "worker.log").read_text()
    assert not (out.parent / "it-ran").exists()
    return out


def everything(folder: Path) -> dict[str, bytes | None]:
    return {
        str(path): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def test_a_table_with_paths_for_run_ids_is_named_and_made_anew_by_a_sweep(
    store: TokenStore, swept: Path, tmp_path: Path
) -> None:
    out, outside = tmp_path / "a" / "out", tmp_path / "x"
    shutil.copytree(swept, out)
    outside.mkdir()
    (outside / "curve.parquet").write_bytes(b"private")
    table = pq.read_table(out / "runs.parquet")
    place = table.schema.get_field_index("run_id")
    pq.write_table(
        table.set_column(place, "run_id", pa.array(["../../../x"])), out / "runs.parquet"
    )
    before = everything(outside)
    result = llmscale(*sweep_of(store, out))
    assert result.exit_code == 0, result.output
    assert "'../../../x' is no name of a run" in result.stderr
    assert pq.read_table(out / "runs.parquet")["run_id"].to_pylist() == [
        run.name for run in (out / "runs").iterdir()
    ]
    assert everything(outside) == before
    assert llmscale("fit", out, "--law", "power").exit_code in (0, 1, 2)
    assert everything(outside) == before


@pytest.mark.parametrize(
    "wrong",
    [
        {"start": "../../../etc/passwd"},
        {"start": "/etc/passwd"},
        {"start": "../../evil.pt"},
        {"branch_points": {"3": "../../evil.pt"}},
        {"branch_points": {"3": "/tmp/evil.pt"}},
    ],
)
def test_a_worker_goes_to_no_path_elsewhere(
    wrong: dict[str, Any], swept: Path, tmp_path: Path
) -> None:
    from llmscale.measure.train.run_folders import Audience, train_runs

    shutil.copytree(swept, tmp_path / "out")
    (spec,) = (tmp_path / "out").glob("runs/*/spec.json")
    (spec.parent / "run.json").unlink()
    spec.write_text(json.dumps({**json.loads(spec.read_text()), **wrong}))
    warned: list[str] = []
    audience = Audience(
        lambda folder, point: None, lambda folder: False, lambda folder, text: warned.append(text)
    )
    assert list(train_runs([spec.parent], audience)) == [(spec.parent, 1)]
    (said,) = warned
    assert "spec.json is damaged" in said
    assert "no name of a run" in said or "no file of another run" in said
    assert not (spec.parent / "run.json").exists()
    assert not list(tmp_path.rglob("*.pt"))


def test_a_sweep_says_itself_where_its_runs_start_and_which_text_they_read(
    store: TokenStore, swept: Path
) -> None:
    (path,) = swept.glob("runs/*/spec.json")
    spec = json.loads(path.read_text())
    assert (spec["store"], spec["start"]) == (str(store.path.resolve()), None)
    assert json.loads(path.with_name("run.json").read_text())["status"] == "done"


def test_a_sweep_removes_no_branch_point_elsewhere(
    store: TokenStore, swept: Path, tmp_path: Path
) -> None:
    shutil.copytree(swept, tmp_path / "out")
    (spec,) = (tmp_path / "out").glob("runs/*/spec.json")
    (tmp_path / "precious.pt").write_bytes(b"mine")
    (spec.parent / "trunk-3.pt").touch()
    points = {"3": "../../../precious.pt"}
    spec.write_text(json.dumps({**json.loads(spec.read_text()), "branch_points": points}))
    assert llmscale(*sweep_of(store, tmp_path / "out")).exit_code in (0, 2)
    assert (tmp_path / "precious.pt").read_bytes() == b"mine"


def test_links_that_lead_out_of_a_results_folder_are_refused(
    store: TokenStore, swept: Path, tmp_path: Path
) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "profile").write_text("precious\n")
    before = everything(victim)
    (run,) = (swept / "runs").iterdir()
    for place, target in (
        (f"runs/{run.name}/worker.log", victim / "profile"),
        (f"runs/{run.name}/checkpoint.pt", victim / "profile"),
        ("runs/0123456789ab", victim),
        (".lock", victim / "profile"),
        ("runs.parquet", victim / "profile"),
    ):
        out = tmp_path / "out"
        shutil.copytree(swept, out)
        (out / place).unlink(missing_ok=True)
        (out / place).symlink_to(target)
        result = llmscale(*sweep_of(store, out))
        assert result.exit_code == 2, (place, result.output)
        assert "is a link to" in result.stderr
        assert everything(victim) == before
        shutil.rmtree(out)
    shutil.copytree(swept, victim / "results")
    (tmp_path / "elsewhere").symlink_to(victim / "results")
    assert llmscale(*sweep_of(store, tmp_path / "elsewhere")).exit_code == 0, (
        "the folder itself may be a link"
    )


DATA_READERS = ("json.load", "json.loads", "tomllib.load", "tomllib.loads", "torch.load")
"""Of all functions called `load` and the like those that read data as data; torch's own with
weights_only.
"""
UNPICKLING = {
    "Unpickler",
    "FileSystemReader",
    "read_pickle",
    "read_hdf",
    "PyExtensionType",
    "pickle",
}
"""Names of what unpickles, whoever calls it: torch's FileSystemReader does so with a checkpoint's
`.metadata`.
"""
SWITCHES = ("weights_only", "shell", "allow_pickle", "trust_remote_code")
ALLOWED = {
    "measure/text/work_process.py": {
        "pickle",
        "pickle.load",
    },  # between a process and its child, over pipes of their own
    "menu.py": {"exec", "compile"},  # a file that the user named, such as --law FILE.py
    "measure/train/shard_index.py": {
        "FileSystemReader"
    },  # with an index of its own in place of what torch unpickles
    "measure/train/sharded_checkpoint.py": {"load"},  # of tensors, by that reader
}


def unsafe(node: ast.AST) -> set[str]:
    """What `node` calls or imports that could run what it reads."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        return {name.name for name in node.names} & UNPICKLING
    if not isinstance(node, ast.Call):
        return set()
    called = ast.unparse(node.func)
    last = called.rpartition(".")[2]
    given = {word.arg: ast.unparse(word.value) for word in node.keywords if word.arg in SWITCHES}
    wrong = (
        (last in ("load", "loads") and called not in DATA_READERS)
        or last in UNPICKLING
        or last in ("exec_module", "run_path", "run_module")
        or (called in ("eval", "exec", "compile", "__import__", "os.system", "os.popen"))
        or (called == "torch.load" and given.get("weights_only") != "True")
        or given.get("shell") == "True"
        or given.get("allow_pickle") == "True"
        or given.get("trust_remote_code", "False") != "False"
    )
    return {called} if wrong else set()


@functools.cache
def parsed(repository: Path) -> list[tuple[Path, list[ast.AST]]]:
    """The modules of the package, each with all nodes of its syntax."""
    paths = sorted((repository / "llmscale").rglob("*.py"))
    return [(path, list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))) for path in paths]


def test_no_module_unpickles_evaluates_or_starts_a_shell(repository: Path) -> None:
    found = []
    for path, nodes in parsed(repository):
        name = str(path.relative_to(repository / "llmscale"))
        for node in nodes:
            if wrong := unsafe(node) - ALLOWED.get(name, set()):
                found.append(f"{name}:{getattr(node, 'lineno', 0)}: {wrong}")
    assert not found
    for line in (
        "from torch.distributed.checkpoint import FileSystemReader",
        "import pickle",
        "np.load(x)",
    ):
        assert any(unsafe(node) for node in ast.walk(ast.parse(line)))


def test_only_one_place_starts_python_and_it_says_where_to_import_from(repository: Path) -> None:
    paths = [
        path for path in sorted((repository / "llmscale").rglob("*.py")) if path.name != "child.py"
    ]
    found = [path.name for path in paths if "sys.executable" in path.read_text(encoding="utf-8")]
    assert not found, "use llmscale.machine.child.python and child_environment"
    assert python("-m", "x") == [sys.executable, "-P", "-m", "x"]
    assert child_environment()["PYTHONSAFEPATH"] == "1"


def test_every_text_is_read_and_written_in_a_named_encoding(repository: Path) -> None:
    """Else it is that of the user's locale, in which other machines cannot read it."""
    found = []
    for path, nodes in parsed(repository):
        for node in nodes:
            if not isinstance(node, ast.Call) or any(
                word.arg == "encoding" for word in node.keywords
            ):
                continue
            method, name = (getattr(node.func, part, "") for part in ("attr", "id"))
            modes = [word.value for word in node.args if isinstance(word, ast.Constant)]
            opens_text = (method or name).endswith("open") and any(
                mode in ("r", "w", "a", "x", "r+", "w+") for mode in modes
            )
            pipes_text = any(word.arg in ("text", "universal_newlines") for word in node.keywords)
            if (
                method in ("read_text", "write_text")
                or opens_text
                or (pipes_text and "subprocess" in ast.unparse(node.func))
            ):
                found.append(f"{path.relative_to(repository)}:{node.lineno}: {ast.unparse(node)}")
    assert not found


def test_reading_results_does_not_need_torch_nor_run_anything_of_theirs(
    swept: Path, tmp_path: Path
) -> None:
    shutil.copytree(swept, tmp_path / "out")
    for name in ("llmscale.py", "numpy.py", "sitecustomize.py"):
        (tmp_path / "out" / name).write_text(
            "raise SystemExit('code of the results folder was run')\n"
        )
    code = (
        "import sys; from llmscale.explain.table import read_table; print(read_table('out')); "
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "1 run" in done.stdout
