"""How induction and the reach of attention change with size, over the runs of a results folder."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from llmscale.errors import InputError
from llmscale.machine import pick_device
from llmscale.measure.text.store import TokenStore
from llmscale.measure.trained.evaluation.kept import scores_in_table
from llmscale.measure.trained.inspection.attention import read_with_attention
from llmscale.measure.trained.model import TrainedModel, open_model
from llmscale.measure.trained.places import find_results, kept_none, usable_runs
from llmscale.runs.inspection import InspectedLadder, InspectedRun
from llmscale.runs.run_folder import RunFolder
from llmscale.runs.scores import write_scores

SEQUENCES: Final = 32
REPEATED: Final = 64
"""Tokens that are said twice, if the context has room for them."""
FEWEST_REPEATED: Final = 4
_MOST_TEXT: Final = 1_000_000
_MOST_WEIGHTS: Final = 50_000_000
"""Of attention, that are held at a time."""


def inspect_ladder(
    place: Path | str | None = None,
    *,
    device: str = "auto",
    report: Callable[[int, int], object] = lambda done, runs: None,
) -> InspectedLadder:
    """The induction score, the gain by induction, and the mean attention distance of every run of a
    results folder, by default the newest sweep's, that has weights; all become columns of its
    table.

    `report` is told how many of how many runs are done. Raises InputError."""
    results, where = find_results(place)
    folders = usable_runs(results)
    if not folders:
        raise kept_none(where)
    device = pick_device(device)
    runs: list[InspectedRun] = []
    left_out: list[tuple[str, str]] = []
    remarks: dict[str, None] = {}
    # The same for all: what fits into the shortest context.
    repeated = _repeated(folders)
    for number, folder in enumerate(folders):
        try:
            trained = open_model(folder.path, device=device)
            runs.append(inspect_run(trained, repeated))
        except InputError as error:
            left_out.append((folder.run_id, error.problem))
            continue
        write_scores(folder, runs[-1].scores)
        remarks |= dict.fromkeys(trained.remarks)
        if runs[-1].attention_distance is None:
            remarks[f"run {folder.run_id}: it has no text to measure the distance on"] = None
        report(number + 1, len(folders))
    if not runs:
        raise InputError(f"no run of {where} can be looked into: {left_out[0][1]}", None)
    table, why = scores_in_table(results)
    said = (*remarks, *([why] if why else []))
    by_size = sorted(runs, key=lambda run: (run.params, run.tokens, run.seed))
    return InspectedLadder(where, repeated, tuple(by_size), tuple(left_out), table, said)


def inspect_run(trained: TrainedModel, repeated: int) -> InspectedRun:
    """One model, on tokens of which `repeated` are said twice. Raises InputError."""
    text = _text_of(trained)
    tokens_BT = repeated_tokens(_known_tokens(trained, text), repeated)
    gains, scores = [], []
    for part_BT, logits_BTV, weights in _parts(trained, tokens_BT):
        gains.append(_gain(logits_BTV, part_BT, repeated))
        scores.append([_prefix_matching(one, repeated) for one in weights])
    of_layers = torch.stack([torch.cat(layer) for layer in zip(*scores, strict=True)])
    job = trained.spec.job
    return InspectedRun(
        run_id=trained.run_id,
        size=job.size,
        params=job.shape.params,
        tokens=job.tokens,
        seed=job.seed,
        induction_scores=tuple(tuple(heads) for heads in of_layers.mean(dim=1).tolist()),
        induction_gain=float(torch.cat(gains).mean()),
        attention_distance=_distance(trained, text),
    )


def repeated_tokens(known: Tensor, repeated: int) -> Tensor:
    """Sequences (B, 2 n) of n tokens drawn by lot among those `known` and said twice; all n are
    different if so many are known."""
    generator = torch.Generator().manual_seed(0)
    rounds = -(-repeated // len(known))
    orders = [
        torch.cat([torch.randperm(len(known), generator=generator) for _ in range(rounds)])
        for _ in range(SEQUENCES)
    ]
    once_BT = known[torch.stack(orders)[:, :repeated]]
    return torch.cat((once_BT, once_BT), dim=1)


def attention_distance(weights_BHTT: Tensor) -> Tensor:
    """sum_k weight(q, k) · (q - k) of each sequence (B,), the mean over heads and positions q."""
    positions_T = torch.arange(weights_BHTT.shape[-1], device=weights_BHTT.device)
    behind_TT = (positions_T.unsqueeze(1) - positions_T).clamp(min=0)
    return (weights_BHTT * behind_TT).sum(dim=-1).mean(dim=(1, 2))


def _parts(
    trained: TrainedModel, tokens_BT: Tensor
) -> Iterator[tuple[Tensor, Tensor, list[Tensor]]]:
    """Some sequences at a time, their logits, and of each layer its attention."""
    shape, T = trained.shape, tokens_BT.shape[1]
    of_sequence = shape.n_layer * shape.n_head * T * T
    for part_BT in tokens_BT.to(trained.device).split(max(1, _MOST_WEIGHTS // of_sequence)):
        yield part_BT, *read_with_attention(trained.model, part_BT)


def _prefix_matching(weights_BHTT: Tensor, repeated: int) -> Tensor:
    """Of each sequence and head (B, H), the mean attention from a token that is said again, at
    t >= n, to the one that came after it before, at t - n + 1 (Olsson et al. 2022)."""
    again_T = torch.arange(repeated, 2 * repeated, device=weights_BHTT.device)
    return weights_BHTT[:, :, again_T, again_T - repeated + 1].mean(dim=2)


def _gain(logits_BTV: Tensor, tokens_BT: Tensor, repeated: int) -> Tensor:
    """The mean loss (B,) of the tokens but the first as they are said first, less that as they are
    said again."""
    targets_BT1 = tokens_BT[:, 1:, None]
    logs_BT = logits_BTV[:, :-1].log_softmax(dim=-1).gather(2, targets_BT1)[:, :, 0].double()
    return logs_BT[:, repeated:].mean(dim=1) - logs_BT[:, : repeated - 1].mean(dim=1)


def _text_of(trained: TrainedModel) -> Tensor | None:
    """Tokens of the run's validation text, or None if it is gone, or no running text."""
    try:
        store = TokenStore.open(trained.spec.store)
    except (InputError, OSError):
        return None
    if store.length is not None:
        return None
    return torch.tensor(store.validation()[:_MOST_TEXT].astype(int))


def _known_tokens(trained: TrainedModel, text: Tensor | None) -> Tensor:
    """Those of its text, for of others a model knows nothing; without a text all."""
    if text is None:
        return torch.arange(trained.shape.vocab_size)
    return text.unique()


def _distance(trained: TrainedModel, text: Tensor | None) -> float | None:
    context = trained.context
    count = 0 if text is None else min(SEQUENCES, len(text) // context)
    if text is None or not count:
        return None
    tokens_BT = text[: count * context].view(count, context)
    found = [
        torch.stack([attention_distance(one) for one in weights]).mean(dim=0)
        for _, _, weights in _parts(trained, tokens_BT)
    ]
    return float(torch.cat(found).double().mean())


def _repeated(folders: list[RunFolder]) -> int:
    """How many tokens are said twice in the runs of all these folders."""
    from llmscale.measure.train.run_spec import known_spec

    specs = [spec for folder in folders if (spec := known_spec(folder)) is not None]
    least = min((spec.job.shape.context for spec in specs), default=2 * REPEATED)
    if least < 2 * FEWEST_REPEATED:
        raise InputError(
            f"a context of {least} tokens is too short to say {FEWEST_REPEATED} tokens twice",
            f"train with a context of {2 * FEWEST_REPEATED} or more",
        )
    return min(REPEATED, least // 2)
