"""`llmscale.optimal`: the best size and tokens of a budget."""

from typing import Any, Unpack

from llmscale.errors import InputError
from llmscale.explain.api.predict import predict
from llmscale.explain.api.read import LawName
from llmscale.explain.api.settings import Given, PredictSpec
from llmscale.explain.forecast.forecast import Forecast
from llmscale.settings import shows_keywords


@shows_keywords(PredictSpec)
def optimal(
    source: Any = None,
    flops: Any = None,
    *,
    law: LawName | None = None,
    refit: bool = False,
    **settings: Unpack[Given],
) -> Forecast:
    """N (`params`) and D (`tokens`) of the lowest loss at budgets of C = 6ND `flops`, one or
    several, with the forecast there: what `predict` gives for them.

    `source`, `law` and `settings` as `predict` takes them. Raises InputError if the law is not one
    in N and D."""
    found = predict(source, flops=flops, law=law, refit=refit, **settings)
    if not found.optima:
        assert found.fit is not None
        raise InputError(
            f"{found.fit.law.name} is no law in N and D, and has no optimum at a budget",
            "take one that is: law='chinchilla'",
        )
    return found
