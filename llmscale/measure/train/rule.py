"""A rule for learning rate and batch that `llmscale tune` has measured: power laws in N and D."""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from llmscale.errors import InputError, Note
from llmscale.notes import CATALOGUE
from llmscale.notes.measuring import RULE_EXTRAPOLATES, RULE_OF_ANOTHER_RECIPE
from llmscale.quantity import format_count
from llmscale.settings.tables import check_keys, from_table

TRUSTED_FACTOR = RULE_EXTRAPOLATES.limit
"""How far outside the N and D it was tuned on a rule is used without a warning."""
_FIX = "name a results folder of llmscale tune, or the tune.json in it"


@dataclass(frozen=True)
class PowerRule:
    """coefficient · N^params_exponent · D^tokens_exponent."""

    coefficient: float
    params_exponent: float
    tokens_exponent: float

    def at(self, params: float, tokens: float) -> float:
        """The value for N = `params` and D = `tokens`."""
        return self.coefficient * params**self.params_exponent * tokens**self.tokens_exponent

    def __str__(self) -> str:
        powers = [(self.params_exponent, "N"), (self.tokens_exponent, "D")]
        factors = [f"{name}^{power:.3f}" for power, name in powers if power]
        return " ".join([f"{self.coefficient:.4g}", *factors])


@dataclass(frozen=True)
class Rule:
    """Peak learning rate and batch as power laws, and the N and D on which they were tuned."""

    lr: PowerRule
    batch_tokens: PowerRule | None
    """None if the batch was not tuned: it then follows the recipe."""
    params: tuple[float, float]
    tokens: tuple[float, float]
    recipe: dict[str, str]
    """What it was tuned with and for: optimizer, schedule and the like, by name."""
    sizes: tuple[str, ...] = ()
    """The sizes whose search had ended, by name."""
    warnings: tuple[Note, ...] = ()
    """What its tuning warned of."""

    def to_json(self) -> dict[str, Any]:
        """What decides the runs that follow it."""
        told = asdict(self)
        del told["sizes"], told["warnings"]
        return json.loads(json.dumps(told))

    def reach(self, points: Iterable[tuple[float, float]]) -> "dict[str, Reach]":
        """How far outside the N and D that were tuned it is used at `points` (N, D)."""
        params, tokens = zip(*points, strict=True)
        return {"N": _reach(self.params, params), "D": _reach(self.tokens, tokens)}

    def notes(self, points: Iterable[tuple[float, float]], recipe: object) -> list[Note]:
        """Warnings on using the rule at the `points` (N, D) with a `recipe`, an object that has
        what `recipe` names; those of its tuning, too."""
        notes = [note.of(["the rule in use"]) for note in self.warnings]
        for name, reach in self.reach(points).items():
            if reach.factor > TRUSTED_FACTOR:
                message = (
                    f"the rule was tuned at {name} = {reach.tuned} and is used at {name} = "
                    f"{format_count(reach.value)}, a factor of {reach.factor:.0f} outside: "
                    "tune a size and budget nearer to it (llmscale tune)"
                )
                notes.append(RULE_EXTRAPOLATES.note(message))
        for name, value in self.recipe.items():
            used = getattr(recipe, name, None)
            if used != value:
                other = f"the rule was tuned with {name} {value} and is used with {used}"
                notes.append(RULE_OF_ANOTHER_RECIPE.note(f"{other}, which has another optimum"))
        return notes


@dataclass(frozen=True)
class Reach:
    """How far outside what was tuned the farthest value is."""

    tuned: str
    """From the smallest to the largest, in words."""
    factor: float
    """At most 1 is inside."""
    value: float


def _reach(tuned: tuple[float, float], asked: Sequence[float]) -> Reach:
    low, high = tuned
    factor, value = max((max(asked) / high, max(asked)), (low / min(asked), min(asked)))
    ends = dict.fromkeys(map(format_count, tuned))
    return Reach(" to ".join(ends), factor, value)


def read_rule(path: Path) -> Rule:
    """The rule in a tune.json, or in the results folder that holds one. Raises InputError."""
    from llmscale.runs.safe_paths import refuse_unusable

    file = path / "tune.json" if refuse_unusable(path, _FIX).is_dir() else path
    try:
        payload = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"the rule {file} cannot be read: {reason}", _FIX) from error
    if not isinstance(payload, dict) or "rule" not in payload:
        raise InputError(f"{file} holds no rule", _FIX)
    table = payload["rule"]
    if table is None:
        problem = f"no size of {file} is tuned yet, so it holds no rule"
        raise InputError(problem, "run its tune again")
    where = f"the rule in {file}"
    if not isinstance(table, dict):
        raise InputError(f"{where} is {table!r}", _FIX)
    keys = {"lr", "batch_tokens", "params", "tokens", "recipe"}
    check_keys(table, keys, where)
    missing = sorted(keys - set(table))
    if missing:
        raise InputError(f"{where} has no {missing[0]!r}", _FIX)
    batch = table["batch_tokens"]
    return Rule(
        lr=_power(table["lr"], f"lr of {where}"),
        batch_tokens=None if batch is None else _power(batch, f"batch_tokens of {where}"),
        params=_range(table["params"], f"params of {where}"),
        tokens=_range(table["tokens"], f"tokens of {where}"),
        recipe=_names(table["recipe"], f"recipe of {where}"),
        sizes=_tuned_sizes(payload.get("rungs")),
        warnings=_warnings(payload.get("warnings")),
    )


def _tuned_sizes(rungs: Any) -> tuple[str, ...]:
    """The sizes whose search has ended, as far as the file says."""
    ended = [rung for rung in _tables(rungs) if rung.get("finished")]
    return tuple(dict.fromkeys(str(rung.get("size")) for rung in ended))


def _warnings(warnings: Any) -> tuple[Note, ...]:
    """The warnings of a file, as far as they are of our catalogue."""
    known = [one for one in _tables(warnings) if one.get("code") in list(CATALOGUE)]
    return tuple(Note(one["code"], str(one.get("message", ""))) for one in known)


def _tables(items: Any) -> list[dict[str, Any]]:
    """The tables among the items of a list; none of anything else."""
    return [one for one in items if isinstance(one, dict)] if isinstance(items, list) else []


def _power(table: Any, where: str) -> PowerRule:
    keys = PowerRule.__dataclass_fields__
    if not isinstance(table, dict) or set(keys) - set(table):
        raise InputError(f"{where} is {table!r}", f"it is a table of {', '.join(keys)}")
    power = from_table(PowerRule, table, where)
    if not (power.coefficient > 0 and all(map(math.isfinite, asdict(power).values()))):
        fix = "the coefficient is above zero, and all three are finite"
        raise InputError(f"{where} is {table}", fix)
    return power


def _range(value: Any, where: str) -> tuple[float, float]:
    numbers = value if isinstance(value, list) and len(value) == 2 else []
    valid = all(type(number) in (int, float) for number in numbers)
    if not (numbers and valid and 0 < numbers[0] <= numbers[1] < math.inf):
        fix = "it is the smallest and the largest that was tuned, both above zero"
        raise InputError(f"{where} is {value!r}", fix)
    return (float(numbers[0]), float(numbers[1]))


def _names(value: Any, where: str) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(name, str) for name in value.values()):
        raise InputError(f"{where} is {value!r}", "it is a table of names")
    return value
