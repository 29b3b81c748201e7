"""Text from a trained model in one call."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from llmscale.errors import InputError
from llmscale.machine import pick_device
from llmscale.measure.trained.generation.decoding import Completion, complete
from llmscale.measure.trained.generation.prompts import (
    Prompt,
    encode_prompts,
    read_prompts,
    remarks_of,
)
from llmscale.measure.trained.generation.spec import Sampling
from llmscale.measure.trained.generation.text_stream import TextStream, continuation
from llmscale.measure.trained.model import TrainedModel, open_model
from llmscale.settings import shows_keywords
from llmscale.settings.tables import with_keywords


@dataclass(frozen=True)
class Generated:
    """A prompt, and what the model wrote after it."""

    prompt: str
    text: str
    prompt_tokens: tuple[int, ...]
    tokens: tuple[int, ...]
    log_probability: float
    """Nats, of all tokens and of the end of text, as the model says, whatever the temperature."""
    ended: bool
    """Whether the model ended the text; else it has as many tokens as were asked for."""


@dataclass(frozen=True)
class Generation:
    """What a model wrote."""

    run_id: str
    texts: tuple[Generated, ...]
    sampling: Sampling
    tokens_per_second: float
    remarks: tuple[str, ...]
    """What was taken for what."""

    def __str__(self) -> str:
        return "\n\n".join(text.prompt + text.text for text in self.texts)

    def to_json(self) -> dict[str, Any]:
        return {
            "run_id": self.run_id,
            "asked": asdict(self.sampling),
            "texts": [asdict(text) for text in self.texts],
            "tokens_per_second": self.tokens_per_second,
            "remarks": list(self.remarks),
        }


@shows_keywords(Sampling)
def generate(
    run: TrainedModel | Path | str,
    prompt: str | Sequence[str] | None = None,
    *,
    prompts: Path | str | None = None,
    device: str = "auto",
    arch: str | None = None,
    hears: Callable[[int, str], None] | None = None,
    begins: Callable[[TrainedModel, Sequence[Prompt], int], None] | None = None,
    **settings: Any,
) -> Generation:
    """What the model of `run` writes after `prompt`, one text or several, or those of the file
    `prompts`: `.txt` one a line, or `.jsonl` with a `prompt` in each object.

    `run` is a run as `open_model` takes it, `arch` too. `settings` are those of the command line:
    `generate("results/mine", "Once", tokens=50, temperature=0)`. `hears` is told each piece of text
    as it is written and the number of its text, `begins` before that the model, the prompts and how
    many texts there will be. Raises InputError."""
    sampling = with_keywords(Sampling(), settings, "generate()")
    asked = _asked(prompt, prompts)
    trained = opened(run, device, arch)
    encoded = encode_prompts(trained, asked)
    if begins is not None:
        begins(trained, encoded, sampling.samples * len(encoded))
    told = None
    if hears is not None:
        told = _Told(trained, encoded, sampling.samples, hears)
    found = complete(
        trained,
        [one.tokens for one in encoded],
        sampling,
        hears=told,
    )
    texts = tuple(
        _generated(trained, encoded[number // sampling.samples], one)
        for number, one in enumerate(found.texts)
    )
    remarks = (*trained.remarks, *remarks_of(encoded), *found.remarks)
    return Generation(trained.run_id, texts, sampling, found.tokens_per_second, remarks)


def opened(run: TrainedModel | Path | str, device: str, arch: str | None) -> TrainedModel:
    """The model of `run`, which may be open."""
    if isinstance(run, TrainedModel):
        return run
    return open_model(run, device=pick_device(device), arch=arch)


def _asked(prompt: str | Sequence[str] | None, file: Path | str | None) -> list[str]:
    if prompt is not None and file is not None:
        raise InputError("there are a prompt and a file of prompts", "give one of them")
    if prompt is None and file is None:
        raise InputError(
            "there is no prompt", 'give one, or a file by --prompts: llmscale generate RUN "Once"'
        )
    if file is not None:
        return read_prompts(Path(file))
    found = [prompt] if isinstance(prompt, str) else list(prompt or ())
    if not found or not all(isinstance(one, str) for one in found):
        raise InputError("the prompts are no texts", 'give a text or several: ["Once", "Twice"]')
    return found


class _Told:
    """Tells text as its tokens come."""

    def __init__(
        self,
        trained: TrainedModel,
        prompts: Sequence[Prompt],
        samples: int,
        hears: Callable[[int, str], None],
    ) -> None:
        self._hears = hears
        self._streams = [
            TextStream(trained.tokenizer, prompt.tokens)
            for prompt in prompts
            for _ in range(samples)
        ]

    def __call__(self, text: int, token: int | None) -> None:
        stream = self._streams[text]
        piece = stream.end() if token is None else stream.push(token)
        if piece:
            self._hears(text, piece)


def _generated(trained: TrainedModel, prompt: Prompt, found: Completion) -> Generated:
    return Generated(
        prompt=prompt.text,
        text=continuation(trained.tokenizer, prompt.tokens, found.tokens),
        prompt_tokens=prompt.tokens,
        tokens=found.tokens,
        log_probability=found.log_probability,
        ended=found.ended,
    )
