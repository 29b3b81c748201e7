"""The teachers of a sweep's recipes: where their weights are, and what they cost."""

from collections.abc import Iterable, Iterator

from llmscale.measure.sweep.spec import SweepSpec
from llmscale.measure.text.prepare import TokenStore
from llmscale.measure.train.distillation import Distillation
from llmscale.measure.train.job import Job
from llmscale.measure.train.recipe import Recipe
from llmscale.quantity import format_count
from llmscale.runs.shape import Shape


def teachers_of(spec: SweepSpec) -> dict[str, str]:
    """By the digest of a teacher's weights the file that holds them. Raises InputError."""
    from llmscale.measure.train.teacher import find_teacher

    places = {recipe.teacher for recipe in spec.variants.values() if recipe.distill_weight}
    found = [find_teacher(place) for place in sorted(filter(None, places))]
    return {teacher.digest: str(teacher.weights_path) for teacher in found}


def distillation_of(recipe: Recipe, shape: Shape, store: TokenStore) -> Distillation | None:
    """How `shape` is distilled by `recipe` on the text of `store`, or None if its teacher weighs
    nothing. Raises InputError for a teacher of other tokens, or of a shorter context."""
    from llmscale.measure.train.teacher import check_teacher, find_teacher

    if recipe.teacher is None or not recipe.distill_weight:
        return None
    teacher = find_teacher(recipe.teacher)
    check_teacher(teacher, shape, store.path / "tokenizer.json")
    return Distillation(
        teacher.folder.run_id,
        teacher.digest,
        teacher.shape,
        teacher.parametrization,
        recipe.distill_weight,
        recipe.distill_temperature,
    )


def said_of_teachers(jobs: Iterable[Job]) -> Iterator[str]:
    """What is taken for the teacher of each recipe, and what its forward passes add, in words."""
    by_recipe: dict[str, list[Job]] = {}
    for job in jobs:
        if job.distillation is not None:
            by_recipe.setdefault(job.recipe, []).append(job)
    for name, taught in by_recipe.items():
        first = taught[0].distillation
        assert first is not None
        own, teacher = sum(job.flops for job in taught), sum(job.teacher_flops for job in taught)
        yield (
            f"recipe {name}: run {first.teacher} of {format_count(first.shape.params)} parameters "
            f"teaches, with weight {first.weight:g} at temperature {first.temperature:g}; its "
            f"forward passes take {teacher:.3g} FLOPs besides the {own:.3g} of the students, and "
            "flops leaves them out (column teacher_flops)"
        )
