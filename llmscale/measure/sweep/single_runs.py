"""Single runs next to the grid of a sweep, each with its own tokens and seeds: what `llmscale next`
proposes."""

from dataclasses import dataclass
from typing import Any

from llmscale.errors import InputError
from llmscale.quantity import TokenBudget, parse_budget
from llmscale.runs.shape import shape_for
from llmscale.settings import Range, check_settings, setting
from llmscale.settings.tables import from_table

_EXAMPLE = 'write it like runs = [{ size = "1M", tokens = "20x", seeds = 2 }]'


@dataclass(frozen=True)
class SingleRun:
    """A size at one number of tokens and one learning rate, with one or more seeds."""

    size: str = setting(help="A size, as those of `sizes`.")
    tokens: TokenBudget = setting(
        help="Training tokens, `100M` or `20x` a parameter.", table=None, parse=parse_budget
    )
    seeds: int = setting(
        1,
        help="Runs with different seeds; those that are there already count.",
        within=Range(1, 10_000),
    )

    lr_scale: float = setting(
        1.0,
        help="Factor on the recipe's learning rate, such as 0.5 and 2 to try it at a size.",
        within=Range(0, 1e6, above=True),
    )

    def __post_init__(self) -> None:
        check_settings(self)
        shape_for(self.size, vocab_size=1, context=1)

    def to_json(self) -> dict[str, Any]:
        """As a file has it."""
        plain = {"size": self.size, "tokens": self.tokens.stated, "seeds": self.seeds}
        return plain if self.lr_scale == 1.0 else {**plain, "lr_scale": self.lr_scale}


def read_single_runs(given: Any, where: str) -> tuple[SingleRun, ...]:
    """The runs that a file or a call lists. Raises InputError."""
    if not isinstance(given, list | tuple):
        raise InputError(f"runs in {where} is {given!r}", _EXAMPLE)
    runs = tuple(one if isinstance(one, SingleRun) else _read(one, where) for one in given)
    points = [(run.size, run.tokens, run.lr_scale) for run in runs]
    for point in points:
        if points.count(point) > 1:
            size, tokens, _ = point
            raise InputError(
                f"runs in {where} has {size} at {tokens} twice", "give it once, with its seeds"
            )
    return runs


def _read(table: Any, where: str) -> SingleRun:
    if not isinstance(table, dict):
        raise InputError(f"runs in {where} has {table!r}", _EXAMPLE)
    for name in ("size", "tokens"):
        if name not in table:
            raise InputError(f"a run of runs in {where} has no {name}", _EXAMPLE)
    tokens = table["tokens"]
    if isinstance(tokens, bool) or not isinstance(tokens, int | str):
        raise InputError(f"tokens of a run in {where} is {tokens!r}", _EXAMPLE)
    read = {**table, "size": str(table["size"]).strip(), "tokens": parse_budget(str(tokens))}
    return from_table(SingleRun, read, f"runs of {where}")
