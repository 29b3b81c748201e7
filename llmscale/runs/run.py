"""The rows of the two tables. Their columns are a contract that other people's scripts read. A new
column is a new field here, at the end: the tables, run.json, plans and docs follow."""

from dataclasses import dataclass

from llmscale.runs.columns import column, column_kinds, markdown_table, optional

STATUSES = ("done", "diverged", "failed", "running", "stopped")
"""What a run can have come to; `stopped` by `tune`, or between two commands."""
FINISHED = ("done", "diverged")
"""What needs no more training."""
DEFAULT_RECIPE = "default"
"""The recipe of a sweep that names none."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One row of `runs.parquet`: what was trained, what it cost, and the loss it reached."""

    run_id: str = column("short hash of all that decides the outcome")
    size: str = column("the size as it was asked for, such as `1M`")
    status: str = column("`done`, `diverged`, `failed`, `running` or `stopped`")
    n_layer: int = column("Transformer blocks")
    d_model: int = column("width of the residual stream")
    n_head: int = column("attention heads")
    d_ff: int = column("width inside the feed-forward part")
    vocab_size: int = column("different tokens")
    context: int = column("length of a sequence", "tokens")
    arch: str = column("architecture of the model")
    params: int = column("weights that multiply every token: the N of the laws")
    params_non_embedding: int = column(
        "weights but token, position and output embeddings; of a mixture of experts those that "
        "work on a token"
    )
    params_total: int = column("all stored weights")
    tokens: int = column("tokens trained on: the D of the laws")
    unique_tokens: int = column("of these, different ones: fewer if the text was read repeatedly")
    flops: float = column("training compute: the C of the laws", "FLOPs")
    loss: float | None = optional(
        "mean validation cross-entropy, over the same text for every run", "nats per token"
    )
    loss_stderr: float | None = optional(
        "standard error of `loss` over validation sequences", "nats per token"
    )
    perplexity: float | None = optional("exp(`loss`)")
    bits_per_byte: float | None = optional("`loss` a byte of text, to compare tokenizers", "bits")
    train_loss: float | None = optional(
        "mean training loss over the last 5% of steps", "nats per token"
    )
    lr: float = column("peak learning rate")
    batch_tokens: int = column("batch of an optimiser step", "tokens")
    schedule: str = column("learning-rate schedule")
    optimizer: str = column("optimiser")
    seed: int = column("seed of initial weights and order of the text")
    data: str = column("name of the text")
    data_fingerprint: str = column("digest of its tokens")
    steps: int = column("optimiser steps")
    seconds: float | None = optional("wall time of the run's own steps, evaluation included", "s")
    tokens_per_second: float | None = optional("median training speed", "tokens/s")
    mfu: float | None = optional("model FLOPs utilisation of training: a share of the peak")
    peak_memory_bytes: int | None = optional("most memory that was in use", "bytes")
    device: str = column("name of the device")
    dtype: str = column("number format of matrix products")
    parent: str | None = optional(
        "run that trained the first steps: the trunk of a cooldown, or what was fine-tuned"
    )
    error: str | None = optional("why it diverged or failed")
    retry_of: str | None = optional(
        "run that diverged, or whose trunk did, and that this one is again with half its "
        "learning rate"
    )
    recipe: str | None = optional("recipe of the sweep: `default`, or the name of a variant")
    spike_step: int | None = optional("logged step of the training loss's largest spike")
    spike_height: float | None = optional("its height above the loss just before", "nats per token")
    wall_mfu: float | None = optional(
        "MFU over `seconds`: evaluation, checkpoints and compiling too, which `mfu` leaves out"
    )
    pretrained: int | None = optional(
        "of a fine-tuning: 1 if it began with the weights of `parent`, 0 with new ones"
    )
    pretrain_tokens: int | None = optional("tokens that these weights were trained on before")
    examples: int | None = optional("different examples of the task that it was trained on")
    task_tokens: int | None = optional(
        "tokens of these examples without padding: D_F of the transfer law"
    )
    trained_params: int | None = optional(
        "weights that were trained: all of them, or those of low-rank adapters"
    )
    n_experts: int | None = optional("MLPs of a block that a router chooses from; 1 if it has one")
    experts_per_token: int | None = optional("how many of them work on a token")
    params_active: int | None = optional(
        "stored weights that work on a token: `params_total` but for experts not chosen"
    )


@dataclass(frozen=True)
class CurvePoint:
    """One row of `curves.parquet`: a logged step. `loss` is empty if it was not evaluated."""

    run_id: str = column("run")
    step: int = column("optimiser steps so far")
    tokens: int = column("tokens so far")
    flops: float = column("training compute so far", "FLOPs")
    train_loss: float = column(
        "mean training loss over the steps since the last logged one", "nats per token"
    )
    train_perplexity: float = column("exp(`train_loss`)")
    loss: float | None = column("validation loss, if it was read here", "nats per token")
    perplexity: float | None = column("exp(`loss`)")
    lr: float = column("learning rate of this step")
    grad_norm: float | None = column("norm of the gradient before clipping")
    tokens_per_second: float | None = column(
        "training speed since the last logged step", "tokens/s"
    )
    seconds: float = column("wall time of the run so far", "s")


RUN_COLUMNS = column_kinds(Run)
CURVE_COLUMNS = column_kinds(CurvePoint)


def columns_page() -> str:
    """The columns of both tables in Markdown: docs/columns.md."""
    return "\n\n".join(
        [
            "# The columns of a sweep's tables",
            "`runs.parquet` has one row a run:",
            markdown_table(Run),
            "`curves.parquet` has one row a logged step of a run:",
            markdown_table(CurvePoint),
        ]
    )
