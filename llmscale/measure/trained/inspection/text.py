"""One text as a model reads it: attention, the loss of each token, and what it expected."""

from pathlib import Path

import torch

from llmscale.errors import InputError, counted
from llmscale.measure.text.tokenizer import decode
from llmscale.measure.trained.generation.api import opened
from llmscale.measure.trained.generation.prompts import encode_prompts
from llmscale.measure.trained.inspection.attention import read_with_attention
from llmscale.measure.trained.model import TrainedModel
from llmscale.runs.inspection import Alternative, InspectedToken, Inspection
from llmscale.settings import Range

ALTERNATIVES = 5


def inspect(
    run: TrainedModel | Path | str,
    text: str,
    *,
    alternatives: int = ALTERNATIVES,
    device: str = "auto",
    arch: str | None = None,
) -> Inspection:
    """What the model of `run` makes of `text`: how each head of each layer attends, each token's
    loss, and the likeliest `alternatives` after it.

    `run` is a run as `open_model` takes it, `arch` too. Raises InputError, also for a text that is
    longer than the model's context."""
    if not text:
        raise InputError("the text is empty", "give one of a few words")
    Range(1, 1000).check("--alternatives", alternatives)
    trained = opened(run, device, arch)
    (prompt,) = encode_prompts(trained, [text])
    if len(prompt.tokens) > trained.context:
        raise InputError(
            f"the text has {counted(len(prompt.tokens), 'token')}, and the model reads at most "
            f"{trained.context:,} at once",
            "give a shorter one",
        )
    tokens_BT = torch.tensor([prompt.tokens], device=trained.device)
    logits_BTV, weights = read_with_attention(trained.model, tokens_BT)
    job = trained.spec.job
    return Inspection(
        run_id=trained.run_id,
        folder=str(trained.folder.path.parent.parent),
        size=job.size,
        text=text,
        vocab_size=job.shape.vocab_size,
        tokens=_tokens(trained, prompt.tokens, logits_BTV[0], alternatives),
        attention=torch.cat(weights).cpu().numpy(),
        remarks=(*trained.remarks, *([prompt.remark] if prompt.remark else [])),
    )


@torch.inference_mode()
def _tokens(
    trained: TrainedModel, numbers: tuple[int, ...], logits_TV: torch.Tensor, alternatives: int
) -> tuple[InspectedToken, ...]:
    logs_TV = logits_TV.double().log_softmax(dim=-1).cpu()
    likeliest = logs_TV.topk(min(alternatives, logs_TV.shape[-1]), dim=-1)
    found = []
    for place, number in enumerate(numbers):
        loss = rank = None
        if place:
            before_V = logs_TV[place - 1]
            loss = -float(before_V[number])
            rank = 1 + int((before_V > before_V[number]).sum())
        chances = likeliest.values[place].exp().tolist()
        after = likeliest.indices[place].tolist()
        nexts = tuple(
            Alternative(_text_of(trained, token), chance)
            for token, chance in zip(after, chances, strict=True)
        )
        found.append(InspectedToken(number, _text_of(trained, number), loss, rank, nexts))
    return tuple(found)


def _text_of(trained: TrainedModel, number: int) -> str:
    """The text of one token; of a special one its name."""
    return decode(trained.tokenizer, [number]) or trained.tokenizer.id_to_token(number) or ""
