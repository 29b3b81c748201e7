"""What a sweep is asked to do, from the command line or a TOML file."""

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from llmscale.errors import InputError
from llmscale.quantity import TokenBudget, parse_budget, parse_list
from llmscale.recipe import Recipe
from llmscale.settings import check_keys, from_table, read_toml
from llmscale.shape import shape_for
from llmscale.tokens import TextSpec


@dataclass(frozen=True)
class Hardware:
    """Where to train: `auto` takes the best that is here. Of all this only `dtype` changes a run's outcome."""

    device: str = "auto"
    dtype: str = "auto"
    workers: int | None = None
    """Runs at a time; left out: one a core on the CPU as memory allows, one a GPU."""
    compile: str = "auto"
    """`auto` compiles what has no kernels of its own here and is long enough to repay it; `always`; `never`."""
    stack: str = "auto"
    """Whether seeds of one size are trained as one batched model: `auto` does so with small models on a GPU; `always`;
    `never`."""
    deterministic: bool = False
    """On a GPU, only kernels that give the same bits every time. On the CPU all do."""

    def __post_init__(self) -> None:
        for name in ("compile", "stack"):
            if getattr(self, name) not in ("auto", "always", "never"):
                raise InputError(f"{name} is {getattr(self, name)!r}", "choose auto, always or never")
        if self.workers is not None and self.workers < 1:
            raise InputError(f"workers is {self.workers}", "it is at least 1")


@dataclass(frozen=True)
class SweepSpec:
    """Sizes x token budgets x seeds, on one text by one recipe. No budget means one epoch of the text."""

    sizes: tuple[str, ...]
    tokens: tuple[TokenBudget, ...] = ()
    seeds: int = 1
    data: TextSpec = field(default_factory=TextSpec)
    recipe: Recipe = field(default_factory=Recipe)
    hardware: Hardware = field(default_factory=Hardware)

    def __post_init__(self) -> None:
        if self.seeds < 1:
            raise InputError(f"seeds is {self.seeds}", "train each size with at least 1 seed")
        for size in self.sizes:
            shape_for(size, vocab_size=1, context=self.recipe.context, arch=self.recipe.arch)

    def to_json(self) -> dict[str, Any]:
        payload = asdict(self)
        payload["sizes"] = list(self.sizes)
        payload["tokens"] = [str(budget) for budget in self.tokens]
        return payload

    def basis(self) -> dict[str, Any]:
        """What all runs of one results folder share: the text and the recipe, with what its rule says now."""
        payload = self.to_json()
        rule = self.recipe.tuned_rule
        recipe = {**payload["recipe"], "rule": rule.to_json() if rule else None}
        return {"data": payload["data"], "recipe": recipe, "dtype": payload["hardware"]["dtype"]}


def parse_sizes(text: str) -> tuple[str, ...]:
    """The sizes in `text`, each once: `1M,10M` or `6x384x6`. Raises InputError."""

    def checked(item: str) -> str:
        shape_for(item, vocab_size=1, context=1)
        return item.strip()

    return parse_list(text, checked, "sizes")


def parse_budgets(text: str) -> tuple[TokenBudget, ...]:
    """The token budgets in `text`, each once: `10M,30M` or `5x,20x`. Raises InputError."""
    return parse_list(text, parse_budget, "token budgets")


def read_spec(path: Path) -> SweepSpec:
    """The sweep that a TOML file describes. Raises InputError."""
    table = read_toml(path)
    check_keys(table, {"sizes", "tokens", "seeds", "data", "recipe", "hardware"}, str(path))
    if "sizes" not in table:
        raise InputError(f"{path} names no sizes", 'add a line like sizes = ["10k", "30k", "100k", "300k"]')
    seeds = table.get("seeds", 1)
    if not isinstance(seeds, int) or isinstance(seeds, bool):
        raise InputError(f"seeds in {path} is {seeds!r}", "it is a whole number")
    return SweepSpec(
        sizes=parse_sizes(_joined(table["sizes"], "sizes", path)),
        tokens=parse_budgets(_joined(table["tokens"], "tokens", path)) if "tokens" in table else (),
        seeds=seeds,
        data=from_table(TextSpec, table.get("data", {}), f"[data] of {path}"),
        recipe=from_table(Recipe, table.get("recipe", {}), f"[recipe] of {path}"),
        hardware=from_table(Hardware, table.get("hardware", {}), f"[hardware] of {path}"),
    )


def override(spec: SweepSpec, **changes: Any) -> SweepSpec:
    """`spec` with the given fields of it or of its tables replaced; None leaves a field as it is."""
    given = {name: value for name, value in changes.items() if value is not None}
    for table in ("data", "recipe", "hardware"):
        settings = getattr(spec, table)
        mine = {name: given.pop(name) for name in list(given) if name in settings.__dataclass_fields__}
        if mine:
            spec = replace(spec, **{table: replace(settings, **mine)})
    return replace(spec, **given)


def _joined(value: Any, key: str, path: Path) -> str:
    items = value if isinstance(value, list) else [value]
    if not all(isinstance(item, str | int) and not isinstance(item, bool) for item in items):
        raise InputError(f"{key} in {path} is {value!r}", f'write it like {key} = ["1M", "10M"]')
    return ",".join(str(item) for item in items)
