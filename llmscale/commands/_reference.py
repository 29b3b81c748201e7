"""docs/settings.md: every setting, made from the declarations. `llmscale schema --settings` prints
it, and `make docs` writes it."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_origin

from llmscale.adaptive.settings import AutoSpec
from llmscale.explain.api.advise_settings import AdviseSpec
from llmscale.explain.api.compare_settings import CompareSpec
from llmscale.explain.api.explore_settings import ExploreSpec
from llmscale.explain.api.next_runs_settings import NextSpec
from llmscale.explain.api.plan_settings import BudgetSpec, PlanSpec
from llmscale.explain.api.settings import FitSpec, MixtureSpec, PlotSpec, PredictSpec, Reading
from llmscale.explain.estimation.options import Options
from llmscale.measure.sweep.hardware import Hardware
from llmscale.measure.sweep.spec import SweepSpec
from llmscale.measure.trained.finetuning.spec import FinetuneSpec
from llmscale.measure.trained.generation.spec import Sampling
from llmscale.measure.tune.spec import SearchSpec
from llmscale.quantity import TokenBudget
from llmscale.settings import Setting, keys_of, settings_of

_BEGINNING = """\
# Settings

<!-- Made by `make docs` from the declarations in the code: do not edit. -->

Every setting of `llmscale sweep` and `llmscale tune`, and below of
[`fit`, `plot` and `predict`](#options-of-fit-plot-and-predict) and of
[commands on trained models](#options-of-commands-on-trained-models). One name stands for it
everywhere: an option of the command line, a key of a TOML file, and a keyword in Python.

```sh
llmscale sweep --sizes 10k,30k --batch-tokens 4096
```

```toml
# llmscale sweep mine.toml
sizes = ["10k", "30k"]

[recipe]
batch_tokens = 4096
```

```python
llmscale.sweep(sizes="10k,30k", batch_tokens=4096)
```

Options take the place of what a file says. What is out of range, not on a menu, or misspelled is
refused before anything is done.
"""
_EXPLAINING = """\
## Options of `fit`, `plot` and `predict`

They are options and keywords, `llmscale fit runs.csv --bootstrap 200` and
`llmscale.fit("runs.csv", bootstrap=200)`, and no keys of a TOML file. In Python, None is as if it
was left out; and `intervals`, `holdout` and `diagnostics`, options of `fit`, are keywords of all
three.
"""
_SECTIONS: tuple[tuple[str, type], ...] = (
    ("Of all three: how a table is read", Reading),
    ("Of all three: how a law is fitted", Options),
    ("Of `fit` only", FitSpec),
    ("Of `mixture` only", MixtureSpec),
    ("Of `plot` only", PlotSpec),
    ("Of `predict` only", PredictSpec),
    ("Of `plan` and `advise`", BudgetSpec),
    ("Of `plan` only", PlanSpec),
    ("Of `advise` only", AdviseSpec),
    ("Of `explore` only", ExploreSpec),
    ("Of `compare`, which takes the first of these, too", CompareSpec),
    ("Of `next` only", NextSpec),
    ("Of `next --auto` only", AutoSpec),
)
_FINETUNING = """\
## Settings of `llmscale finetune`

A TOML file has them as below, and `[hardware]` as above: `llmscale finetune mine.toml`.
"""
_USING = """\
## Options of commands on trained models

They are options and keywords, and no keys of a TOML file: `llmscale generate RUN --top-p 0.9` and
`llmscale.generate("RUN", "Once", top_p=0.9)`.
"""
_OF_MODELS: tuple[tuple[str, type], ...] = (("Of `generate` and `chat`", Sampling),)
_WORDS: dict[Any, str] = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "true or false",
    type: "class",
    Path: "path",
    Mapping: "mapping",
    Sequence: "list",
    TokenBudget: "whole number or text",
    Any: "number or text, or several",
}


def reference() -> str:
    """The page, in Markdown."""
    search = "## Options of `llmscale tune` only\n\nHow it searches.\n"
    of_search = (_entry(one) for one in settings_of(SearchSpec))
    measuring = [*_tables(SweepSpec, ""), search, *of_search, _FINETUNING]
    measuring += _tables(FinetuneSpec, "", " of `finetune`")
    explaining = [_EXPLAINING, *_sections(_SECTIONS)]
    return "\n".join([_BEGINNING, *measuring, *explaining, _USING, *_sections(_OF_MODELS)])


def _sections(kinds: Sequence[tuple[str, type]]) -> Iterator[str]:
    """A section for each dataclass, without what it has of another one."""
    known = [kind for _, kind in kinds]
    for heading, kind in kinds:
        yield f"### {heading}\n"
        bases = [base for base in kind.__mro__[1:] if base in known]
        inherited = {one.name for base in bases for one in settings_of(base)}
        own = (one for one in settings_of(kind) if one.name not in inherited)
        yield from (_entry(one) for one in own if one.table is None)


def _tables(kind: type, name: str, of: str = "") -> Iterator[str]:
    """A section for the table `name` of a TOML file, and one for each table in it. `of` says whose
    file it is, if not a sweep's: what that has in common with a sweep's is left out."""
    heading = (f"`[{name}]`" if name else "Outside of any table") + of
    said = " ".join((kind.__doc__ or "").split()).replace(f" TOML table `[{name}]`.", "")
    yield f"## {heading}\n\n{said}\n"
    keys = keys_of(kind)
    yield from (_entry(one) for one in keys.values() if one.table is None)
    for key, one in keys.items():
        inner = f"{name}.{key}" if name else key
        if one.table is not None and not (of and one.table() is Hardware):
            yield from _tables(one.table(), inner, of)
        if one.each is not None:
            yield from _tables(one.each(), f"[{inner}]" if one.is_list else f"{inner}.NAME")


def _entry(one: Setting) -> str:
    """What is known of one setting."""
    facts = [_kind(one)]
    if one.choices is not None:
        facts = ["one of " + ", ".join(f"`{choice}`" for choice in one.choices())]
    if one.within is not None:
        facts.append(str(one.within))
    if one.group:
        facts.append(f"option `{one.flag}`")
    default = _default(one)
    if default:
        facts.append(f"default {default}")
    return f"- **`{one.name}`**: {'; '.join(facts)}. {one.help}\n"


def _kind(one: Setting) -> str:
    if one.read is not None:
        return "tables"
    if one.is_list:
        return "a list, or text with commas between"
    return " or ".join(_WORDS[get_origin(kind) or kind] for kind in one.kinds)


def _default(one: Setting) -> str:
    if one.usual:
        return one.usual
    if isinstance(one.default, bool):
        return f"`{str(one.default).lower()}`"
    if isinstance(one.default, float):
        return f"`{one.default:g}`"
    return f"`{one.default}`" if isinstance(one.default, str | int) and one.default != "" else ""
