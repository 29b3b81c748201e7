"""How much of the wanted texts models wrote: BLEU and chrF by sacrebleu, ROUGE by rouge-score, and
exact match."""

import json
import math
import statistics
from collections.abc import Iterable, Sequence
from typing import Any, Final

from llmscale.errors import counted
from llmscale.machine.needs import need
from llmscale.measure.trained.evaluation.scores import Metric

_EXTRA: Final = "'llmscale[models]'"
RESAMPLES: Final = 1000
_NORMAL_95: Final = statistics.NormalDist().inv_cdf(0.975)
_ROUGES: Final = ("rouge1", "rouge2", "rougeL")


def check_installed() -> None:
    """Raise InputError without the packages that compare texts."""
    need("sacrebleu", "--task with targets", _EXTRA)
    need("rouge_score", "--task with targets", _EXTRA)


def overlap(written: Sequence[str], wanted: Sequence[str]) -> tuple[Metric, ...]:
    """What the texts `written` have in common with those `wanted`, one for each.

    BLEU (Papineni et al. 2002) and chrF (Popovic 2015) are of the whole, of 100; their standard
    errors are by sacrebleu's bootstrap over examples. ROUGE (Lin 2004, F1) and exact match are
    means over examples, of 1."""
    from sacrebleu.metrics import BLEU, CHRF

    return (
        _of_corpus("bleu", BLEU(), written, wanted),
        _of_corpus("chrf", CHRF(), written, wanted),
        *_rouges(written, wanted),
        mean_of("exact_match", map(_are_equal, written, wanted)),
    )


def mean_of(name: str, values: Iterable[float], **known: Any) -> Metric:
    """The mean over examples, and its standard error; of one example there is none."""
    found = list(map(float, values))
    stderr = None
    if len(found) > 1:
        stderr = statistics.stdev(found) / math.sqrt(len(found))
    return Metric(name, statistics.fmean(found), stderr, counted(len(found), "example"), **known)


def _of_corpus(name: str, metric: Any, written: Sequence[str], wanted: Sequence[str]) -> Metric:
    score = metric.corpus_score(list(written), [list(wanted)], n_bootstrap=RESAMPLES)
    signature = str(metric.get_signature())
    stderr = None
    if len(written) > 1:
        shown = json.loads(score.format(width=12, signature=signature, is_json=True))
        # Half of the 95% interval; sacrebleu gives none if every resample scores 0.
        stderr = shown.get("confidence_var", 0.0) / _NORMAL_95
    return Metric(name, score.score, stderr, counted(len(written), "example"), signature)


def _rouges(written: Sequence[str], wanted: Sequence[str]) -> list[Metric]:
    from importlib.metadata import version

    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(list(_ROUGES))
    scored = [scorer.score(target, text) for text, target in zip(written, wanted, strict=True)]
    signature = f"rouge-score:{version('rouge-score')}|stem:no|f1"
    found = []
    for name in _ROUGES:
        values = (one[name].fmeasure for one in scored)
        found.append(mean_of(name, values, signature=signature))
    return found


def _are_equal(written: str, wanted: str) -> bool:
    return written.strip() == wanted.strip()
