"""Notes on reading a table: what was taken for what, and what in it is doubtful."""

from llmscale.notes.kind import Kind, Weight

NEWS, DOUBT, WRONG = Weight.NEWS, Weight.DOUBT, Weight.WRONG

# Amounts that hardly go together.

UNITS_DOUBTFUL = Kind(
    "units-doubtful",
    WRONG,
    when="sizes, tokens and FLOPs as --units gives them make no language model",
    means="A unit is wrong, or a column. Without --units such a table is refused.",
    remedy="Check the units and columns that the note names.",
)
FLOPS_SCATTERED = Kind(
    "flops-scattered",
    WRONG,
    when="C/(6ND) differs by more than {limit:g} times between rows of like sizes (from 10 times "
    "on the result is likely wrong)",
    means="One of the columns for N, D and C is another quantity, or tokens were computed with a "
    "wrong batch; or N counts all experts and C only the active ones.",
    remedy="Say which columns are meant: --columns params=...,tokens=...,flops=...; flops=none "
    "takes C = 6ND.",
    limit=3,
)
FLOPS_DRIFT = Kind(
    "flops-drift",
    DOUBT,
    when="C/(6ND) changes by {limit:g} times or more from the smallest size to the largest",
    means="Attention and the output layer raise it at small sizes, by how much follows from the "
    "shape; else FLOPs are wrong at one end. A budget means other runs at each size.",
    remedy="Check how FLOPs were counted; --columns flops=none takes C = 6ND.",
    limit=1.6,
)
FLOPS_FORWARD = Kind(
    "flops-forward",
    DOUBT,
    when="C is about a third of 6ND in every row",
    means="Only the forward pass (2ND) seems to be counted.",
    remedy="--units flops=3 counts both passes.",
)
FLOPS_OFF = Kind(
    "flops-off",
    DOUBT,
    when="C is far from 6ND in the middle of the rows, or at every size by one factor that is no "
    "count of operations",
    means="Another count of parameters, only the active experts, or a unit? Predictions at a "
    "budget take C = 6ND.",
    remedy="Name the column of N that multiplies every token, with --columns, or the unit of C "
    "with --units.",
)
FLOPS_ROWS_OFF = Kind(
    "flops-rows-off",
    DOUBT,
    when="C/(6ND) is the same in most rows, and {limit:g} times off in others; or rows are of two "
    "counts",
    means="In those rows FLOPs or parameters were counted otherwise, or tokens computed with a "
    "wrong batch.",
    remedy="Fix these rows, or leave them out with --where.",
    limit=1.6,
)
EMBEDDINGS_COUNTED = Kind(
    "embeddings-counted",
    DOUBT,
    when="C/(6ND) rises with size by {limit:g} times or more, to about 1",
    means="N counts embeddings, which take part in no multiplication and are most of a small "
    "model: its exponent is too high, and no other table's.",
    remedy="Name the column of parameters without embeddings: --columns params=NAME.",
    limit=1.2,
    source="Porian et al. 2024; Pearce & Song 2024",
)
TOKENS_BELOW_PARAMS = Kind(
    "tokens-below-params",
    DOUBT,
    when="most runs have fewer tokens than parameters",
    means="The columns for N and D may be swapped.",
    remedy="Say which is which: --columns params=...,tokens=...",
)
TOKENS_A_PARAMETER = Kind(
    "tokens-a-parameter",
    DOUBT,
    when="tokens a parameter are hardly possible in some rows, or above {limit:,.0f} in the middle",
    means="N and D may be in different units.",
    remedy="Say the units: --units params=K or the like.",
    limit=1e4,
)
ROWS_IN_OTHER_UNITS = Kind(
    "rows-in-other-units",
    WRONG,
    when="N or D of some rows, taken in thousands, millions or billions, bring the misfit of all "
    "losses down to {limit:.0%} of what it is",
    means="Some rows count in another unit than the rest, and a law bends to meet both.",
    remedy="Fix the rows that the note names, or leave them out with --where.",
    limit=0.4,
)
EXPERTS_COUNTED = Kind(
    "experts-counted",
    DOUBT,
    when="N counts all experts, and active parameters below {limit:.0%} of it are in the table",
    means="C = 6ND follows the active parameters of a mixture of experts.",
    remedy="Take the active ones: --columns params=NAME.",
    limit=0.8,
)

# Losses.

LOSS_TOO_HIGH = Kind(
    "loss-too-high",
    WRONG,
    when="a loss is above {limit:g} nats, ln of the largest vocabulary; or losses are more than "
    "twice what text costs models of these sizes and tokens",
    means="The run diverged, or its loss is in another unit.",
    remedy="Leave such rows out, or say the unit: --units loss=perplexity or bits.",
    limit=13,
)
LOSS_TOO_LOW = Kind(
    "loss-too-low",
    DOUBT,
    when="half of the runs below 1B parameters have a loss under {limit:g} nats a token, or half "
    "of what text costs models of these sizes and tokens",
    means="Text costs such models more, code and maths may not. Losses in bits per byte give "
    "floor, amplitudes and predictions in bits per byte; exponents are the same in every unit.",
    remedy="Say that it is so: --units loss=nats. Or name a column in nats per token.",
    limit=1.0,
)
ACCURACY_BELOW_ZERO = Kind(
    "accuracy-below-zero",
    WRONG,
    when="some of the accuracies that the loss is made of are below zero, which no share is",
    means="It is the column of another quantity, or a score whose chance level was subtracted. If "
    "half of them are below zero the table is refused.",
    remedy="Name the column of the accuracy, --columns loss=NAME, or leave such rows out: --where "
    "'loss <= 1'.",
)
LOSS_PER_BYTE = Kind(
    "loss-per-byte",
    NEWS,
    when="the column of losses is in bits per byte by its name",
    means="Floor, amplitudes and predictions are, too: they do not compare with nats per token.",
    remedy="Nothing, or name a column in nats per token.",
)
TRAINING_LOSS = Kind(
    "training-loss",
    DOUBT,
    when="the only loss is of training data",
    means="It is lower than on new data if data repeat, and moves with the batch and smoothing.",
    remedy="Name a column of validation losses: --columns loss=NAME.",
)
VALIDATION_LOSS = Kind(
    "validation-loss",
    NEWS,
    when="a table has losses of validation and others",
    means="The validation loss was taken.",
    remedy="Say otherwise with --columns loss=NAME.",
)
MIXED_SPLITS = Kind(
    "mixed-splits",
    WRONG,
    when="a column says that some losses are of training and some of validation data",
    means="The two do not compare.",
    remedy="Keep one of them with --where.",
)
RETRIED_LEARNING_RATE = Kind(
    "retried-learning-rate",
    DOUBT,
    when="a run was tried again with half the learning rate after it diverged",
    means="The runs do not all follow one rule for the learning rate.",
    remedy="Leave such runs out with --where, or tune that size.",
)
LOSS_SPIKES = Kind(
    "loss-spikes",
    DOUBT,
    when="the training loss of a run spiked",
    means="Its final loss may be high.",
    remedy="Look at its curve (plot --kind curves), and train it again if the spike is late.",
)

# Amounts that a table does not have.

STANDS_FOR = Kind(
    "stands-for",
    NEWS,
    when="a law takes a column of its own for tokens, as transfer does those of a task",
    means="A law of fine-tuning is in the different tokens of a task, D_F, however often they are "
    "read, and with padding left out.",
    remedy="Nothing, if that is meant; else fit another law, or drop the column from the table.",
)
TOKENS_FROM_FLOPS = Kind(
    "tokens-from-flops",
    NEWS,
    when="a table has parameters and FLOPs, and no tokens",
    means="Tokens were computed as D = C/(6N).",
    remedy="Nothing, or name the column of tokens with --columns.",
)
TOKENS_FROM_STEPS = Kind(
    "tokens-from-steps",
    NEWS,
    when="a table has steps and tokens a step, and no tokens",
    means="Tokens were computed as their product.",
    remedy="Nothing, or name the column of tokens with --columns.",
)
FLOPS_FROM_TOKENS = Kind(
    "flops-from-tokens",
    NEWS,
    when="a table has FLOPs a token, and no FLOPs",
    means="FLOPs were computed as their product with tokens.",
    remedy="Nothing, or name the column of FLOPs with --columns.",
)
PARAMS_FROM_FLOPS = Kind(
    "params-from-flops",
    NEWS,
    when="a table has tokens and FLOPs, and no parameters",
    means="Parameters were computed as N = C/(6D).",
    remedy="Nothing, or name the column of parameters with --columns.",
)
TOKENS_UNKNOWN = Kind(
    "tokens-unknown",
    DOUBT,
    when="a table has neither tokens nor FLOPs",
    means="Its runs are taken to share one token budget.",
    remedy="Add a column of tokens.",
)
PARAMS_UNKNOWN = Kind(
    "params-unknown",
    NEWS,
    when="a table has no parameters, and cannot be told them",
    means="Only laws in what it has can be fitted.",
    remedy="Add a column of parameters.",
)
PASSES_OVER_DATA = Kind(
    "passes-over-data",
    DOUBT,
    when="a column says that runs took {limit:g} or more passes over their data",
    means="D must count the tokens of every pass, and is taken to.",
    remedy="If it does not, multiply it, or give FLOPs.",
    limit=1.5,
)

# Which rows are runs.

FILTERED = Kind(
    "filtered",
    NEWS,
    when="--where or --best-of leaves runs out",
    means="The law is of the runs that remain.",
    remedy="Nothing.",
)
RUN_ID_REPEATED = Kind(
    "run-id-repeated",
    DOUBT,
    when="a run's name stands in several rows",
    means="Either each row is a run of its own, or rows are steps of one: the note says which "
    "was taken, and intervals rest on it.",
    remedy="If that is wrong: --columns run_id=NAME, or run_id=none.",
)
LOSS_ERROR_IGNORED = Kind(
    "loss-error-ignored",
    DOUBT,
    when="the column of the loss's standard error is negative, empty, 0 throughout or as large as "
    "the loss",
    means="It is no standard error, so runs are not weighed by it.",
    remedy="Fix it, name another column (--columns loss_se=NAME), or say --columns loss_se=none.",
)
STEPS_REPEATED = Kind(
    "steps-repeated",
    NEWS,
    when="a step of a run stands twice",
    means="The run was resumed from a checkpoint: the later row is kept.",
    remedy="Nothing.",
)
ROWS_ARE_STEPS = Kind(
    "rows-are-steps",
    NEWS,
    when="a law of whole curves is fitted to the logged steps",
    means="Steps of one run are not independent: intervals rest on whole runs.",
    remedy="Nothing.",
)
RUNS_CUT_SHORT = Kind(
    "runs-cut-short",
    DOUBT,
    when="a run ends before {limit:.0%} of its planned length, while others reach it",
    means="If its schedule was cut off, its loss is too high.",
    remedy="Leave such rows out.",
    limit=0.98,
)
RUNS_LACKING = Kind(
    "runs-lacking",
    DOUBT,
    when="a sweep's table lacks runs that its sweep.json names",
    means="The law is of the runs that are here; the others may be the largest ones.",
    remedy="Give the sweep's own command again: it makes the table anew and finishes what is "
    "missing.",
)
SWEEP_UNKNOWN = Kind(
    "sweep-unknown",
    NEWS,
    when="a sweep's folder has no sweep.json, or (a doubt) one that cannot be read",
    means="Nothing says which runs were asked for, and so whether the table has them all.",
    remedy="Nothing, if the table is whole; else give the sweep's own command again.",
)
STATUS_UNKNOWN = Kind(
    "status-unknown",
    DOUBT,
    when="words in the column of statuses may mean anything",
    means="The note says whether such runs are left out or counted.",
    remedy="Say which words count as done: --status done=WORD.",
)
TABLE_OF_LOGS = Kind(
    "table-of-logs",
    NEWS,
    when="several logs are read, one a run",
    means="The loss is the last one of each.",
    remedy="Nothing.",
)
EARLIER_STATES = Kind(
    "earlier-states",
    NEWS,
    when="a log is an earlier state of a run that another file holds",
    means="The later file is read.",
    remedy="Nothing.",
)
RESUMED = Kind(
    "resumed",
    NEWS,
    when="steps stand twice in a log",
    means="The run was resumed: the later values were taken.",
    remedy="Nothing.",
)
RUNS_BY_KEY = Kind(
    "runs-by-key",
    NEWS,
    when="a JSON file is one object of runs",
    means="Each of its keys was read as a run.",
    remedy="Nothing.",
)

# How a file is written.

DECIMAL_COMMA = Kind(
    "decimal-comma",
    NEWS,
    when="numbers have a comma before their decimals",
    means="1,5 was read as one and a half.",
    remedy="If that is wrong, write numbers with a point.",
)
THOUSANDS = Kind(
    "thousands",
    NEWS,
    when="numbers have signs between thousands",
    means="1.000.000 was read as a million.",
    remedy="If that is wrong, write numbers without such signs.",
)
ENCODING = Kind(
    "encoding",
    NEWS,
    when="a file is not in UTF-8 and does not say what it is in",
    means="Its encoding was told from its bytes.",
    remedy="If names look wrong, save the file in UTF-8.",
)
KIND_BY_CONTENT = Kind(
    "kind-by-content",
    NEWS,
    when="a file's content is of another kind than its name says",
    means="It was read as what it is.",
    remedy="Nothing, or rename it.",
)
DRAWN_TABLE = Kind(
    "drawn-table",
    NEWS,
    when="a table is drawn with lines, as in Markdown",
    means="It was read as such.",
    remedy="Nothing.",
)
BLANKS_SEPARATE = Kind(
    "blanks-separate",
    NEWS,
    when="blanks separate the columns of a file",
    means="Several blanks count as one.",
    remedy="If names hold blanks, save the table as CSV.",
)
COMMENT_LINES = Kind(
    "comment-lines",
    NEWS,
    when="lines of a file begin with #",
    means="They were skipped.",
    remedy="Nothing.",
)
TITLE_LINES = Kind(
    "title-lines",
    NEWS,
    when="a file has a title above its headings",
    means="It was skipped.",
    remedy="Nothing.",
)
HEADING_ROWS = Kind(
    "heading-rows",
    NEWS,
    when="a file has several lines of headings",
    means="They were joined.",
    remedy="Nothing.",
)
HEADINGS_AGAIN = Kind(
    "headings-again",
    NEWS,
    when="the headings of a file stand again further down",
    means="They were skipped.",
    remedy="Nothing.",
)
TOTALS = Kind(
    "totals",
    NEWS,
    when="a file ends with totals or means",
    means="They are no runs, and were left out.",
    remedy="Nothing.",
)
SAME_COLUMN = Kind(
    "same-column",
    NEWS,
    when="a file has a column twice, with the same values",
    means="It was read once.",
    remedy="Nothing.",
)
