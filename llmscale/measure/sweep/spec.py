"""What a sweep is asked to do, from the command line or a TOML file."""

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, get_args, get_type_hints

from llmscale.errors import InputError
from llmscale.machine import DEVICES, DTYPES, pick_device
from llmscale.measure.executors import check_executor, executor_names
from llmscale.measure.executors.ray import Options as RayOptions
from llmscale.measure.executors.slurm import Options as SlurmOptions
from llmscale.measure.text.prepare import TextSpec
from llmscale.measure.text.sources import check_source
from llmscale.measure.trackers import find_trackers
from llmscale.measure.train.recipe import DEFAULT, Recipe
from llmscale.menu import beside
from llmscale.quantity import MOST_PER_PARAM, TokenBudget, parse_budget, parse_count, parse_list
from llmscale.runs.shape import TOKENS_PER_PARAM, shape_for
from llmscale.settings import Range, check_keys, check_ranges, check_value, from_table, read_toml

MOST_RUNS = 50_000
"""Runs of a sweep: five times as many as have been tried."""
RECIPE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")


@dataclass(frozen=True)
class Hardware:
    """Where to train: `auto` takes the best that is here.

    Of all this only `dtype` changes a run's outcome.
    """

    device: str = "auto"
    """`cpu` or `cuda`; `auto` takes a GPU where there is one."""
    dtype: str = "auto"
    """Of what is multiplied; `auto` takes bfloat16 if a GPU has it, and on a CPU the faster one, by
    measuring. On a GPU `float32` is not TF32."""
    workers: int | None = None
    """Runs at a time; left out: one a core on the CPU as memory allows, one a GPU, or up to four if
    they are small.
    """
    compile: str = "auto"
    """`auto` compiles what has no kernels of its own here and is long enough to repay it; `always`;
    `never`.
    """
    stack: str = "auto"
    """Whether seeds of one size are trained as one batched model: `auto` does so with small models
    on a GPU; `always`; `never`."""
    deterministic: bool = False
    """On a GPU, only kernels that give the same bits every time. On the CPU all do."""
    checkpoint_seconds: float = 60.0
    """How often a run under way saves its state, for when its worker is lost."""
    gpus_per_run: int = 1
    """GPUs of this machine that train one run together; weights that are too large for one are
    shared out.
    """
    executor: str = "local"
    """What starts the workers: this machine, or a cluster."""
    ray: RayOptions = field(default_factory=RayOptions)
    """For executor = "ray"."""
    slurm: SlurmOptions = field(default_factory=SlurmOptions)
    """For executor = "slurm"."""

    @staticmethod
    def menus() -> dict[str, tuple[str, ...]]:
        """What may be chosen, by setting."""
        when = ("auto", "always", "never")
        return {
            "device": DEVICES,
            "dtype": DTYPES,
            "compile": when,
            "stack": when,
            "executor": executor_names(),
        }

    @staticmethod
    def ranges() -> dict[str, Range]:
        """The numbers that each setting takes."""
        return {
            "workers": Range(1, 10_000),
            "checkpoint_seconds": Range(0, 1e6, above=True),
            "gpus_per_run": Range(1, 1000),
        }

    @property
    def picked_device(self) -> str:
        """`cpu` or `cuda`; what is asked for on a cluster need not be here. Raises InputError."""
        return pick_device(self.device, elsewhere=self.executor != "local")

    @property
    def executor_options(self) -> tuple[Any, ...]:
        """The table of the executor's own options, where it has one."""
        return (getattr(self, self.executor),) if hasattr(self, self.executor) else ()

    def __post_init__(self) -> None:
        for name, choices in self.menus().items():
            if getattr(self, name) not in choices:
                raise InputError(
                    f"{name} is {getattr(self, name)!r}", f"choose one of {', '.join(choices)}"
                )
        check_ranges(self)
        if self.gpus_per_run > 1 and self.executor != "local":
            raise InputError(
                f"gpus_per_run is {self.gpus_per_run}, and executor {self.executor} gives a run "
                "one GPU",
                "take executor local, or start torchrun on a run's folder yourself",
            )


@dataclass(frozen=True)
class SweepSpec:
    """Sizes x token budgets, or compute budgets, x recipes x seeds, on one text."""

    sizes: tuple[str, ...] = ()
    """Non-embedding parameter counts (`1M`), or shapes: layers x width x heads (`6x384x6`)."""
    tokens: tuple[TokenBudget, ...] = ()
    """Training tokens, `100M` or `20x` a parameter; left out: one epoch of the text."""
    flops: tuple[float, ...] = ()
    """IsoFLOP grid, in place of `sizes` and `tokens`: compute budgets in FLOPs, as in `"1e15"`."""
    per_budget: int = 5
    """Sizes at each budget of `flops`, evenly spaced in log N."""
    optimum: float = float(TOKENS_PER_PARAM)
    """Tokens a parameter at which the optimum of each budget is expected (Hoffmann et al. 2022:
    about 20). """
    spread: float = 4.0
    """How far the sizes of a budget go from the expected optimum on either side, as a factor."""
    seeds: int = 1
    """Runs a size and budget, with different seeds."""
    retry_diverged: int = 0
    """How often a diverged run is tried again, each time with half the learning rate."""
    track: tuple[str, ...] = ()
    """Experiment trackers that runs are shown in, too: tensorboard, wandb or mlflow."""
    data: TextSpec = field(default_factory=TextSpec)
    recipe: Recipe = field(default_factory=Recipe)
    recipes: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Variants of [recipe] by name, to be trained beside it: what each changes of it."""
    hardware: Hardware = field(default_factory=Hardware)

    @staticmethod
    def ranges() -> dict[str, Range]:
        """The numbers that each setting takes."""
        return {
            "per_budget": Range(3, 1000),  # a parabola takes three sizes
            "optimum": Range(0, MOST_PER_PARAM, above=True),
            "spread": Range(1, 1e6, above=True),
            "seeds": Range(1, 10_000),
            "retry_diverged": Range(0, 20),
        }

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.flops and (self.sizes or self.tokens):
            raise InputError(
                "both flops and sizes or tokens were given",
                "flops chooses sizes and tokens: leave them out",
            )
        asked = self.seeds * (1 + len(self.recipes)) * max(self._points, 1)
        if asked > MOST_RUNS:
            raise InputError(
                f"this asks for {asked:,} runs, and a sweep has at most {MOST_RUNS:,}",
                "ask for fewer sizes, budgets, recipes or seeds, or make several sweeps of them",
            )
        for recipe in self.variants.values():
            for size in self.sizes:
                shape_for(size, vocab_size=1, context=recipe.context, arch=recipe.arch)

    @property
    def _points(self) -> int:
        """Pairs of a size and a budget."""
        return len(self.flops) * self.per_budget or len(self.sizes) * max(len(self.tokens), 1)

    @cached_property
    def variants(self) -> dict[str, Recipe]:
        """The recipes to train by, `default` first.

        Raises InputError where two of them are the same.
        """
        found = {DEFAULT: self.recipe}
        for name, changes in self.recipes.items():
            recipe = replace(self.recipe, **changes)
            same = next((other for other, one in found.items() if one == recipe), None)
            if same is not None:
                raise InputError(
                    f"recipe {name!r} is the same as {same!r}",
                    f"change something in [recipes.{name}]",
                )
            found[name] = recipe
        return found

    def to_json(self) -> dict[str, Any]:
        payload = asdict(self)
        payload["sizes"] = list(self.sizes)
        payload["tokens"] = [str(budget) for budget in self.tokens]
        return payload

    def basis(self) -> dict[str, Any]:
        """What all runs of one results folder share: the text and the recipe, with what its rule
        says now.
        """
        payload = self.to_json()
        if self.data.end_of_text is None:
            del payload["data"][
                "end_of_text"
            ]  # folders of before there was this setting keep their names
        payload["data"]["validation_tokens"] = self.data.held_out
        return {
            "data": payload["data"],
            "recipe": _stated(self.recipe),
            "dtype": payload["hardware"]["dtype"],
        }

    def stated_variants(self) -> dict[str, Any]:
        """What each named variant is, as `basis` says it of the recipe itself."""
        return {name: _stated(recipe) for name, recipe in self.variants.items() if name != DEFAULT}


def _stated(recipe: Recipe) -> dict[str, Any]:
    rule = recipe.tuned_rule
    return {**asdict(recipe), "rule": rule.to_json() if rule else None}


def parse_sizes(text: str) -> tuple[str, ...]:
    """The sizes in `text`, each once: `1M,10M` or `6x384x6`. Raises InputError."""

    def checked(item: str) -> str:
        shape_for(item, vocab_size=1, context=1)
        return item.strip()

    return parse_list(text, checked, "sizes")


def parse_budgets(text: str) -> tuple[TokenBudget, ...]:
    """The token budgets in `text`, each once: `10M,30M` or `5x,20x`. Raises InputError."""
    return parse_list(text, parse_budget, "token budgets")


def parse_flops(text: str) -> tuple[float, ...]:
    """The compute budgets in `text`, each once: `1e15,3e15`. Raises InputError."""
    return parse_list(
        text, lambda item: float(parse_count(item, "compute budget")), "compute budgets"
    )


def parse_track(text: str) -> tuple[str, ...]:
    """The trackers in `text`, each once: `tensorboard,mlflow`. Raises InputError."""
    return parse_list(text, str.strip, "trackers")


def read_spec(path: Path) -> SweepSpec:
    """The sweep that a TOML file describes. Raises InputError."""
    table = beside(read_toml(path), path.parent)
    hints = get_type_hints(SweepSpec)
    check_keys(table, set(hints), str(path))
    if "sizes" not in table and "flops" not in table:
        raise InputError(
            f"{path} names no sizes", 'add a line like sizes = ["10k", "30k", "100k", "300k"]'
        )
    numbers = {key: table[key] for key in table if hints[key] in (int, float)}
    for key, value in numbers.items():
        check_value(key, value, hints[key], str(path))
    lists: dict[str, Callable[[str], Any]] = {
        "sizes": parse_sizes,
        "tokens": parse_budgets,
        "flops": parse_flops,
        "track": parse_track,
    }
    return SweepSpec(
        **{
            key: parse(_joined(table[key], key, path))
            for key, parse in lists.items()
            if key in table
        },
        **numbers,
        recipes=_read_recipes(table.get("recipes", {}), path),
        data=from_table(TextSpec, table.get("data", {}), f"[data] of {path}"),
        recipe=from_table(Recipe, table.get("recipe", {}), f"[recipe] of {path}"),
        hardware=from_table(Hardware, table.get("hardware", {}), f"[hardware] of {path}"),
    )


def _read_recipes(table: Any, path: Path) -> dict[str, dict[str, Any]]:
    """What each table [recipes.NAME] changes of [recipe], checked key by key."""
    if not isinstance(table, dict):
        raise InputError(
            f"recipes in {path} is {table!r}", "write a table for each, such as [recipes.muon]"
        )
    for name, changes in table.items():
        if name == DEFAULT or not RECIPE_NAME.fullmatch(name):
            raise InputError(
                f"{name!r} in {path} cannot be the name of a recipe",
                f"use letters, digits, - and _; {DEFAULT} is [recipe] itself",
            )
        from_table(Recipe, changes, f"[recipes.{name}] of {path}")
    return table


def override(spec: SweepSpec, **changes: Any) -> SweepSpec:
    """`spec` with the given fields of it or of its tables replaced; None leaves a field as it
    is.
    """
    given = {name: value for name, value in changes.items() if value is not None}
    for table in ("data", "recipe", "hardware"):
        settings = getattr(spec, table)
        mine = {
            name: given.pop(name) for name in list(given) if name in settings.__dataclass_fields__
        }
        if mine:
            spec = replace(spec, **{table: replace(settings, **mine)})
    return replace(spec, **given)


def check_installed(spec: SweepSpec, starting: bool = True, tracking: bool = True) -> None:
    """Raise InputError if what `spec` names takes a package that is not installed, before anything
    is done.

    If it is `starting`, also if its executor cannot start anything here; if not `tracking`, its
    trackers do not matter."""
    check_executor(spec.hardware.executor, starting)
    if tracking:
        find_trackers(spec.track)
    check_source(spec.data.source)


def with_executor_options(spec: SweepSpec, options: Sequence[str]) -> SweepSpec:
    """`spec` with options of its executor set from the command line, each as `key=value`.

    Raises InputError.
    """
    hardware, where = spec.hardware, f"--executor-option of {spec.hardware.executor}"
    if options and not hardware.executor_options:
        raise InputError(
            f"the executor {hardware.executor} has no options", "choose another with --executor"
        )
    for option in options:
        key, equals, text = option.partition("=")
        if not equals:
            raise InputError(
                f"--executor-option is {option!r}", "write it like --executor-option partition=gpu"
            )
        before = hardware.executor_options[0]
        hints = get_type_hints(type(before))
        check_keys({key: text}, set(hints), where)
        value: str | float = text
        for kind in (int, float):
            if kind in (hints[key], *get_args(hints[key])):
                with suppress(ValueError):
                    value = kind(text)
        check_value(key, value, hints[key], where)
        hardware = replace(hardware, **{hardware.executor: replace(before, **{key: value})})
    return replace(spec, hardware=hardware)


def _joined(value: Any, key: str, path: Path) -> str:
    items = value if isinstance(value, list) else [value]
    kinds = str | int | float if key == "flops" else str | int
    if not all(isinstance(item, kinds) and not isinstance(item, bool) for item in items):
        raise InputError(f"{key} in {path} is {value!r}", f'write it like {key} = ["1M", "10M"]')
    return ",".join(str(item) for item in items)
