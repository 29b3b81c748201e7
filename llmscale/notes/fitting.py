"""Notes on a fit: what its runs cannot tell, how they were made, and how far to believe it."""

from llmscale.notes.kind import Kind, Weight

NEWS, DOUBT, WRONG = Weight.NEWS, Weight.DOUBT, Weight.WRONG

# What the choice of runs keeps a law from knowing.

COLLINEAR_DESIGN = Kind(
    "collinear-design",
    DOUBT,
    when="ln N and ln D of the runs have a correlation of {limit:g} or more, or of -{limit:g}",
    means="Size and tokens move together, so their terms trade off against each other: the law "
    "holds near the runs' own ratio of tokens to parameters.",
    remedy="Train several token budgets at each size.",
    limit=0.95,  # variances are inflated tenfold, 1/(1 - r²)
    source="Belsley et al. 1980; arXiv 2605.08541",
)
FEW_SIZES = Kind(
    "few-sizes",
    DOUBT,
    when="there are fewer than {limit:g} sizes or budgets, or no more than the law has "
    "coefficients and one",
    means="The terms can pass through the runs exactly, whatever their form: nothing is left to "
    "check the form by.",
    remedy="Measure two more sizes at least, over 1.5 decades.",
    limit=4,
)
FLOOR_NOT_IDENTIFIED = Kind(
    "floor-not-identified",
    DOUBT,
    when="there are fewer than {limit:g} sizes, or budgets, to tell a floor from",
    means="The pure power law was fitted. If there is a floor, it predicts too low a loss far "
    "beyond the largest run.",
    remedy="Measure more sizes.",
    limit=4,
)
FLOOR_UNCERTAIN = Kind(
    "floor-uncertain",
    DOUBT,
    when="the interval of the floor is wider than {limit:.0%} of the floor",
    means="Predictions far beyond the runs hang on a floor that these runs hardly tell.",
    remedy="Add larger runs, look at the floor's profile (plot --kind profile), or compare with "
    "a law without a floor (fit --law all).",
    limit=0.5,
)
KNOWN_FLOOR = Kind(
    "known-floor",
    NEWS,
    when="the text is drawn from a language whose entropy is known (--data synthetic:...), and "
    "the law has a floor",
    means="The floor can be compared with the loss of the language itself on the same tokens. If "
    "the interval does not hold it, the note says likely wrong.",
    remedy="If it is missed, look at the residuals: other budgets, or a law of another form.",
)
OPTIMUM_NOT_BRACKETED = Kind(
    "optimum-not-bracketed",
    WRONG,
    when="the lowest loss is at the smallest or largest size tried, and the law's own best size "
    "beyond it, at {limit:.0%} of the budgets or more; with --method isoflop, the lowest loss at "
    "any",
    means="The best size lies beyond those tried, so the optimum at such a budget is a guess. The "
    "law and its losses may be right for all that.",
    remedy="Add sizes beyond that end at the same budget.",
    limit=0.1,  # at fewer, noise may have put the lowest loss at an end
)
COUNT_SENSITIVE = Kind(
    "count-sensitive",
    DOUBT,
    when="an exponent changes by more than {limit:.0%} with what N counts",
    means="With or without embeddings, N gives another law: such exponents compare only with "
    "those of the same count.",
    remedy="State the count with the exponents, and add sizes whose embeddings are small.",
    limit=0.10,  # above what seeds do to an exponent of a proper ladder
    source="Porian et al. 2024; Pearce & Song 2024",
)
EMBEDDING_SHARE = Kind(
    "embedding-share",
    DOUBT,
    when="embeddings and output layer hold more than {limit:.0%} of a model's parameters",
    means="The model is mostly vocabulary, so N means another thing at each size.",
    remedy="Use a smaller vocabulary or larger models, and compare the fit with --count "
    "params_non_embedding.",
    limit=0.30,
)
ONE_TOKEN_BUDGET = Kind(
    "one-token-budget",
    DOUBT,
    when="every run has the same number of tokens",
    means="This is L(N) at that D only: neither its exponent nor its floor carries over to other "
    "budgets.",
    remedy="Train each size on several budgets.",
)
TOKENS_PROPORTIONAL = Kind(
    "tokens-proportional",
    DOUBT,
    when="every run has the same number of tokens a parameter",
    means="The exponent mixes the effects of size and of tokens.",
    remedy="Train each size at two budgets or more.",
)
MIXED_TOKEN_BUDGETS = Kind(
    "mixed-token-budgets",
    WRONG,
    when="a law in N only is fitted to runs of several token budgets",
    means="The law takes what tokens do for noise.",
    remedy="Fit a law in N and D, or one budget at a time with --where.",
)
NARROW_RANGE = Kind(
    "narrow-range",
    DOUBT,
    when="the largest N, D or C is less than {limit:g} times the smallest",
    means="Over so short a range many exponents fit about as well.",
    remedy="Measure over a factor of 10 or, better, 30.",
    limit=10,
)
REPEATED_DATA = Kind(
    "repeated-data",
    DOUBT,
    when="a run reads its text more than {limit:g} time",
    means="Repeated tokens teach less than new ones, and most laws count them as new. Up to 4 "
    "passes the difference is small.",
    remedy="Use more text, fit --law data-constrained, or keep to runs of one pass with --where.",
    limit=1,
    source="Muennighoff et al. 2023",
)

# Where the best coefficients ended.

FLOOR_AT_ZERO = Kind(
    "floor-at-zero",
    DOUBT,
    when="the best floor is 0",
    means="These runs show no floor: they are too small, or too few, to feel it.",
    remedy="Add larger runs, or report the power law without a floor.",
)
TERM_AT_ZERO = Kind(
    "term-at-zero",
    DOUBT,
    when="the best value of a coefficient takes its term out of the law",
    means="The term does nothing, and its exponent is arbitrary.",
    remedy="Use a law without that term, or add runs that differ in its variable.",
)
EXPONENT_AT_BOUND = Kind(
    "exponent-at-bound",
    WRONG,
    when="an exponent ends on the lowest or the highest value that is searched",
    means="The loss does not fall with that variable, or only the smallest runs shape the term.",
    remedy="Look at the runs (plot), and use a simpler law or a wider range.",
)
FLAT_DIRECTION = Kind(
    "flat-direction",
    DOUBT,
    when="the loss hardly changes along a direction of the coefficients: the condition number of "
    "the fit is {limit:,.0f} or more; of `anchored` also if the runs hardly narrow what was known",
    means="The coefficients are not known one by one; only their joint effect near the runs is.",
    remedy="Use a law with fewer coefficients, or add runs.",
    limit=1e5,
)

# Intervals.

NO_INTERVAL = Kind(
    "no-interval",
    DOUBT,
    when="there are as many coefficients as points, or too few refits worked",
    means="Nothing is left to tell how far to believe the coefficients.",
    remedy="Measure more sizes or budgets.",
)
INTERVAL_NOT_TRUSTED = Kind(
    "interval-not-trusted",
    WRONG,
    when="the points leave {limit:g} degree of freedom, or none, to judge the misfit by",
    means="The noise is a guess, and the intervals with it.",
    remedy="Measure more sizes or budgets, or more seeds.",
    limit=1,
)
PARAMETRIC_BOOTSTRAP = Kind(
    "parametric-bootstrap",
    NEWS,
    when="there are too few points to resample",
    means="The intervals come from tables simulated from the law, with the noise that the runs "
    "show: they hold if the law does.",
    remedy="Nothing, or measure more runs.",
)
SCORE_BOOTSTRAP = Kind(
    "score-bootstrap",
    NEWS,
    when="the table has more than {limit:,.0f} rows",
    means="The intervals are those that refits of resampled runs would have, to first order.",
    remedy="Nothing.",
    limit=2**15,
)
DEPENDENT_RUNS = Kind(
    "dependent-runs",
    NEWS,
    when="a column names what runs came from, and several came from one",
    means="Branches of a trunk share its seed and data, so they are drawn together: the intervals "
    "rest on the trunks, not on the branches.",
    remedy="Nothing, or train more trunks.",
)
TRUNKS_IGNORED = Kind(
    "trunks-ignored",
    DOUBT,
    when="a column names what runs came from, in a circle or across sizes",
    means="It tells no trunks apart, and runs are taken to be independent: if branches share a "
    "trunk, the intervals are too narrow.",
    remedy="Fix the column; or rename it if it says something else.",
)
SIZE_EFFECT = Kind(
    "size-effect",
    NEWS,
    when="runs of one size are off the law together, by more than their scatter explains (F test, "
    "p < {limit:g})",
    means="Sizes differ in shape or tuning, or the law's form does not hold in N: the intervals "
    "count on it, and rest on the number of sizes.",
    remedy="Tune each size, measure more sizes, or compare forms (fit --law all).",
    limit=0.05,
    source="Searle et al. 1992",
)
EVALUATION_NOISE = Kind(
    "evaluation-noise",
    NEWS,
    when="the table has the standard error of the loss (`loss_se`, `loss_stderr`, ...)",
    means="The noise of runs is told apart: of evaluation, which more text for it lowers, and of "
    "seeds and data, which more seeds lower. Runs are weighed by both if their errors differ and "
    "are a tenth of the variance or more.",
    remedy="Evaluate on more text or train more seeds, whichever the note says. --columns "
    "loss_se=none leaves the errors out.",
    limit=0.1,
)
REFITS_NOT_SETTLED = Kind(
    "refits-not-settled",
    NEWS,
    when="a bootstrap refit did not settle",
    means="Such refits are used as they are. From 5% of them on the intervals are less certain "
    "than they seem, and from 20% on not to be trusted.",
    remedy="Raise --delta if the misfit is far above it; else nothing.",
)

# The held-out check.

HOLDOUT_SKIPPED = Kind(
    "holdout-skipped",
    DOUBT,
    when="too few runs are left without the largest",
    means="Nothing was predicted, so nothing says whether the law extrapolates.",
    remedy="Measure more sizes or budgets, or choose the held-out runs with --holdout.",
)
HOLDOUT_BY_SIMPLER_LAW = Kind(
    "holdout-by-simpler-law",
    NEWS,
    when="too few runs are left without the largest to fit the law itself",
    means="The check was made with the law without its floor.",
    remedy="Measure more sizes.",
)
HOLDOUT_ONE_SIDED = Kind(
    "holdout-one-sided",
    WRONG,
    when="nearly all held-out runs lie on one side of their forecast (sign test, p < {limit:g})",
    means="The law errs to one side beyond the runs it was fitted to, and further out by more.",
    remedy="Compare forms (fit --law all), or fit only the largest budgets.",
    limit=1e-3,  # held-out runs share the error of one fit
    source="Dixon & Mood 1946",
)

# How the runs were made.

MID_SCHEDULE = Kind(
    "mid-schedule",
    WRONG,
    when="runs are checkpoints of longer ones, stop before their schedule's end, or end above "
    "{limit:.0%} of their peak learning rate",
    means="Before its cooldown a run's loss is above what a run of that length reaches, so the "
    "exponent of D comes out wrong.",
    remedy="Fit only final losses: one run or cooldown branch a budget.",
    limit=0.5,
    source="Hoffmann et al. 2022",
)
NO_COLLAPSE = Kind(
    "no-collapse",
    DOUBT,
    when="loss curves of one token ratio differ by more than {limit:.0%} of the reducible loss",
    means="Equally tuned sizes share one curve; these do not.",
    remedy="Tune learning rate and batch at the size that stands out, or doubt the floor.",
    limit=0.05,  # tuned ladders agree within their noise, about 1%
    source="Qiu et al. 2025, arXiv 2507.02119",
)
LEARNING_RATE_AT_EDGE = Kind(
    "learning-rate-at-edge",
    DOUBT,
    when="the best learning rate of a point is the smallest or the largest tried there",
    means="A better one may lie beyond, so such losses are too high by an unknown amount.",
    remedy="Try learning rates beyond that end until a worse one is found on both sides.",
)
UNTUNED_RUNS = Kind(
    "untuned-runs",
    WRONG,
    when="a point has runs at several learning rates, and all of them are fitted",
    means="A law describes tuned runs; those that are not the best of their point raise it.",
    remedy="Keep the best run of each size and budget.",
)
ONE_LEARNING_RATE = Kind(
    "one-learning-rate",
    WRONG,
    when="one learning rate was used for sizes a factor of {limit:g} apart",
    means="The best rate falls with size, and the exponents take the mistuning for scaling.",
    remedy="Use a rule in N, as a sweep without --lr does, or tune each size.",
    limit=10,
    source="Porian et al. 2024",
)
FEW_STEPS = Kind(
    "few-steps",
    DOUBT,
    when="a run has fewer than {limit:g} optimiser steps",
    means="Such a run is mostly warm-up and cooldown.",
    remedy="Use smaller batches or more tokens.",
    limit=300,
)
DIVERGED_RUNS = Kind(
    "diverged-runs",
    DOUBT,
    when="runs diverged, and were left out",
    means="The law describes the runs that survived.",
    remedy="Train them again at half the learning rate.",
)
UNFINISHED_RUNS = Kind(
    "unfinished-runs",
    NEWS,
    when="runs were left out because they are not done",
    means="The law does not know them.",
    remedy="Finish them: the sweep's own command goes on.",
)
DUPLICATE_RUNS = Kind(
    "duplicate-runs",
    WRONG,
    when="a row repeats another in every column",
    means="Such rows weigh double, and make intervals too narrow: a few in a hundred hardly do, "
    "and from 5% of the rows on the result is likely wrong.",
    remedy="Take them out of the table.",
)


def _mixed(what: str, why: str) -> Kind:
    return Kind(
        f"mixed-{what.replace(' ', '-')}",
        WRONG,
        when=f"the runs have several {what}",
        means=why,
        remedy="Fit one law each with --by, or only one of them with --where.",
    )


MIXED_TOKENIZERS = _mixed("tokenizers", "Losses per token of two tokenizers do not compare.")
MIXED_DATA = _mixed("data", "Each text has a floor and scale of its own.")
MIXED_SCHEDULES = _mixed("schedules", "Learning-rate schedules end at different losses.")
MIXED_OPTIMIZERS = _mixed("optimizers", "Each optimizer has a law of its own.")
MIXED_ARCHITECTURES = _mixed("architectures", "Each architecture has a law of its own.")
MIXED_EVALUATIONS = _mixed("evaluations", "Losses of two evaluations do not compare.")
MIXED_CONTEXTS = _mixed("contexts", "Longer contexts predict better.")
NO_TREND = Kind(
    "no-trend",
    WRONG,
    when="the law is no closer to the losses than their mean is (F test, p > {limit:g}), and they "
    "do not move with its inputs (rank correlation)",
    means="The losses scatter by more than they change with the law's inputs: coefficients and "
    "optima are made of noise.",
    remedy="Name the right column (--columns loss=NAME), or measure a wider range.",
    limit=0.01,
)
MIXED_SETTINGS = Kind(
    "mixed-settings",
    WRONG,
    when="runs of one size and budget differ in loss by a setting (F test, p < {limit:g})",
    means="A law that does not take the setting is one of no value of it, and of no new run.",
    remedy="Fit one law each with --by, only one of them with --where, or a law that takes it.",
    limit=0.001,
)
REPEATS_DIFFER = Kind(
    "repeats-differ",
    DOUBT,
    when="runs alike in size, budget and settings differ by more than {limit:.0%} in loss",
    means="Seeds hardly do: the runs differ in data, tokenizer or settings not in the table.",
    remedy="Add a column that tells them apart, and fit one law each: --by NAME.",
    limit=0.02,
)

# What the residuals say.

TWO_KINDS_OF_RUNS = Kind(
    "two-kinds-of-runs",
    WRONG,
    when="runs follow one surface at two heights, further apart than runs of one kind scatter "
    "(ln likelihood over one kind of {limit:g} or more)",
    means="The table mixes runs that differ in something it does not say: data, tokenizer, split "
    "of the loss, or whether the schedule was finished.",
    remedy="Add a column that says which is which, and fit one law each with --by.",
    limit=12,  # chance makes as much in one of 80 tables
)
GROUP_OFF_LAW = Kind(
    "group-off-law",
    DOUBT,
    when="the largest or smallest sizes or budgets, or those of one of them, lie off what the "
    "others say in a step that no other form of law makes (t test of each, p < {limit:g})",
    means="Such a step is made, not scaled: less care at some sizes, other data, repeated text, "
    "another count of N or D.",
    remedy="Look at these runs; fit without them, and see what of the forecast hangs on them.",
    limit=2e-5,  # some fifty groups are tried
)
RESIDUAL_TREND = Kind(
    "residual-trend",
    NEWS,
    when="residuals follow N, D or D/N as no coefficients can (F test, p < {limit:g})",
    means="The law's form does not hold exactly over these runs. Most public tables show a trend "
    "of up to 1% of the loss, and their intervals are wide enough for it; a larger one is a doubt.",
    remedy="Compare forms (fit --law all), or fit the range that matters.",
    limit=0.01,
)
OUTLIERS = Kind(
    "outliers",
    NEWS,
    when="a run is more than {limit:g} robust standard deviations, and 0.5%, off the law",
    means="Such runs follow another law: another setting, a mistake, or a spike at their end. If "
    "one is 10% off, or the fit without them forecasts a loss outside its interval, it is a doubt.",
    remedy="Look at each; leave out with --where only what has a reason.",
    limit=5,
)
MISFIT_EXCEEDS_NOISE = Kind(
    "misfit-exceeds-noise",
    WRONG,
    when="the law misses its points by far more than seeds differ (lack of fit, p < {limit:g})",
    means="The form, or the care taken at some sizes, is off: more seeds will not help.",
    remedy="Tune each size, or compare forms (fit --law all).",
    limit=1e-3,
)
SEED_NOISE = Kind(
    "seed-noise",
    DOUBT,
    when="seeds differ by more than {limit:.0%} of what neighbouring sizes do",
    means="The ladder is hardly above its noise.",
    remedy="Space the sizes wider, evaluate on more tokens, or add seeds.",
    limit=1 / 3,
)

# What was said of coefficients: --fix, --tie, --bound.

CONSTRAINT_REJECTED = Kind(
    "constraint-rejected",
    WRONG,
    when="a fit with fixed, tied or bounded coefficients is worse than the free one by more than "
    "noise would make it (p < {limit:g})",
    means="What was said of the coefficients does not hold for these runs, and the others make up "
    "for it.",
    remedy="Fit without that, or find out in what these runs differ from where it was measured.",
    limit=0.05,
)
CONSTRAINT_FITS = Kind(
    "constraint-fits",
    NEWS,
    when="a fit with fixed, tied or bounded coefficients is no worse than noise would make it",
    means="These runs do not speak against what was said; few runs hardly could.",
    remedy="Nothing.",
)
CONSTRAINT_NOT_TESTED = Kind(
    "constraint-not-tested",
    NEWS,
    when="the runs cannot tell the coefficients without what was said of them",
    means="The result is as good as what was said.",
    remedy="Measure more runs to test it.",
)
BOUND_ACTIVE = Kind(
    "bound-active",
    DOUBT,
    when="a coefficient ends on a bound that it was given",
    means="Its value is the bound, and the others follow.",
    remedy="Widen the bound, or find out why the runs pull beyond.",
)

# Several groups.

EXPONENTS_SHARED = Kind(
    "exponents-shared",
    NEWS,
    when="groups fitted with shared exponents are not worse than noise would be (p >= {limit:g})",
    means="The groups may share their exponents.",
    remedy="Use the joint fit.",
    limit=0.05,
)
EXPONENTS_DIFFER = Kind(
    "exponents-differ",
    NEWS,
    when="shared exponents fit the groups worse than noise would (p < 0.05)",
    means="The groups do not share their exponents.",
    remedy="Fit them apart.",
)
NO_JOINT_FIT = Kind(
    "no-joint-fit",
    NEWS,
    when="there is one group, or the groups need different laws",
    means="The groups were only fitted apart.",
    remedy="Nothing, or name a law that suits every group.",
)
