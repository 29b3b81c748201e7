"""`llmscale.best_mixtures`: the shares of sources at which the mean of their losses is lowest."""

from collections.abc import Mapping
from typing import Any, Unpack

from llmscale.errors import InputError
from llmscale.explain.api.read import read_runs
from llmscale.explain.api.settings import (
    Given,
    MixtureSpec,
    asked_spec,
    options_given,
    reading_given,
)
from llmscale.explain.estimation.options import Options
from llmscale.explain.fit import mixtures
from llmscale.explain.fit.mixtures import BestMixture
from llmscale.settings import shows_keywords


@shows_keywords(MixtureSpec)
def best_mixtures(
    source: Any = None,
    *,
    targets: Mapping[str, float] | str | None = None,
    **settings: Unpack[Given],
) -> tuple[BestMixture, ...]:
    """The best mixture at each size and budget of a table with columns share_NAME and loss_NAME, as
    a sweep with [data.mixture] writes it, by the law of mixtures (Ye et al. 2024).

    `source` is a table as `fit` takes it; `targets` say what the loss on each source counts,
    "code=2,prose=1", all alike by default. `settings` are those of docs/settings.md: how to read
    the table, and how to fit. Raises InputError."""
    spec = asked_spec(MixtureSpec, {"targets": targets, **settings})
    given = options_given(spec, settings)
    table = read_runs(source, **reading_given(settings))
    return mixtures.best_mixtures(table, _targets(spec.targets), Options(**given))


def _targets(given: Mapping[str, float] | str | None) -> Mapping[str, float] | None:
    """The weights of losses by source. Raises InputError."""
    if not isinstance(given, str):
        return given
    found: dict[str, float] = {}
    for part in filter(None, (word.strip() for word in given.split(","))):
        name, equals, weight = part.partition("=")
        try:
            if not equals or name.strip() in found:
                raise ValueError
            found[name.strip()] = float(weight)
        except ValueError:
            problem = f"--targets has {part!r}, which is no source with a weight of its own"
            raise InputError(problem, "write it like code=2,prose=1") from None
    return found
