"""What a sweep is asked to do, from the command line, a TOML file or a call. Light: `--help` reads
the declarations."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from llmscale.errors import InputError, both
from llmscale.errors.printable import begun
from llmscale.measure.sweep.hardware import Hardware
from llmscale.measure.sweep.keeping import parse_keep
from llmscale.measure.sweep.single_runs import SingleRun, read_single_runs
from llmscale.measure.text.spec import TextSpec
from llmscale.measure.train.recipe import DEFAULT, Recipe
from llmscale.measure.train.run_spec import KEPT_DTYPES
from llmscale.menu import beside, is_own
from llmscale.quantity import MOST_PER_PARAM, TokenBudget, parse_amount, parse_budget, parse_list
from llmscale.runs.shape import TOKENS_PER_PARAM, Shape, shape_for
from llmscale.settings import Range, check_settings, keys_of, setting

MOST_EPOCHS: Final = 10_000
MOST_RUNS = 50_000
"""Runs of a sweep: five times as many as have been tried."""
RECIPE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")
WHAT: Final = "What to train"
OUTPUT: Final = "Output"
"""Groups of settings."""


def parse_sizes(text: str) -> tuple[str, ...]:
    """The sizes in `text`, each once: `1M,10M` or `6x384x6`. Raises InputError."""

    def checked(item: str) -> str:
        shape_for(item, vocab_size=1, context=1)
        return item.strip()

    return parse_list(text, checked, "sizes")


def parse_budgets(text: str) -> tuple[TokenBudget, ...]:
    """The token budgets in `text`, each once: `10M,30M` or `5x,20x`. Raises InputError."""
    return parse_list(text, parse_budget, "token budgets")


def parse_epochs(text: str) -> tuple[float, ...]:
    """The numbers of epochs in `text`, each once: `1,4,16`. Raises InputError."""
    return parse_list(text, _parse_epoch, "epochs")


def _parse_epoch(text: str) -> float:
    with suppress(ValueError):
        if 1 <= float(text) <= MOST_EPOCHS:
            return float(text)
    raise InputError(
        f"epochs has {begun(text)!r}, and a text is read 1 to {MOST_EPOCHS:,} times",
        "write it like epochs = [1, 4, 16]",
    )


def parse_flops(text: str) -> tuple[float, ...]:
    """The compute budgets in `text`, each once: `1e15,3e15`. Raises InputError."""
    return parse_list(text, lambda item: parse_amount(item, "compute budget"), "compute budgets")


def parse_track(text: str) -> tuple[str, ...]:
    """The trackers in `text`, each once: `tensorboard,mlflow`. Raises InputError."""
    return parse_list(text, str.strip, "trackers")


def _read_recipes(table: Any, where: str) -> dict[str, dict[str, Any]]:
    """What each table [recipes.NAME] changes of [recipe], checked key by key."""
    from llmscale.settings.tables import from_table

    if not isinstance(table, dict):
        raise InputError(
            f"recipes in {where} is {table!r}", "write a table for each, such as [recipes.muon]"
        )
    for name, changes in table.items():
        if name == DEFAULT or not RECIPE_NAME.fullmatch(name):
            raise InputError(
                f"{name!r} in {where} cannot be the name of a recipe",
                f"use letters, digits, - and _; {DEFAULT} is [recipe] itself",
            )
        from_table(Recipe, changes, f"[recipes.{name}] of {where}")
    return table


@dataclass(frozen=True)
class SweepSpec:
    """Sizes x token budgets, or compute budgets, x recipes x seeds, on one text."""

    sizes: tuple[str, ...] = setting(
        (),
        help="Non-embedding parameter counts (`1M`), or shapes: layers x width x heads "
        "(`6x384x6`).",
        group=WHAT,
        metavar="1M,10M",
        parse=parse_sizes,
    )
    tokens: tuple[TokenBudget, ...] = setting(
        (),
        help="Training tokens, `100M` or `20x` a parameter: one budget for every size, or "
        "several (`10M,30M` or `5x,20x`) to measure L(N, D).",
        usual="one epoch of the text",
        group=WHAT,
        metavar="100M",
        parse=parse_budgets,
    )
    unique_tokens: tuple[TokenBudget, ...] = setting(
        (),
        help="Different tokens that a run reads, `1M` or `5x` a parameter: with `epochs` in place "
        "of `tokens`, each that many times; or for each of `tokens`, as often as fills it.",
        usual="as many as it is trained on, or the whole text",
        group=WHAT,
        metavar="1M",
        parse=parse_budgets,
    )
    epochs: tuple[float, ...] = setting(
        (),
        help="Times that a run reads its text: of each of `tokens` so large a part is different, "
        "or each of `unique_tokens` is read so often.",
        usual="once, or what `tokens` takes of the text",
        group=WHAT,
        metavar="1,4,16",
        parse=parse_epochs,
    )
    flops: tuple[float, ...] = setting(
        (),
        help="IsoFLOP grid, in place of `sizes` and `tokens`: compute budgets in FLOPs, as in "
        '`"1e15"`, each with sizes around the expected optimum.',
        group=WHAT,
        metavar="1e13,3e13",
        parse=parse_flops,
    )
    per_budget: int = setting(
        5,
        help="Sizes at each budget of `flops`, evenly spaced in log N.",
        group=WHAT,
        within=Range(3, 1000),  # a parabola takes three sizes
    )
    optimum: float = setting(
        float(TOKENS_PER_PARAM),
        help="Tokens a parameter at which the optimum of each budget is expected (Hoffmann et "
        "al. 2022: about 20).",
        group=WHAT,
        within=Range(0, MOST_PER_PARAM, above=True),
    )
    spread: float = setting(
        4.0,
        help="How far the sizes of a budget go from the expected optimum on either side, as a "
        "factor.",
        group=WHAT,
        within=Range(1, 1e6, above=True),
    )
    seeds: int = setting(
        1,
        help="Runs a size and budget, with different seeds.",
        group=WHAT,
        within=Range(1, 10_000),
    )
    retry_diverged: int = setting(
        0,
        help="How often a diverged run is tried again, each time with half the learning rate.",
        group=WHAT,
        within=Range(0, 20),
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
        help="Whose weights are kept: `all` runs, the `largest` of each recipe, `none`, or some "
        "sizes and recipes, as in `1M,10M`.",
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
    runs: tuple[SingleRun, ...] = setting(
        (),
        help="Single runs next to the grid, or without one, as `llmscale next` proposes them: "
        '`{ size = "1M", tokens = "20x", seeds = 2 }`.',
        read=read_single_runs,
        each=lambda: SingleRun,
    )
    data: TextSpec = setting(factory=TextSpec, help="The text.")
    recipe: Recipe = setting(factory=Recipe, help="How every run is trained.")
    recipes: dict[str, dict[str, Any]] = setting(
        factory=dict,
        help="Variants of [recipe] by name, to be trained beside it: what each changes of it.",
        read=_read_recipes,
    )
    hardware: Hardware = setting(factory=Hardware, help="Where to train.")

    def __post_init__(self) -> None:
        check_settings(self)
        if any(is_own(name) for name in self.track):
            from llmscale.measure.trackers import TRACKERS

            object.__setattr__(self, "track", tuple(TRACKERS.pin(name) for name in self.track))
        if self.flops and (self.sizes or self.tokens):
            raise InputError(
                "both flops and sizes or tokens were given",
                "flops chooses sizes and tokens: leave them out",
            )
        grid_only = [name for name in ("per_budget", "optimum", "spread") if self._is_set(name)]
        if grid_only and not self.flops:
            raise InputError(
                f"{grid_only[0]} is of an IsoFLOP grid, and no flops were given",
                f"give flops, or leave {grid_only[0]} out",
            )
        self._check_epochs()
        asked = len(self.variants) * max(self.seeds * self._points + self._single_runs, 1)
        if asked > MOST_RUNS:
            raise InputError(
                f"this asks for {asked:,} runs, and a sweep has at most {MOST_RUNS:,}",
                "ask for fewer sizes, budgets, recipes or seeds, or make several sweeps of them",
            )
        for recipe in self.variants.values():
            for size in (*self.sizes, *(run.size for run in self.runs)):
                shape_for(size, vocab_size=1, context=recipe.context, arch=recipe.arch)

    def _is_set(self, name: str) -> bool:
        """Whether a setting is another than the usual one."""
        return bool(getattr(self, name) != type(self).__dataclass_fields__[name].default)

    def _check_epochs(self) -> None:
        """Raise InputError if tokens, unique tokens and epochs do not say what a run reads."""
        given = self.unique_tokens and self.epochs and (self.tokens or self.flops)
        if given:
            raise InputError(
                "unique_tokens, epochs and a budget were given, and two of them say the third",
                "leave one of tokens, unique_tokens and epochs out",
            )
        if (self.unique_tokens or self.epochs) and not (
            self.tokens or self.flops or (self.unique_tokens and self.epochs)
        ):
            one = "unique_tokens" if self.unique_tokens else "epochs"
            other = "epochs" if self.unique_tokens else "unique_tokens"
            raise InputError(
                f"{one} was given without a budget",
                f"give tokens or {other}, too",
            )

    @property
    def _single_runs(self) -> int:
        """Runs next to the grid, each as often as its text differs."""
        return self._texts * sum(run.seeds for run in self.runs)

    @property
    def _texts(self) -> int:
        return max(len(self.unique_tokens), 1) * max(len(self.epochs), 1)

    @property
    def _points(self) -> int:
        """Pairs of a size and a budget, each as often as its text differs."""
        budgets = len(self.sizes) * max(len(self.tokens), 1)
        return self._texts * (len(self.flops) * self.per_budget or budgets)

    @cached_property
    def variants(self) -> dict[str, Recipe]:
        """The recipes to train by, `default` first: each on every mixture. Raises InputError if two
        of them are the same."""
        recipes = self._recipes
        return {name: recipes[recipe] for name, (recipe, _) in self._mixed.items()}

    def mixture_of(self, variant: str) -> str:
        """The mixture that a variant is trained on; `default` if there is none."""
        return self._mixed[variant][1]

    @cached_property
    def _mixed(self) -> dict[str, tuple[str, str]]:
        """By the name of a variant its recipe and its mixture."""
        found: dict[str, tuple[str, str]] = {}
        for recipe in self._recipes:
            for mixture in self.data.shares or (DEFAULT,):
                words = [word for word in (recipe, mixture) if word != DEFAULT]
                name = "-".join(words) or DEFAULT
                if name in found:
                    raise InputError(
                        f"two variants would be called {name!r}",
                        f"give the mixture {mixture!r} another name than a recipe has",
                    )
                found[name] = (recipe, mixture)
        return found

    @cached_property
    def _recipes(self) -> dict[str, Recipe]:
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

    def remarks(self) -> Iterator[str]:
        """What of it changes nothing, in words."""
        for name in self.hardware.options_by_executor:
            if name != self.hardware.executor:
                yield f"[hardware.{name}] is not used: the executor is {self.hardware.executor}"
        for name, recipe in self.variants.items():
            if self.hardware.stack == "always" and is_own(recipe.optimizer):
                yield f"seeds are trained one by one by {recipe.optimizer}, in spite of stack"
            if recipe.teacher is not None and not recipe.distill_weight:
                yield f"the teacher of recipe {name} weighs 0: it is trained without one"
            alike: dict[Shape, list[str]] = {}
            for size in self.sizes:
                shape = shape_for(size, vocab_size=1, context=recipe.context, arch=recipe.arch)
                alike.setdefault(shape, []).append(size)
            of = "" if name == DEFAULT else f" in recipe {name}"
            for shape, sizes in alike.items():
                if len(sizes) > 1:
                    yield f"sizes {both(sizes)} are one shape{of}, {shape.name}: it is trained once"

    def to_json(self) -> dict[str, Any]:
        payload = {**asdict(self), "hardware": self.hardware.to_json()}
        payload["sizes"] = list(self.sizes)
        for name in ("tokens", "unique_tokens"):
            payload[name] = [str(budget.stated) for budget in getattr(self, name)]
        payload["runs"] = [run.to_json() for run in self.runs]
        payload["data"] = self.data.stated()
        return payload

    def basis(self) -> dict[str, Any]:
        """What all runs of one results folder share: the text and the recipe, with what its rule
        says now."""
        payload = self.to_json()
        if self.data.end_of_text is None:
            del payload["data"][
                "end_of_text"
            ]  # folders of before there was this setting keep their names
        payload["data"].pop("mixtures", None)  # as [recipes], more of them may come later
        payload["data"]["validation_tokens"] = self.data.held_out
        return {
            "data": payload["data"],
            "recipe": _stated(self.recipe),
            "dtype": payload["hardware"]["dtype"],
        }

    def stated_variants(self) -> dict[str, Any]:
        """What each named variant is, as `basis` says it of the recipe itself."""
        found = {}
        for name, recipe in self.variants.items():
            stated = _stated(recipe)
            if self.data.shares:
                stated["mixture"] = self.data.shares[self.mixture_of(name)]
            if name != DEFAULT:
                found[name] = stated
        return found


def _stated(recipe: Recipe) -> dict[str, Any]:
    rule = recipe.tuned_rule
    stated = {**asdict(recipe), "rule": rule.to_json() if rule else None}
    if recipe.teacher is None:  # folders of before there were teachers keep their names
        for name in ("teacher", "distill_weight", "distill_temperature"):
            del stated[name]
    return stated


def read_spec(path: Path) -> SweepSpec:
    """The sweep that a TOML file describes. Raises InputError."""
    from llmscale.settings.tables import check_keys, from_table, read_toml

    table = beside(read_toml(path), path.parent)
    check_keys(table, set(keys_of(SweepSpec)), str(path))
    if not {"sizes", "flops", "runs"} & set(table):
        raise InputError(
            f"{path} names no sizes", 'add a line like sizes = ["10k", "30k", "100k", "300k"]'
        )
    return from_table(SweepSpec, table, str(path))


def asked_spec(asked: "SweepSpec | Path | str | None", given: Mapping[str, Any]) -> SweepSpec:
    """The specification `asked` for, itself or in a TOML file, with settings `given` by keyword in
    place of its own; None leaves a setting as it is.

    `executor_option` holds options of the executor, each as `key=value`. Raises InputError."""
    from llmscale.settings.tables import with_keywords

    spec = asked if isinstance(asked, SweepSpec) else SweepSpec()
    if isinstance(asked, str | Path):
        spec = read_spec(Path(asked))
    settings = {name: value for name, value in given.items() if name != "executor_option"}
    spec = with_keywords(spec, settings, "the call")
    return _with_executor_options(spec, given.get("executor_option") or ())


def check_choices(spec: SweepSpec, starting: bool = True) -> None:
    """Raise InputError if what `spec` names takes a package that is not installed, or is an
    architecture of the user's own that does not compute what it declares.

    If it is `starting`, also if its executor cannot start anything here."""
    from llmscale.measure.executors import check_executor
    from llmscale.measure.text.clean import open_steps
    from llmscale.measure.text.sources import check_source
    from llmscale.measure.trackers import find_trackers
    from llmscale.measure.train.own_model import check_architecture

    check_executor(spec.hardware.executor, starting)
    find_trackers(spec.track)
    for source in spec.data.sources:
        check_source(source)
    open_steps(spec.data.cleaning.steps)
    for recipe in spec.variants.values():
        check_architecture(recipe.arch)
        recipe.check_teacher()


def _with_executor_options(spec: SweepSpec, options: Sequence[str]) -> SweepSpec:
    from llmscale.settings.tables import check_keys, read_value

    hardware, where = spec.hardware, f"--executor-option of {spec.hardware.executor}"
    if options and hardware.executor_options is None:
        raise InputError(
            f"the executor {hardware.executor} has no options", "choose another with --executor"
        )
    for option in options:
        key, equals, text = option.partition("=")
        if not equals:
            raise InputError(
                f"--executor-option is {option!r}", "write it like --executor-option partition=gpu"
            )
        before = hardware.executor_options
        known = keys_of(type(before))
        check_keys({key: text}, set(known), where)
        value: str | float = text
        for kind in (int, float):
            if kind in known[key].kinds:
                with suppress(ValueError):
                    value = kind(text)
        changed = replace(before, **{key: read_value(known[key], value, where)})
        own = {**hardware.options_by_executor, hardware.executor: changed}
        hardware = replace(hardware, options_by_executor=own)
    return replace(spec, hardware=hardware)
