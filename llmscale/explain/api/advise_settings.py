"""What `llmscale advise` can be told. Light: `--help` reads the declarations."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from llmscale.explain.api.plan_settings import BudgetSpec
from llmscale.explain.api.settings import TASK, TASK_LAW, TASK_LOSS
from llmscale.machine.gpus import GPUS
from llmscale.quantity import parse_bytes
from llmscale.settings import Range, setting

SERVE: Final = "What to serve on"


@dataclass(frozen=True)
class AdviseSpec(BudgetSpec):
    """What `llmscale advise` is asked for, and what the model is served on."""

    task: str | None = setting(None, **TASK)
    task_loss: str | None = setting(None, **TASK_LOSS)
    task_law: str | type | None = setting(None, **TASK_LAW)
    serve_on: str | None = setting(
        None,
        help="The GPU that serves the model.",
        group=SERVE,
        metavar="NAME",
        choices=lambda: GPUS,
        only_shown=True,
    )
    serve_gpus: int | None = setting(
        None,
        help="How many of them hold a model together.",
        usual="1",
        group=SERVE,
        within=Range(1, 1e5),
    )
    serve_memory: float | None = setting(
        None,
        help="In place of a GPU: bytes of memory.",
        usual="no limit",
        group=SERVE,
        parse=lambda text: parse_bytes(text, "--serve-memory"),
        within=Range(0, 1e18, above=True),
        metavar="24GB",
    )
    serve_bandwidth: float | None = setting(
        None,
        help="In place of a GPU: bytes a second that are read from its memory.",
        usual="no speed is told",
        group=SERVE,
        parse=lambda text: parse_bytes(text.strip().removesuffix("/s"), "--serve-bandwidth"),
        within=Range(0, 1e18, above=True),
        metavar="300GB/s",
    )
    tokens_per_second: float | None = setting(
        None,
        help="Tokens a second that each sequence has to get.",
        usual="no limit",
        group=SERVE,
        within=Range(0, 1e9, above=True),
    )
    streams: int | None = setting(
        None,
        help="Sequences that are written at a time.",
        usual="1",
        group=SERVE,
        within=Range(1, 1e7),
    )
    serve_context: int | None = setting(
        None,
        help="Tokens of the longest sequence.",
        usual="those of training",
        group=SERVE,
        within=Range(1, 1e9),
    )
    bytes_per_weight: float | None = setting(
        None,
        help="Bytes of a weight: fewer than 2 if they are rounded.",
        usual="2",
        group=SERVE,
        within=Range(0.125, 4),
    )
    bytes_per_kv: float | None = setting(
        None,
        help="Bytes of a value in the cache of keys and values.",
        usual="2",
        group=SERVE,
        within=Range(0.125, 4),
    )
    heads_per_kv: int | None = setting(
        None,
        help="Query heads that share their keys and values (grouped-query attention).",
        usual="1, as our shapes have it",
        group=SERVE,
        within=Range(1, 1e4),
    )
    rounded: str | Path | None = setting(
        None,
        help="A results folder that `quantize` wrote, for what rounding costs.",
        group=SERVE,
        metavar="FOLDER",
    )
    memory_share: float | None = setting(
        None,
        help="Share of the memory for weights and cache.",
        usual="0.9",
        group=SERVE,
        within=Range(0, 1, above=True),
    )
    bandwidth_share: float | None = setting(
        None,
        help="Share of the bandwidth that decoding reaches.",
        usual="what was published, of weights and of the cache alike: 0.68 at 2 bytes a value, "
        "0.52 at 1, 0.42 at 0.625 and below",
        group=SERVE,
        within=Range(0, 1, above=True),
    )
