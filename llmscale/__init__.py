"""Scaling laws of language models: measured on real text, fitted with error bars.

>>> import llmscale
>>> runs = {"N": [1e6, 2e6, 4e6, 8e6, 16e6], "D": [1e9] * 5, "loss": [4.3, 3.8, 3.5, 3.2, 3.0]}
>>> fit = llmscale.fit(runs, bootstrap=0)
>>> fit.law.name
'power-floor'
>>> llmscale.predict(fit, params="100M").loss < 2.8
True
"""

import importlib
from typing import TYPE_CHECKING, Any

from llmscale.version import __version__

if TYPE_CHECKING:
    from llmscale.adaptive.api import adaptive_sweep
    from llmscale.adaptive.result import AdaptiveSweep
    from llmscale.errors import InputError, LlmscaleError, Note, WorkError
    from llmscale.explain.allocation import Allocation, MethodComparison
    from llmscale.explain.api.advise import advise
    from llmscale.explain.api.compare import compare
    from llmscale.explain.api.explore import explore
    from llmscale.explain.api.fit import fit
    from llmscale.explain.api.mixture import best_mixtures
    from llmscale.explain.api.next_runs import next_runs
    from llmscale.explain.api.optimal import optimal
    from llmscale.explain.api.plan import plan
    from llmscale.explain.api.plot import plot
    from llmscale.explain.api.predict import predict
    from llmscale.explain.api.read import read_runs
    from llmscale.explain.design.proposal import NextRuns
    from llmscale.explain.estimation.result import Fit
    from llmscale.explain.figures import Drawing
    from llmscale.explain.fit.comparison import Comparison
    from llmscale.explain.fit.fits import Fits
    from llmscale.explain.fit.groups import Groups
    from llmscale.explain.fit.mixtures import BestMixture
    from llmscale.explain.fit.published import published_fit
    from llmscale.explain.fit.two_steps import TaskForecast
    from llmscale.explain.forecast.forecast import Forecast
    from llmscale.explain.inside import plot_inspection
    from llmscale.explain.laws import Law
    from llmscale.explain.page.document import Page
    from llmscale.explain.planning.advice import Advice
    from llmscale.explain.planning.training_plan import TrainingPlan
    from llmscale.explain.recipes.comparison import RecipeComparison
    from llmscale.explain.table import RunTable
    from llmscale.measure.sweep.api import sweep
    from llmscale.measure.sweep.result import SweepResult
    from llmscale.measure.sweep.status import SweepStatus, status
    from llmscale.measure.trained.evaluation.api import evaluate
    from llmscale.measure.trained.evaluation.scores import Evaluation
    from llmscale.measure.trained.exchange.export import Exported, export
    from llmscale.measure.trained.exchange.importing import ImportedRun, import_model
    from llmscale.measure.trained.finetuning.api import finetune
    from llmscale.measure.trained.generation.api import Generation, generate
    from llmscale.measure.trained.inspection.ladder import inspect_ladder
    from llmscale.measure.trained.inspection.text import inspect
    from llmscale.measure.trained.listing import Models, models
    from llmscale.measure.trained.model import TrainedModel, open_model
    from llmscale.measure.trained.quantization.api import Quantized, quantize
    from llmscale.measure.tune.api import TuneResult, tune
    from llmscale.runs.inspection import InspectedLadder, Inspection

_PLACES = {
    "AdaptiveSweep": "adaptive.result",
    "Advice": "explain.planning.advice",
    "Allocation": "explain.allocation",
    "BestMixture": "explain.fit.mixtures",
    "Comparison": "explain.fit.comparison",
    "Drawing": "explain.figures",
    "Exported": "measure.trained.exchange.export",
    "Evaluation": "measure.trained.evaluation.scores",
    "Fit": "explain.estimation.result",
    "Fits": "explain.fit.fits",
    "Forecast": "explain.forecast.forecast",
    "Generation": "measure.trained.generation.api",
    "Groups": "explain.fit.groups",
    "ImportedRun": "measure.trained.exchange.importing",
    "InputError": "errors",
    "InspectedLadder": "runs.inspection",
    "Inspection": "runs.inspection",
    "Law": "explain.laws",
    "LlmscaleError": "errors",
    "MethodComparison": "explain.allocation",
    "Models": "measure.trained.listing",
    "NextRuns": "explain.design.proposal",
    "Note": "errors",
    "Page": "explain.page.document",
    "Quantized": "measure.trained.quantization.api",
    "RecipeComparison": "explain.recipes.comparison",
    "RunTable": "explain.table",
    "SweepResult": "measure.sweep.result",
    "SweepStatus": "measure.sweep.status",
    "TaskForecast": "explain.fit.two_steps",
    "TrainedModel": "measure.trained.model",
    "TrainingPlan": "explain.planning.training_plan",
    "TuneResult": "measure.tune.api",
    "WorkError": "errors",
    "adaptive_sweep": "adaptive.api",
    "advise": "explain.api.advise",
    "export": "measure.trained.exchange.export",
    "best_mixtures": "explain.api.mixture",
    "compare": "explain.api.compare",
    "evaluate": "measure.trained.evaluation.api",
    "explore": "explain.api.explore",
    "finetune": "measure.trained.finetuning.api",
    "fit": "explain.api.fit",
    "import_model": "measure.trained.exchange.importing",
    "generate": "measure.trained.generation.api",
    "inspect": "measure.trained.inspection.text",
    "inspect_ladder": "measure.trained.inspection.ladder",
    "models": "measure.trained.listing",
    "next_runs": "explain.api.next_runs",
    "open_model": "measure.trained.model",
    "optimal": "explain.api.optimal",
    "plan": "explain.api.plan",
    "plot": "explain.api.plot",
    "plot_inspection": "explain.inside",
    "predict": "explain.api.predict",
    "published_fit": "explain.fit.published",
    "quantize": "measure.trained.quantization.api",
    "read_runs": "explain.api.read",
    "status": "measure.sweep.status",
    "sweep": "measure.sweep.api",
    "tune": "measure.tune.api",
}
"""Where each name is, below this package: it is imported when it is first asked for."""

__all__ = [
    "AdaptiveSweep",
    "Advice",
    "Allocation",
    "BestMixture",
    "Comparison",
    "Drawing",
    "Evaluation",
    "Exported",
    "Fit",
    "Fits",
    "Forecast",
    "Generation",
    "Groups",
    "ImportedRun",
    "InputError",
    "InspectedLadder",
    "Inspection",
    "Law",
    "LlmscaleError",
    "MethodComparison",
    "Models",
    "NextRuns",
    "Note",
    "Page",
    "Quantized",
    "RecipeComparison",
    "RunTable",
    "SweepResult",
    "SweepStatus",
    "TaskForecast",
    "TrainedModel",
    "TrainingPlan",
    "TuneResult",
    "WorkError",
    "__version__",
    "adaptive_sweep",
    "advise",
    "best_mixtures",
    "compare",
    "evaluate",
    "explore",
    "export",
    "finetune",
    "fit",
    "generate",
    "import_model",
    "inspect",
    "inspect_ladder",
    "models",
    "next_runs",
    "open_model",
    "optimal",
    "plan",
    "plot",
    "plot_inspection",
    "predict",
    "published_fit",
    "quantize",
    "read_runs",
    "status",
    "sweep",
    "tune",
]


def __getattr__(name: str) -> Any:
    """What the library offers, imported when it is first asked for."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from llmscale.machine.interrupts import interrupts_held

    with interrupts_held():
        value = getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
