"""Which share of the learning rate for new weights suits fine-tuning: by method, size and examples.

    .venv/bin/python experiments/finetuning/learning_rate.py

Fine-tunes results/made-text on translation with shares of the rule around the usual ones
(RATE_SHARES of measure/trained/finetuning/recipe.py), in this process, and prints the losses."""

import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch

from llmscale.measure.ops import pick_operations
from llmscale.measure.text.tasks.spec import TaskSpec
from llmscale.measure.text.tasks.store import prepare_task
from llmscale.measure.train.conditions import Conditions
from llmscale.measure.train.curves import Member
from llmscale.measure.train.finetuning import FULL, LORA, SCRATCH
from llmscale.measure.train.job import Job
from llmscale.measure.train.loop import train
from llmscale.measure.trained.finetuning.jobs import begins_with, finetuning_jobs
from llmscale.measure.trained.finetuning.parents import Parents, find_parents, put_weights
from llmscale.measure.trained.finetuning.recipe import RATE_SHARES
from llmscale.measure.trained.finetuning.spec import FinetuneSpec

SHARES = {FULL: (0.1, 0.3, 1.0), LORA: (1.0, 3.0, 10.0), SCRATCH: (0.5, 1.0, 2.0)}
EXAMPLES = (100, 300)
DATA = TaskSpec(source="task:translation,examples=4000,seed=0", validation_examples=100)


def main(results: str = "results/made-text") -> None:
    torch.set_num_threads(1)
    spec = FinetuneSpec(
        (results,), EXAMPLES, 5.0, method=(FULL, LORA), from_scratch=True, data=DATA
    )
    parents = find_parents(spec.runs)
    print("size method examples share loss")
    for method, share, job, loss in losses(spec, parents):
        examples = job.finetuning.examples if job.finetuning else 0
        print(job.size, method, examples, share, f"{loss:.4f}", flush=True)


def losses(spec: FinetuneSpec, parents: Parents) -> Iterator[tuple[str, float, Job, float]]:
    """Every method with every share, on every size and number of examples."""
    store = prepare_task(spec.data, parents.tokenizer, parents.end_of_text, parents.context)
    texts = store.train(), store.validation()
    conditions = Conditions("cpu", micro_batch=32, ops=pick_operations("cpu"))
    for usual in finetuning_jobs(spec, parents.models, store, "float32"):
        for share in SHARES[usual.recipe]:
            job = replace(usual, lr=usual.lr * share / RATE_SHARES[usual.recipe], evaluations=1)
            with tempfile.TemporaryDirectory() as folder:
                initial, parent = None, begins_with(parents.models, job)
                if parent is not None:
                    initial = Path(folder) / "initial.safetensors"
                    put_weights(parent, job, initial)
                member = Member(job, Path(folder), initial=initial)
                (outcome,) = train([member], conditions, *texts)
            found = outcome.evaluation.loss if outcome.evaluation else float("inf")
            yield job.recipe, share, job, found


if __name__ == "__main__":
    main(*sys.argv[1:])
