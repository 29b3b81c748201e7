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
LADDERS_DIFFER = Kind(
    "ladders-differ",
    WRONG,
    when="along ladders recipes have tokens per parameter that differ {limit:g}-fold or more",
    means="A part of the multiplier is another split of the budget, not the recipe.",
    remedy="Train both with the same tokens per parameter, or on several tokens at each size, "
    "which tells each one's best split.",
    limit=1.3,
)
FLOPS_DIFFER = Kind(
    "flops-differ",
    DOUBT,
    when="FLOPs per parameter and token of recipes differ {limit:g}-fold or more",
    means="A recipe takes more compute for each token, or its FLOPs are counted in another way.",
    remedy="Count all alike: without a column of FLOPs C = 6 N D is taken.",
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
    when="the draws of a comparison have not settled (Gelman & Rubin's R above {limit:g})",
    means="The ends of the intervals move from one --seed to another.",
    remedy="Compare with two seeds; take out runs that fit no law.",
    limit=1.6,
)
