"""Notes on measuring runs: the plan of a sweep, tuning, text, and this machine."""

from llmscale.notes.kind import Kind, Weight

NEWS, DOUBT, WRONG = Weight.NEWS, Weight.DOUBT, Weight.WRONG

# A sweep: one-token-budget, repeated-data and few-steps are told of a plan, too (see fitting).

ISOFLOP_GRID = Kind(
    "isoflop-grid",
    NEWS,
    when="a sweep is planned by --flops",
    means="Each budget has sizes around the expected optimum.",
    remedy="Fit with --method isoflop.",
    source="Hoffmann et al. 2022, approach 2",
)
FAILED_RUNS = Kind(
    "failed-runs",
    WRONG,
    when="a run of a sweep failed",
    means="It has no loss, and no law knows it.",
    remedy="Fix what the note names; the sweep's own command trains it again.",
)
MEMORY = Kind(
    "memory",
    WRONG,
    when="a run needs more memory than is free",
    means="It will fail, or the machine will swap.",
    remedy="Use smaller sizes or batches, or another machine.",
)
BATCH_ROUNDED = Kind(
    "batch-rounded",
    NEWS,
    when="a batch is no whole number of sequences",
    means="It was rounded.",
    remedy="Nothing.",
)
NOISY_LOSS = Kind(
    "noisy-loss",
    DOUBT,
    when="the smallest gap between two sizes is under {limit:g} standard errors of a loss",
    means="The text that losses are measured on is too short to tell such sizes apart.",
    remedy="Measure on more text: --validation-tokens in a new folder, as far as a tenth of the "
    "text reaches; beyond that use more text.",
    limit=5,  # a rule of thumb: all losses are measured on the same text
)
HELD_OUT_SHORT = Kind(
    "held-out-short",
    DOUBT,
    when="the text, or a source of a mixture, has less than {limit:.0%} of the tokens that "
    "--validation-tokens asks for",
    means="At most a tenth of a text is held out: losses are measured on fewer tokens than asked.",
    remedy="Use more text, or ask for fewer tokens.",
    limit=0.75,  # documents are held out whole, at an estimated 4 bytes a token
)
WEIGHTS_NOT_KEPT = Kind(
    "weights-not-kept",
    DOUBT,
    when="weights of runs were to be kept and are not, as for the room they would take",
    means="These runs leave their losses and curves only, and no model to use afterwards.",
    remedy="Keep more with --keep-gb, or install safetensors; runs that have ended need training "
    "again.",
)
RULE_EXTRAPOLATES = Kind(
    "rule-extrapolates",
    DOUBT,
    when="a tuned rule is used more than {limit:g} times outside the N or D it was tuned on",
    means="The learning rate there is a guess.",
    remedy="Tune a size and budget nearer to it.",
    limit=10,
)
RULE_OF_ANOTHER_RECIPE = Kind(
    "rule-of-another-recipe",
    WRONG,
    when="a rule was tuned with another architecture, optimizer, parametrization or schedule",
    means="Another recipe has another optimum.",
    remedy="Tune this recipe.",
)
UNKNOWN_TOKENS = Kind(
    "unknown-tokens",
    DOUBT,
    when="{limit:.2%} or more of the tokens stand for what the tokenizer does not know",
    means="Losses leave out what these say, and do not compare with those of another tokenizer.",
    remedy="Use a tokenizer of bytes, or one trained on this text.",
    limit=1e-4,
)

# Tuning.

LR_AT_EDGE = Kind(
    "lr-at-edge",
    DOUBT,
    when="the best learning rate is at an end of those tried",
    means="A better one may lie beyond.",
    remedy="Start nearer to it (--lr-scale), or go further (--doublings).",
)
BATCH_AT_EDGE = Kind(
    "batch-at-edge",
    DOUBT,
    when="the best batch is at an end of those tried",
    means="A better one may lie beyond, unless it is a single sequence or leaves too few steps.",
    remedy="Go further (--doublings).",
)
ALL_DIVERGED = Kind(
    "all-diverged",
    WRONG,
    when="every trial of a size diverged",
    means="The rule leaves it out.",
    remedy="Look at the text and at clip.",
)
UNFINISHED = Kind(
    "unfinished",
    NEWS,
    when="the search of a size has not ended",
    means="The rule leaves it out.",
    remedy="Name it in the command to go on.",
)
ONE_SIZE = Kind(
    "one-size",
    DOUBT,
    when="one size was tuned",
    means="The rule has no exponent in N, and holds at that N only.",
    remedy="Tune a second size.",
)
OPTIMUM_BENDS = Kind(
    "optimum-bends",
    DOUBT,
    when="the optima bend from a power law in N (p < {limit:g})",
    means="The rule holds near the sizes tuned only.",
    remedy="Do not carry it far beyond them.",
    limit=0.05,
)

# This machine.

NO_KERNELS = Kind(
    "no-kernels",
    DOUBT,
    when="the CPU trains without its compiled kernels",
    means="Training takes several times as long.",
    remedy="Install a C compiler: llmscale doctor says what is missing.",
)
KERNELS_ELSEWHERE = Kind(
    "kernels-elsewhere",
    NEWS,
    when="the kernels cannot be kept in the usual cache",
    means="They are compiled again where they can be.",
    remedy="Set LLMSCALE_CACHE to a folder of your own.",
)
NO_GPU = Kind(
    "no-gpu",
    NEWS,
    when="this machine has no GPU",
    means="Sizes beyond a few million parameters take long.",
    remedy="Use small sizes, or another machine.",
)
NO_CUDA = Kind(
    "no-cuda",
    WRONG,
    when="there is an NVIDIA driver, and torch is built without CUDA",
    means="The GPU is not used.",
    remedy="Install torch from PyPI.",
)
NO_BFLOAT16 = Kind(
    "no-bfloat16",
    NEWS,
    when="the device has no native bfloat16",
    means="float32 moves twice the bytes.",
    remedy="Nothing.",
)
NO_COMPILE = Kind(
    "no-compile",
    DOUBT,
    when="torch.compile does not work",
    means="Training on the GPU is slower.",
    remedy="Fix what the note names.",
)
FEW_CORES = Kind(
    "few-cores",
    NEWS,
    when="this machine has fewer than {limit:g} cores",
    means="Preparing text and training on the CPU use all there are.",
    remedy="Nothing.",
    limit=4,
)
FEW_THREADS = Kind(
    "few-threads",
    DOUBT,
    when="torch uses fewer threads than there are cores",
    means="Training on the CPU is slower.",
    remedy="Unset OMP_NUM_THREADS.",
)
BUSY = Kind(
    "busy",
    DOUBT,
    when="the load is above {limit:g} a core before anything of ours runs",
    means="Timings are not to be trusted.",
    remedy="Wait, or stop other programs.",
    limit=0.5,
)
LITTLE_MEMORY = Kind(
    "little-memory",
    DOUBT,
    when="less than {limit:g} GiB of memory is free",
    means="Larger batches or sizes will fail.",
    remedy="Use smaller batches.",
    limit=4,
)
LITTLE_DISK = Kind(
    "little-disk",
    DOUBT,
    when="less than {limit:g} GiB is free for prepared text",
    means="Preparing a larger text will fail.",
    remedy="Set LLMSCALE_CACHE to a folder with more room.",
    limit=5,
)
DEBUG_SWITCH = Kind(
    "debug-switch",
    DOUBT,
    when="a variable of the environment turns a debugging mode on",
    means="Training is slower.",
    remedy="Unset it.",
)
