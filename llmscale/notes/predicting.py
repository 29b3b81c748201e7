"""Notes on forecasts, on compute-optimal allocation and on figures."""

from llmscale.notes.kind import Kind, Weight

NEWS, DOUBT, WRONG = Weight.NEWS, Weight.DOUBT, Weight.WRONG

EXTRAPOLATES_FAR = Kind(
    "extrapolates-far",
    WRONG,
    when="a forecast lies more than {limit:g} times beyond the runs",
    means="Past 100 times even widened 90% intervals held 86% of the runs of public tables. Past "
    "1,000 times hardly any forecast was ever checked, and past 1,000,000 times none: a guess.",
    remedy="Measure a larger budget in between.",
    limit=100,
)
LOSS_NOT_POSITIVE = Kind(
    "loss-not-positive",
    WRONG,
    when="the law gives a loss of 0 or less",
    means="The law's formula does not hold there.",
    remedy="Use another law (llmscale laws), or forecast nearer to the runs.",
)
FORECAST_TOO_HIGH = Kind(
    "forecast-too-high",
    WRONG,
    when="a loss above {limit:g} is forecast by runs that are all below",
    means="It is above ln of the vocabulary, which guessing costs: no model is so bad.",
    remedy="Give sizes in ones or with a suffix: --params 7B --tokens 100B.",
    limit=13,
)
FORECAST_NOT_TESTED = Kind(
    "forecast-not-tested",
    DOUBT,
    when="there are too few budgets to forecast the higher ones from the lower",
    means="The width of the interval is the one that public tables needed, not this one's.",
    remedy="Measure more budgets.",
)
FORECAST_NOT_COVERED = Kind(
    "forecast-not-covered",
    WRONG,
    when="intervals fitted on lower budgets hold fewer of the runs at higher ones than they "
    "promise, by {limit:.0%} or more and by more than chance (binomial test, p < 0.01; a run "
    "counts once, by the share of its forecasts that held)",
    means="On this table the law's forecasts miss more often than they say.",
    remedy="Try another law (--law all; of a task's score --task-law), or fit only the higher "
    "budgets.",
    limit=0.1,
)
FORECAST_ONE_SIDED = Kind(
    "forecast-one-sided",
    WRONG,
    when="nearly all runs at the next budget lie on one side of their forecast (sign test, p < "
    "{limit:g})",
    means="The law errs to one side beyond the runs it was fitted to, and further out by more.",
    remedy="Compare forms (fit --law all), or fit only the largest budgets.",
    limit=1e-3,
    source="Dixon & Mood 1946",
)
OPTIMUM_DISPUTED = Kind(
    "optimum-disputed",
    DOUBT,
    when="the budgets of the table put N* outside of the law's own interval, by a factor of "
    "{limit:g} or more and by more than they leave open themselves",
    means="The valley of a budget is flat: a law may meet its losses and miss its lowest point. "
    "The interval of N* was widened to hold both.",
    remedy="Compare methods (fit --method all); measure sizes around both at a larger budget.",
    limit=1.25,  # allocations that differ by less cost next to nothing
)
REPETITION_PUBLISHED = Kind(
    "repetition-published",
    DOUBT,
    when="a plan repeats its text, and its law does not know what repeated text is worth",
    means="It is as it was published, R_D* = 15.39 and R_N* = 5.31, for web text and the training "
    "of its time; no interval holds how far it may be off here.",
    remedy="Fit runs that repeat their text: --law data-constrained.",
    source="Muennighoff et al. 2023",
)
LOSS_RISES_BY_TOKENS = Kind(
    "loss-rises-by-tokens",
    DOUBT,
    when="by the law of a plan a model of half the size gets worse with more tokens, or by that of "
    "advice the advised one does",
    means="The law is one of runs near the best of their budget, and does not hold so far from it: "
    "smaller models that are trained for longer, and what is best to serve, are not told.",
    remedy="Take another law (--law chinchilla), or measure small models on many tokens.",
)
OVER_TRAINED_BEYOND_RUNS = Kind(
    "over-trained-beyond-runs",
    DOUBT,
    when="the run that is best to serve, or that is advised, has more than {limit:g} times the "
    "tokens a parameter that any run of the table has; likely wrong past 100,000",
    means="Laws that were fitted at usual ratios promise too much of tokens far beyond them.",
    remedy="Measure a small model on so many tokens a parameter.",
    limit=1.5,
    source="Sardana et al. 2024",
)
TARGET_ABOVE_RUNS = Kind(
    "target-above-runs",
    DOUBT,
    when="the loss that is asked for is above that of every run of the table",
    means="The law is asked for smaller runs than were measured, or the loss is in another unit: "
    "laws are in nats per token, also of tables in bits or perplexity.",
    remedy="Ask for a loss in nats per token, below that of the runs.",
)
TARGET_NOT_SURE = Kind(
    "target-not-sure",
    DOUBT,
    when="the upper end of the forecasts does not reach the loss that is asked for at any compute",
    means="The best guess reaches it, and its interval does not: so low a loss may not be had.",
    remedy="Ask for a higher loss, or measure larger budgets.",
)
TEXT_REPEATED = Kind(
    "text-repeated",
    DOUBT,
    when="a run that is planned, advised or proposed goes over its text more than once: for your "
    "information up to {limit:g} times, likely wrong past 15",
    means="Up to 4 epochs are nearly worth new text; past about 15 more of them hardly help.",
    remedy="Get more text, or train a larger model for shorter.",
    limit=4,
    source="Muennighoff et al. 2023",
)
ROUNDING_NOT_COUNTED = Kind(
    "rounding-not-counted",
    DOUBT,
    when="advice is for weights of less than 2 bytes",
    means="The losses are those of weights as they were trained: rounded ones have higher ones.",
    remedy="Measure what rounding costs: llmscale quantize.",
)
SERVED_BEYOND_CONTEXT = Kind(
    "served-beyond-context",
    DOUBT,
    when="longer sequences are to be served than the model is trained on",
    means="What a model says past its training context is not told by its loss.",
    remedy="Train on as long sequences: --context.",
)
TASK_IN_PERCENT = Kind(
    "task-in-percent",
    WRONG,
    when="a task's score is above 1, and neither its name nor its cells say percent",
    means="It was taken as percent and divided by 100: forecasts are shares, from 0 to 1. If it is "
    "anything else than an accuracy or an error rate, they mean nothing.",
    remedy="Nothing if it is in percent, or name another column.",
)
TASK_BEFORE_HALFWAY = Kind(
    "task-before-halfway",
    DOUBT,
    when="no run is halfway from chance to the ceiling of its task",
    means="Where the score levels off is the formula's guess. Simulated, 90% intervals 20% below "
    "the lowest loss then held 70%.",
    remedy="Evaluate larger runs, or forecast nearer to the runs.",
)
TASK_NOT_A_SHARE = Kind(
    "task-not-a-share",
    WRONG,
    when="the law of a task's score gives one below 0 or above 1",
    means="The law's formula does not hold there.",
    remedy="Forecast nearer to the runs.",
)
PUBLISHED_LAW = Kind(
    "published-law",
    WRONG,
    when="the law is one that others published (--published), and not of one's own runs",
    means="Text, tokenizer, architecture and recipe differ: losses are not comparable, and the "
    "best size may be another.",
    remedy="Measure a small ladder of your own (llmscale sweep), and give its table.",
    source="Besiroglu et al. 2024, arXiv 2404.10102",
)
KEPT_OPTIONS = Kind(
    "kept-options",
    NEWS,
    when="a fit that was kept next to the table with other than the usual options is used",
    means="Forecasts and figures follow the options of that fit, unless others are given.",
    remedy="Nothing, or fit again with the usual ones: --refit.",
)

LONG_CONTEXT = Kind(
    "long-context",
    DOUBT,
    when="a token of the planned shape takes more than {limit:g} times 6N FLOPs",
    means="Laws are fitted to runs whose compute is about 6ND: here most of it is attention over "
    "the sequence, and the best size of such a budget is another.",
    remedy="Check --context, or train on shorter sequences first and lengthen them at the end.",
    limit=3,
)
KEPT_TABLE_CHANGED = Kind(
    "kept-table-changed",
    DOUBT,
    when="a fit is given by its file, and the table that it names gives other runs by now",
    means="The law is that of the table as it was.",
    remedy="Name the table instead of the fit: it is fitted again.",
)

# The end of a run that is under way.

CURVE_NOT_TESTED = Kind(
    "curve-not-tested",
    DOUBT,
    when="too few runs have ended to forecast each of them from the others, or they do not differ "
    "in what the run differs from them in: its size, or its tokens",
    means="How far such forecasts miss is not known: there is no interval.",
    remedy="Finish more runs of the ladder, of other sizes and other numbers of tokens.",
)
CURVE_UNLIKE = Kind(
    "curve-unlike",
    WRONG,
    when="the curve rises or hardly falls, ends in what is no number or in a leap, stands where no "
    "finished run stood at that share of its training or far from what its size and tokens tell, "
    "or is of a run more than {limit:g} times as large as any, or of more than twice or less than "
    "half of their learning rates",
    means="The forecast rests on finished runs that are not like this one, and no interval was "
    "tested for such a run: there is none.",
    remedy="Check that the curve is of this ladder, and its size and tokens; a run that diverges "
    "has no end to forecast.",
    limit=10,
)
CURVE_FAR_BEYOND = Kind(
    "curve-far-beyond",
    DOUBT,
    when="no finished run is as large as the run in both N and D, or none is of its size or has "
    "its tokens, and too few of them could be forecast in such a position",
    means="The forecast may miss by more than its interval says.",
    remedy="Finish more runs of the ladder.",
)
CURVE_OF_RELATIVE = Kind(
    "curve-of-relative",
    NEWS,
    when="the curve of a run under way has the losses of a finished run from its first tokens on",
    means="They are one run, or branches of one: the finished one would judge it by itself, and "
    "is left out.",
    remedy="If it is that run, its end is known: read it in the table.",
)
CURVE_TAKEN_FOR = Kind(
    "curve-taken-for",
    NEWS,
    when="the curve of a run under way is read from a file",
    means="The run is taken to be of the recipe, the text and the tokenizer of the finished "
    "runs, and the column that is named for its training loss.",
    remedy="Choose the runs of its recipe with --where.",
)
CURVE_OF_VALIDATION = Kind(
    "curve-of-validation",
    DOUBT,
    when="the file of a run under way has a validation loss and no training loss",
    means="Finished runs are compared by their training loss, which lies lower where text is "
    "repeated.",
    remedy="Give a log with the training loss.",
)

# Compute-optimal allocation.

FLOPS_NOT_6ND = Kind(
    "flops-not-6nd",
    NEWS,
    when="the table's FLOPs are {limit:.0%} or more away from 6ND",
    means="Optima use the table's own C = kND, taken to hold at every size.",
    remedy="Nothing, or look at what N counts.",
    limit=0.1,
)
NOT_A_POWER_LAW = Kind(
    "not-a-power-law",
    NEWS,
    when="the law's optimum is no power law of C",
    means="a is the mean slope from the largest budget to 100 times that.",
    remedy="Read the optimum at the budget that you mean.",
)
EXPONENT_IMPLAUSIBLE = Kind(
    "exponent-implausible",
    WRONG,
    when="a is not between 0 and 1",
    means="Parameters or tokens would shrink as compute grows: the optimum was not found.",
    remedy="Measure more sizes at each budget, or use another --method.",
)
REFITS_WITHOUT_OPTIMUM = Kind(
    "refits-without-optimum",
    NEWS,
    when="some refits have no optimum",
    means="They were left out, so the interval is a little too narrow.",
    remedy="Measure more sizes.",
)
BIAS_UNKNOWN = Kind(
    "bias-unknown",
    NEWS,
    when="no law could be fitted to these runs to test the method on",
    means="How far the method itself is off on this design is not known.",
    remedy="Fit a law in N and D, which shows why not.",
)


def _bias(method: str) -> Kind:
    return Kind(
        f"{method}-bias",
        NEWS,
        when=f"--method {method} is used, and a law fits these runs",
        means="The method has a bias on this choice of runs, without any noise. If a is off by "
        "more than 0.1, or N* at the largest budget by a factor of 2, the result is likely wrong.",
        remedy="Compare a less the bias; make the grid finer and more symmetric.",
        limit=0.1,  # published methods differ by less (Hoffmann et al. 2022, table 2)
        source="Czech et al. 2026, arXiv 2603.22339",
    )


ISOFLOP_BIAS = _bias("isoflop")
ENVELOPE_BIAS = _bias("envelope")
METHOD_NOT_POSSIBLE = Kind(
    "method-not-possible",
    NEWS,
    when="--method all meets a method that the runs do not suit",
    means="That method is not among the results.",
    remedy="See its reason.",
)
RUNS_WITHOUT_BUDGET = Kind(
    "runs-without-budget",
    NEWS,
    when="a run shares its budget with no other size",
    means="It has no part in any parabola.",
    remedy="Add sizes at that budget.",
)
BUDGETS_UNEVEN = Kind(
    "budgets-uneven",
    NEWS,
    when="FLOPs within a budget differ by more than {limit:.0%}",
    means="Losses were moved to the budget's middle along the slope of the lowest losses. From "
    "20% on that is a correction of the size of what is measured, and makes the optimum less "
    "certain.",
    remedy="Train at equal FLOPs: sweep --flops does.",
    limit=0.05,
)
OPTIMUM_UNCERTAIN = Kind(
    "optimum-uncertain",
    DOUBT,
    when="in {limit:.0%} of the refits of a budget the optimum leaves the sizes tried",
    means="The optimum at such a budget is hardly held by its runs.",
    remedy="Add sizes on both sides, or seeds.",
    limit=0.1,
)
ISOFLOP_WIDE = Kind(
    "isoflop-wide",
    DOUBT,
    when="a budget reaches sizes more than {limit:g} times away from its optimum",
    means="So far out the loss is not a parabola in ln N, and pulls the optimum.",
    remedy="Use sizes nearer to the optimum.",
    limit=8,
)
FEW_BUDGETS = Kind(
    "few-budgets",
    DOUBT,
    when="two budgets have an optimum",
    means="The power law goes through two optima exactly: nothing tests it.",
    remedy="Add a third budget.",
)
ENVELOPE_SIZES = Kind(
    "envelope-sizes",
    NEWS,
    when="--method envelope is used",
    means="The power law rests on the sizes that reach the envelope.",
    remedy="Nothing.",
)
ENVELOPE_ENDS = Kind(
    "envelope-ends",
    NEWS,
    when="an end of the envelope is left out of its power law",
    means="At its ends the envelope is bounded by the sizes that were trained.",
    remedy="Train sizes beyond those ends.",
)
ENVELOPE_OF_FINAL_LOSSES = Kind(
    "envelope-of-final-losses",
    NEWS,
    when="there are no training curves",
    means="The envelope is the lower convex hull of the runs' final losses.",
    remedy="Nothing, or give a results folder, whose curves are read.",
)

# Figures.

CROWDED_FIGURE = Kind(
    "crowded-figure",
    NEWS,
    when="a figure's parts have no room",
    means="Texts may lie over each other.",
    remedy="Draw fewer runs (--where) or fewer laws.",
)
MISSING_SIGNS = Kind(
    "missing-signs",
    NEWS,
    when="a name has signs that the font of figures lacks",
    means="Boxes stand in their place.",
    remedy="Rename what holds them.",
)
