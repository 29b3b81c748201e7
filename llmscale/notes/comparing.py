"""Notes on comparisons of recipes."""

from llmscale.notes.kind import Kind, Weight

NEWS, DOUBT, WRONG = Weight.NEWS, Weight.DOUBT, Weight.WRONG

IN_BITS_PER_BYTE = Kind(
    "in-bits-per-byte",
    NEWS,
    when="recipes have other tokenizers, and both tables have bits_per_byte",
    means="Losses per token of two tokenizers do not compare; bits per byte of one text do.",
    remedy="Nothing.",
)
TEXTS_DIFFER = Kind(
    "texts-differ",
    DOUBT,
    when="recipes were trained on other texts, and nothing says that they were measured on one",
    means="The multiplier compares losses, which must be of one validation text.",
    remedy="Check that the column of the loss is of one validation text for all recipes.",
)
COMPARED_BY_6ND = Kind(
    "compared-by-6nd",
    DOUBT,
    when="some recipes have FLOPs of their own and others have none, and the two counts differ",
    means="C = 6ND is taken for all: two counts of FLOPs would pass for a difference of recipes.",
    remedy="Nothing, or give every table a column flops of one count.",
)
LADDERS_DIFFER = Kind(
    "ladders-differ",
    WRONG,
    when="along ladders recipes have tokens per parameter that differ {limit:g}-fold or more, or "
    "the runs of a grid that count next to a ladder 1.1-fold",
    means="A part of the multiplier is another split of the budget, not the recipe: little near "
    "the best split, and much far from it.",
    remedy="Train both with the same tokens per parameter, or on several tokens at each size, "
    "which tells each one's best split.",
    limit=1.3,
)
LOSSES_FAR_APART = Kind(
    "losses-far-apart",
    WRONG,
    when="a recipe takes or saves more than {limit:g} times the compute, or its losses are the "
    "baseline's times 1.4427 at all runs, as bits are of nats",
    means="The largest gains of one recipe that were published are of 2 to 3 times: the losses "
    "seem to be of another text, tokenizer or unit.",
    remedy="Measure both on one text in one unit; if they are, say so: --units loss=nats.",
    limit=10,
)
LOSSES_STEP = Kind(
    "losses-step",
    WRONG,
    when="along a ladder losses of a recipe rise with compute, or fall far more steeply than "
    "elsewhere, by a factor of {limit:g} or more beyond the slope of the others",
    means="Losses fall smoothly with compute: some seem to be of another unit, text or setting.",
    remedy="Give all losses in one unit (1 nat is 1.4427 bits), or leave such runs out: --where.",
    limit=1.2,
)
FLOPS_DIFFER = Kind(
    "flops-differ",
    DOUBT,
    when="at equal N and D FLOPs of recipes differ 1.05-fold or more, or between sweeps, which "
    "count what they do, {limit:g}-fold",
    means="A recipe takes more compute for each token, or its FLOPs are counted in another way.",
    remedy="If they are only counted otherwise, compare by C = 6ND: --columns flops=none.",
    limit=1.3,
)
RUNS_UNPAIRED = Kind(
    "runs-unpaired",
    NEWS,
    when="no run of one recipe has the size and tokens of a run of another",
    means="What runs of one size and seed have in common does not cancel: the interval is wider.",
    remedy="Train each recipe at the same sizes and tokens, with the same seeds.",
)
RECIPES_DIFFER_TOO = Kind(
    "recipes-differ-too",
    DOUBT,
    when="recipes differ in other settings than the one that they are told apart by",
    means="The multiplier is of all that differs together.",
    remedy="Change one setting at a time, or keep the runs that differ in one: --where.",
)
RATES_NOT_TUNED = Kind(
    "rates-not-tuned",
    DOUBT,
    when="recipes with other optimizers or architectures have the same learning rates at all sizes",
    means="A rate that is best for one is hardly best for the other, which may be better than it "
    "seems.",
    remedy="Tune each (llmscale tune), and take the best runs: --best-of params,tokens.",
)
RATES_AS_REPEATS = Kind(
    "rates-as-repeats",
    WRONG,
    when="runs of one recipe, size and tokens differ in learning rate",
    means="The worse rates count as noise and raise the recipe's law.",
    remedy="Take the best of each: --best-of params,tokens and the column of recipes.",
)
SETTINGS_AS_REPEATS = Kind(
    "settings-as-repeats",
    WRONG,
    when="runs of one recipe, size and tokens differ in a setting, such as the schedule",
    means="They are several recipes, whose differences count as noise.",
    remedy="Keep the runs of one: --where 'schedule == wsd'; or tell them apart: --by.",
)
RUNS_REPEATED = Kind(
    "runs-repeated",
    DOUBT,
    when="rows repeat a run of the same recipe, its loss to the last digit",
    means="They count once: as runs of their own they would say that there is no noise.",
    remedy="Take them out of the table, or give it a column with the seed if they are runs.",
)
RUNS_THE_SAME = Kind(
    "runs-the-same",
    DOUBT,
    when="a recipe has the runs of the baseline, loss for loss",
    means="It is the same table, or what was changed does not reach the training. Its multiplier "
    "is 1.",
    remedy="Name the recipe's own table; or nothing, if no change was expected.",
)
SPLIT_OUTSIDE_RUNS = Kind(
    "split-outside-runs",
    DOUBT,
    when="the best split of the largest compute that all recipes have is {limit:g} times or more "
    "outside the sizes or tokens of a recipe's runs",
    means="What that recipe reaches there is extrapolated, not measured: it may seem better or "
    "worse than any of its runs.",
    remedy="Measure it nearer to its best split, or compare what was run: --law power-floor.",
    limit=2.5,
)
RUN_OFF_LAW = Kind(
    "run-off-law",
    DOUBT,
    when="a run of a comparison is so far from what the others say that fewer than 1 table in 100 "
    "has such a one by chance",
    means="It counts less, as Student's t weighs it, and moves the multiplier little.",
    remedy="Look at its curve for a spike, and train it again or leave it out: --where.",
)
LARGEST_RUNS_MISSED = Kind(
    "largest-runs-missed",
    WRONG,
    when="the laws drawn miss a recipe's largest runs by 1% of the loss or more, and by {limit:g} "
    "standard errors of their mean or more",
    means="No law of this form fits all of its runs: the multiplier there and beyond is off.",
    remedy="Compare larger runs only: --where 'params > 1e8'; or find what is wrong with the runs "
    "that are off.",
    limit=2.0,
)
FLOOR_MISSES = Kind(
    "floor-misses",
    WRONG,
    when="recipes are compared with a floor that is given, and floors found from their runs fit "
    "these better (F test, p below {limit:g})",
    means="Exponents make up for the wrong floor: multipliers and their intervals are off.",
    remedy="Leave --floor out, or give the floor of this text, tokenizer and unit.",
    limit=0.01,
)
MULTIPLIER_FAR = Kind(
    "multiplier-far",
    WRONG,
    when="a multiplier is asked for more than {limit:g} times beyond the runs",
    means="How the exponents of recipes differ is known from few runs and from a prior.",
    remedy="Measure a larger budget in between.",
    limit=100,
)
COMPARISON_NOT_SETTLED = Kind(
    "comparison-not-settled",
    DOUBT,
    when="ensembles of draws of a comparison differ so that ends of intervals may move by more "
    "than a share of {limit:g} of the width",
    means="The ends of the intervals move so much from one --seed to another.",
    remedy="Compare with two seeds; take out runs that fit no law.",
    limit=0.1,
)
