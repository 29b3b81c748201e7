"""What a model writes after prompts, the likeliest token each time."""

from collections.abc import Sequence

import torch

from llmscale.measure.trained.model import TrainedModel


@torch.no_grad()
def write_greedily(
    trained: TrainedModel, prompts: Sequence[Sequence[int]], most: int
) -> list[tuple[int, ...]]:
    """The tokens that follow each prompt, at most so many, without the end of text."""
    found = []
    for prompt in prompts:
        tokens = list(prompt)
        while len(tokens) < len(prompt) + most:
            read_1T = torch.tensor([tokens[-trained.context :]], device=trained.device)
            token = int(trained.model(read_1T)[0, -1].argmax())
            if token == trained.end_of_text:
                break
            tokens.append(token)
        found.append(tuple(tokens[len(prompt) :]))
    return found
