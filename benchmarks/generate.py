"""Generation speed: ours and transformers' `generate`, the same model and prompts on one CPU core.

    python benchmarks/generate.py --out generate.json

Models of our Llama architecture with first weights, and the same weights as they are exported to
transformers' LlamaForCausalLM (its defaults: float32, keys and values kept, sdpa attention).
Prompts of one length, so that neither side pads. Alternating rounds in one process; of each side
and case the median of tokens per second of CPU time, which is that of one thread, and of the
rounds' ratios. Greedy, both should write the same tokens;
sampled, both draw at temperature 0.8 among the 50 likeliest with 0.95 of the probability."""

import argparse
import json
import platform
import statistics
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from llmscale.machine import device_name
from llmscale.measure.trained.exchange.formats._llama import config as exported_config
from llmscale.measure.trained.exchange.formats._llama import to_hf
from llmscale.measure.trained.generation.decoding import complete
from llmscale.measure.trained.generation.spec import Sampling
from llmscale.measure.trained.model import TrainedModel
from llmscale.measure.transformer import LanguageModel, build_model
from llmscale.runs.shape import Shape, shape_for

VOCABULARY, CONTEXT, PROMPT = 2048, 256, 32
SAMPLED: dict[str, Any] = {"temperature": 0.8, "top_k": 50, "top_p": 0.95}

GREEDY: dict[str, Any] = {"temperature": 0.0}


@dataclass(frozen=True)
class Case:
    """What is timed."""

    size: str
    batch: int
    sampled: bool


@dataclass(frozen=True)
class Measured:
    """Tokens per second of both sides, medians of all rounds."""

    case: Case
    params: int
    ours: float
    peers: float
    ratio: float
    lowest: float
    highest: float
    same: float
    """The share of greedy tokens that are the same up to the first that is not."""


def main() -> None:
    options = parse()
    torch.set_num_threads(1)
    found = []
    for size in options.sizes.split(","):
        shape = shape_for(size, vocab_size=VOCABULARY, context=CONTEXT)
        model = build_model(shape, seed=1).requires_grad_(False).eval()
        peer = transformers_model(model)
        difference = logits_differ(model, peer)
        print(f"{size}: {shape.name}, largest difference of logits {difference:.1e}")
        for batch in map(int, options.batches.split(",")):
            for sampled in (False, True):
                one = measure(Case(size, batch, sampled), model, peer, options)
                found.append(one)
                how = "sampled" if sampled else "greedy"
                print(
                    f"  batch {batch} {how:7s}  ours {one.ours:7.0f}  transformers "
                    f"{one.peers:7.0f}  ratio {one.ratio:.2f} ({one.lowest:.2f} to "
                    f"{one.highest:.2f})  same {one.same:.3f}"
                )
    if options.out:
        options.out.write_text(json.dumps(report(found), indent=2) + "\n")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default="300k,3M,10M")
    parser.add_argument("--batches", default="1,8")
    parser.add_argument("--tokens", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


def measure(case: Case, model: LanguageModel, peer: Any, options: argparse.Namespace) -> Measured:
    prompts_BT = torch.randint(
        VOCABULARY, (case.batch, PROMPT), generator=torch.Generator().manual_seed(0)
    )
    sampling = Sampling(
        tokens=options.tokens,
        stop=False,
        at_a_time=case.batch,
        **(SAMPLED if case.sampled else GREEDY),
    )
    trained = as_trained(model)
    speeds: list[tuple[float, float]] = []
    same = 1.0
    for turn in range(options.rounds + 1):
        began = time.process_time()
        ours = complete(trained, prompts_BT.tolist(), sampling)
        between = time.process_time()
        theirs_BL = peer_generate(peer, prompts_BT, sampling)
        ended = time.process_time()
        written = case.batch * options.tokens
        if turn:  # the first is a warm-up
            speeds.append((written / (between - began), written / (ended - between)))
        if not case.sampled:
            ours_BL = torch.tensor([text.tokens for text in ours.texts])
            alike_BL = (ours_BL == theirs_BL[:, PROMPT:]).cumprod(dim=1)
            same = float(alike_BL.float().mean())
    ratios = [ours / peers for ours, peers in speeds]
    return Measured(
        case,
        model.shape.params,
        statistics.median(ours for ours, _ in speeds),
        statistics.median(peers for _, peers in speeds),
        statistics.median(ratios),
        min(ratios),
        max(ratios),
        same,
    )


def as_trained(model: LanguageModel) -> TrainedModel:
    """The model as what is opened from a run, with no folder behind it."""
    trained = object.__new__(TrainedModel)
    known = {"model": model, "device": "cpu", "remarks": (), "end_of_text": 0}
    for name, value in {**known, "spec": _Spec(_Job(model.shape))}.items():
        trained.__dict__[name] = value
    return trained


@dataclass(frozen=True)
class _Job:
    shape: Shape


@dataclass(frozen=True)
class _Spec:
    job: _Job


def transformers_model(model: LanguageModel) -> Any:
    """The same weights in transformers' LlamaForCausalLM."""
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = model.shape
    rest = {"vocab_size": shape.vocab_size, "tie_word_embeddings": False}
    ends = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": 0}
    config = LlamaConfig(**exported_config(shape), **rest, **ends)
    peer = LlamaForCausalLM(config).eval()
    peer.load_state_dict(to_hf(model.state_dict(), shape, model.parametrization))
    return peer.requires_grad_(False)


@torch.inference_mode()
def logits_differ(model: LanguageModel, peer: Any) -> float:
    tokens_BT = torch.randint(VOCABULARY, (2, 64), generator=torch.Generator().manual_seed(1))
    return float((model(tokens_BT) - peer(tokens_BT).logits).abs().max())


def peer_generate(peer: Any, prompts_BT: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    chosen: dict[str, Any] = {"do_sample": False}
    if not sampling.is_greedy:
        chosen = {"do_sample": True, **SAMPLED}
    found: torch.Tensor = peer.generate(
        prompts_BT,
        attention_mask=torch.ones_like(prompts_BT),
        max_new_tokens=sampling.tokens,
        min_new_tokens=sampling.tokens,
        pad_token_id=0,
        **chosen,
    )
    return found


def report(found: list[Measured]) -> dict[str, Any]:
    import transformers

    return {
        "command": " ".join(sys.argv),
        "hardware": {"device": device_name("cpu"), "machine": platform.machine(), "threads": 1},
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "measured": [asdict(one) for one in found],
    }


if __name__ == "__main__":
    main()
