"""What a fine-tuning is asked to do, from the command line, a TOML file or a call. Light: `--help`
reads the declarations."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from llmscale.errors import InputError
from llmscale.measure.sweep.hardware import Hardware
from llmscale.measure.sweep.keeping import parse_keep
from llmscale.measure.sweep.spec import SweepSpec, asked_spec, parse_track
from llmscale.measure.text.tasks.spec import TaskSpec
from llmscale.measure.train.finetuning import FULL, LORA
from llmscale.measure.train.run_spec import KEPT_DTYPES
from llmscale.measure.trained.finetuning.recipe import FinetuneRecipe
from llmscale.menu import beside
from llmscale.quantity import parse_count, parse_list
from llmscale.settings import Range, check_settings, keys_of, setting

WHAT: Final = "What to train"
OUTPUT: Final = "Output"
"""Groups of settings."""
METHODS: Final = (FULL, LORA)


def parse_examples(text: str) -> tuple[int, ...]:
    """The amounts in `text`, each once: `100,1k,10k`. Raises InputError."""
    return parse_list(text, lambda item: parse_count(item, "number of examples"), "examples")


def parse_methods(text: str) -> tuple[str, ...]:
    """The methods in `text`, each once: `full,lora`. Raises InputError."""

    def checked(item: str) -> str:
        if item.strip() not in METHODS:
            raise InputError(f"there is no method {item!r}", f"choose of {', '.join(METHODS)}")
        return item.strip()

    return parse_list(text, checked, "methods")


def parse_runs(text: str) -> tuple[str, ...]:
    """The places in `text`, with commas between. Raises InputError."""
    return parse_list(text, str.strip, "runs")


@dataclass(frozen=True)
class FinetuneSpec:
    """Trained models x amounts of a task x methods x seeds."""

    runs: tuple[str, ...] = setting(
        (),
        help="The models: folders of runs, or results folders, of which every run with weights is "
        "taken.",
        parse=parse_runs,
    )
    examples: tuple[int, ...] = setting(
        (),
        help="How many training examples to learn from: one number, or several (`100,1k,10k`).",
        usual="all",
        group=WHAT,
        metavar="100,1k",
        parse=parse_examples,
    )
    epochs: float = setting(
        3.0, help="How often each example is learnt.", group=WHAT, within=Range(0, 1e6, above=True)
    )
    method: tuple[str, ...] = setting(
        (FULL,),
        help="What is trained: `full`, all weights, or `lora`, low-rank adapters of its matrices "
        "that are merged at the end; or both.",
        group=WHAT,
        metavar="full,lora",
        parse=parse_methods,
    )
    from_scratch: bool = setting(
        False,
        help="Also train the same shapes from new weights, as controls: fit --law transfer needs "
        "them.",
        group=WHAT,
    )
    seeds: int = setting(
        1, help="Runs of each, with different seeds.", group=WHAT, within=Range(1, 10_000)
    )
    retry_diverged: int = setting(
        0,
        help="How often a diverged run is tried again, each time with half the learning rate.",
        group=WHAT,
        within=Range(0, 20),
    )
    arch: str | None = setting(
        None,
        help="The file of the models' architecture, if it is one of your own.",
        group=WHAT,
        metavar="./mine.py:MyModel",
    )
    track: tuple[str, ...] = setting(
        (),
        help="Experiment trackers that runs are shown in, too: tensorboard, wandb or mlflow.",
        group=OUTPUT,
        metavar="mlflow,wandb",
        parse=parse_track,
    )
    keep: str = setting(
        "all",
        help="Whose weights are kept: `all` runs, the `largest` of each method, `none`, or some "
        "sizes and methods.",
        group=OUTPUT,
        metavar="all|largest|none",
        parse=parse_keep,
    )
    keep_dtype: str = setting(
        "bfloat16",
        help="The number format that weights are kept in.",
        group=OUTPUT,
        choices=lambda: KEPT_DTYPES,
    )
    keep_gb: float = setting(
        10.0,
        help="Gigabytes that kept weights may take: of more, those of the largest runs are kept.",
        group=OUTPUT,
        within=Range(0, 1e6),
    )
    data: TaskSpec = setting(factory=TaskSpec, help="The task.")
    recipe: FinetuneRecipe = setting(factory=FinetuneRecipe, help="How every run is trained.")
    hardware: Hardware = setting(factory=Hardware, help="Where to train.")

    def __post_init__(self) -> None:
        check_settings(self)
        if LORA in self.method and self.hardware.gpus_per_run > 1:
            raise InputError(
                "LoRA trains a run on one GPU, and --gpus-per-run asks for more",
                "leave it out, or take --method full",
            )

    @property
    def as_sweep(self) -> SweepSpec:
        """What a fine-tuning has in common with a sweep: hardware, what is kept, and how."""
        return SweepSpec(
            seeds=self.seeds,
            retry_diverged=self.retry_diverged,
            track=self.track,
            keep=self.keep,
            keep_dtype=self.keep_dtype,
            keep_gb=self.keep_gb,
            hardware=self.hardware,
        )

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "hardware": self.hardware.to_json()}

    def basis(self) -> dict[str, Any]:
        """What all runs of one results folder share: the task and the recipe."""
        return {
            "kind": "finetune",
            "data": asdict(self.data),
            "recipe": asdict(self.recipe),
            "dtype": self.hardware.dtype,
        }


def read_spec(path: Path) -> FinetuneSpec:
    """The fine-tuning that a TOML file describes. Raises InputError."""
    from llmscale.settings.tables import check_keys, from_table, read_toml

    table = beside(read_toml(path), path.parent)
    data = table.get("data")
    if isinstance(data, dict) and isinstance(data.get("source"), str):
        name, comma, settings = data["source"].partition(",")  # of a task of one's own
        data["source"] = beside(name, path.parent, "source") + comma + settings
    check_keys(table, set(keys_of(FinetuneSpec)), str(path))
    return from_table(FinetuneSpec, table, str(path))


def asked_finetuning(
    asked: "FinetuneSpec | Path | str | Sequence[Path | str] | None", given: Mapping[str, Any]
) -> FinetuneSpec:
    """The specification `asked` for, itself, in a TOML file, or of the runs that are named, with
    settings `given` by keyword in place of its own. Raises InputError."""
    from llmscale.settings.tables import with_keywords

    spec = FinetuneSpec()
    if isinstance(asked, FinetuneSpec):
        spec = asked
    elif asked is not None:
        named = [str(asked)] if isinstance(asked, str | Path) else [str(one) for one in asked]
        files = [one for one in named if one.endswith(".toml")]
        if files and len(named) > 1:
            raise InputError(f"{files[0]} stands next to other names", "name the file, or runs")
        spec = read_spec(Path(files[0])) if files else replace(spec, runs=tuple(named))
    options = given.get("executor_option")
    settings = {name: value for name, value in given.items() if name != "executor_option"}
    spec = with_keywords(spec, settings, "the call")
    if options:
        hardware = asked_spec(spec.as_sweep, {"executor_option": options}).hardware
        spec = replace(spec, hardware=hardware)
    if not spec.runs:
        raise InputError(
            "no model was named", "name runs, as in: llmscale finetune results/NAME --data TASK"
        )
    return spec
