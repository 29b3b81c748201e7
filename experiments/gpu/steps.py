"""The list of steps of experiments/gpu_check.py: in their order, with what each may take and how
much it matters.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from gpu.settings import Settings
from llmscale.measure.sweep.batches import micro_batch
from llmscale.runs.shape import Shape, shape_for

ARCHITECTURES = ("llama", "gpt2")
COMPARED = 3
"""Priority of what is compared with nanoGPT first, after correctness, the sweep and its law."""
SWEEP_BATCH = 16
"""Sequences a step of the rows that are timed as the sweep trains: by the batch rule for 20M tokens
at context 512.
"""
WARM_UNTIL, WARM_FEWER_UNTIL = 0.3, 0.2
"""Shares of the budget after which no more is compiled ahead: of what matters most, and of the
rest.
"""
EXPECTED: dict[str, dict[str, tuple[float, float]]] = {
    "cuda": {
        "hardware": (4, 30),
        "peaks": (8, 40),
        "data": (45, 150),
        "correctness": (40, 120),
        "warm": (30, 100),
        "speed": (14, 70),
        "profile": (15, 60),
        "sweep": (170, 280),
        "law": (20, 60),
        "long": (100, 160),
        "ladder": (110, 180),
    },
    "cpu": {
        "hardware": (1, 300),
        "peaks": (1, 300),
        "data": (1, 300),
        "correctness": (3, 300),
        "warm": (1, 300),
        "speed": (1, 300),
        "profile": (1, 300),
        "sweep": (8, 300),
        "law": (4, 300),
        "long": (40, 300),
        "ladder": (40, 300),
    },
}
"""By device and kind of step: seconds that it is expected to take, and after how many it is ended.
Those of CUDA are guesses from a model of an H100; nothing but what is left out follows from
them."""


@dataclass(frozen=True)
class Step:
    """A function of this package to run in a process of its own."""

    name: str
    """`kind:details`; --only takes any number of the parts from the left."""
    function: str
    """`module:function`; it yields rows."""
    arguments: dict[str, Any]
    seconds: float
    """Expected."""
    limit: float
    priority: int
    """1 for what matters most."""
    shares: bool = False
    """Whether others may run beside it: nothing is timed in it."""
    memory_bytes: int = 0
    """Of the GPU, about, where it shares it."""
    latest: float = math.inf
    """Share of the budget after which it is not begun any more."""
    missing: str = ""
    """Why it cannot be run here."""
    reads: str = ""
    """A file that an earlier step writes, without which it is not begun."""
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        return self.name.partition(":")[0]


def list_steps(settings: Settings, cores: int, memory_bytes: int) -> list[Step]:
    """All steps, for a machine of so many cores whose device has so much memory."""
    steps = _Steps(settings, cores, memory_bytes)
    return [
        *steps.machine(),
        *steps.correctness(),
        *steps.warmers(),
        *steps.timed(),
        *steps.profiles(),
        *steps.sweep(),
    ]


def pick(steps: Sequence[Step], only: Sequence[str]) -> list[Step]:
    """Those of `steps` that have one of the names, or begin with it.

    Raises ValueError for names of none.
    """
    for name in only:
        if not any(_is_named(step, name) for step in steps):
            raise ValueError(f"there is no step {name!r}; --list names all")
    return [step for step in steps if any(_is_named(step, name) for name in only)]


def limited(steps: Sequence[Step], limits: Mapping[str, float]) -> list[Step]:
    """`steps` with other limits, by kind."""
    return [replace(step, limit=limits.get(step.kind, step.limit)) for step in steps]


def check_kinds(names: Iterable[str]) -> None:
    """Raise ValueError where there is no such kind of step as a name begins with."""
    kinds = EXPECTED["cuda"]
    for name in names:
        if name.partition(":")[0] not in kinds:
            raise ValueError(f"there is no step {name!r}; there are {', '.join(kinds)}")


def _is_named(step: Step, name: str) -> bool:
    return f"{step.name}:".startswith(f"{name}:")


class _Steps:
    def __init__(self, settings: Settings, cores: int, memory_bytes: int) -> None:
        self.settings, self.cores, self.memory_bytes = settings, cores, memory_bytes

    @property
    def _dtype(self) -> dict[str, Any]:
        return {"dtype": self.settings.dtype}

    def machine(self) -> Iterator[Step]:
        yield self._step("hardware", "hardware:describe", {}, 1)
        yield self._step("peaks", "hardware:measure_peaks", self._dtype, 1)
        yield self._step("data", "sweeping:prepare_text", self._text(), 1, shares=True)

    def correctness(self) -> Iterator[Step]:
        compiled = {"compile": self.settings.compile}
        where = {"work": str(self.settings.work), **self._dtype}
        yield self._step("correctness:killed", "resuming:killed", where, 1, shares=True)
        for arch in ARCHITECTURES:
            asked = {"arch": arch, **compiled}
            yield self._step(
                f"correctness:{arch}", "correctness:against_cpu", asked, 1, shares=True
            )
        yield self._step(
            "correctness:training",
            "correctness:training",
            {**compiled, **self._dtype},
            1,
            shares=True,
        )
        yield self._step(
            "correctness:resumed", "resuming:interrupted", {**compiled, **where}, 1, shares=True
        )

    def timed(self) -> Iterator[Step]:
        """Ours and nanoGPT's in turn, then ours in other ways."""
        for place, batch in enumerate(self.settings.batches):
            for size in self.settings.timed_sizes:
                if place == 0:
                    priority = COMPARED
                else:
                    priority = 4 if size == self.settings.timed_sizes[0] else 5
                yield from self._pair("speed", size, batch, priority)
        settings = self.settings
        for compiled in (True, False) if settings.compile else (False,):
            for size in settings.timed_sizes:
                how = "compiled" if compiled else "eager"
                shape = shape_for(size, vocab_size=settings.vocab_size, context=settings.context)
                yield self._ours(
                    "speed", how, size, shape, SWEEP_BATCH, 4 if compiled else 6, compile=compiled
                )
        smallest, largest = settings.timed_sizes[-1], settings.timed_sizes[0]
        first = settings.batches[0]
        stack = {"seeds": settings.seeds, "compile": settings.compile}
        yield self._ours(
            "speed",
            f"stack-of-{settings.seeds}",
            smallest,
            self._shape(smallest),
            first,
            4,
            **stack,
        )
        muon = {"optimizer": "muon", "compile": settings.compile}
        yield self._ours("speed", "muon", largest, self._shape(largest), first, 5, **muon)

    def warmers(self) -> Iterator[Step]:
        """Two steps and a little more of what is timed compiled, so that the timed rows find it
        compiled.
        """
        timed = [step for step in self.timed() if step.arguments["compile"] and not step.missing]
        for step in sorted(timed, key=lambda step: step.priority):
            arguments = {**step.arguments, "seconds": 0.0, "steps_a_point": 1}
            name = f"warm:{step.name.partition(':')[2]}"
            threads = {"TORCHINDUCTOR_COMPILE_THREADS": str(max(1, self.cores // 4))}
            yield self._step(
                name,
                step.function,
                arguments,
                step.priority,
                shares=True,
                memory_bytes=_memory(step.arguments),
                latest=WARM_UNTIL if step.priority <= COMPARED else WARM_FEWER_UNTIL,
                environment=threads,
            )

    def profiles(self) -> Iterator[Step]:
        settings = self.settings
        for size in settings.timed_sizes[:2]:
            shape = self._shape(size)
            asked = {
                "size": size,
                "shape": asdict(shape),
                "batch_sequences": settings.batches[0],
                "micro_batch": self._micro_batch(shape, settings.batches[0]),
                "dtype": settings.dtype,
                "compile": settings.compile,
                "folder": str(settings.out),
            }
            yield self._step(f"profile:{size}", "profiling:profile_steps", asked, COMPARED)

    def sweep(self) -> Iterator[Step]:
        """The sweep and its law; then what is left time for."""
        settings = self.settings
        sweep = str(settings.sweep)
        cold = {"TORCHINDUCTOR_CACHE_DIR": str(settings.work / "inductor-sweep")}
        asked = {
            **self._text(),
            **self._dtype,
            "context": settings.context,
            "sizes": settings.sizes,
            "tokens": settings.tokens,
        }
        yield self._step("sweep", "sweeping:sweep", {**asked, "folder": sweep}, 2, environment=cold)
        table = str(settings.sweep / "runs.parquet")
        yield self._step("law", "sweeping:fit_law", {"folder": sweep}, 1, reads=table)
        yield self._step("peaks:again", "hardware:measure_peaks", self._dtype, 4)
        peer = {"peer": str(settings.peer), "compile": settings.compile, "folder": sweep}
        cold = {"TORCHINDUCTOR_CACHE_DIR": str(settings.work / "inductor-ladder")}
        missing = "" if settings.peer else "no --peer"
        yield self._step(
            "ladder", "speed:derive_ladder", peer, 6, missing=missing, reads=table, environment=cold
        )
        size, tokens = settings.long
        longer = {**asked, "sizes": size, "tokens": tokens, "folder": str(settings.work / "long")}
        yield self._step("long", "sweeping:sweep", longer, 7)

    def _pair(self, kind: str, size: str, batch: int, priority: int) -> Iterator[Step]:
        settings, shape = self.settings, self._shape(size)
        yield self._ours(kind, "llmscale", size, shape, batch, priority, compile=settings.compile)
        asked = {
            **self._timed(size, shape, batch),
            "peer": str(settings.peer),
            "compile": settings.compile,
        }
        name = f"{kind}:{_case(size, shape, batch)}:nanogpt"
        missing = "" if settings.peer else "no --peer"
        yield self._step(name, "speed:time_nanogpt", asked, priority, missing=missing)

    def _ours(
        self, kind: str, how: str, size: str, shape: Shape, batch: int, priority: int, **asked: Any
    ) -> Step:
        seeds = asked.get("seeds", 1)
        arguments = {**self._timed(size, shape, batch, seeds), **asked}
        return self._step(
            f"{kind}:{_case(size, shape, batch)}:{how}", "speed:time_ours", arguments, priority
        )

    def _timed(self, size: str, shape: Shape, batch: int, seeds: int = 1) -> dict[str, Any]:
        return {
            "size": size,
            "shape": asdict(shape),
            "batch_sequences": batch,
            "micro_batch": self._micro_batch(shape, batch, seeds),
            "dtype": self.settings.dtype,
            "seconds": self.settings.seconds,
        }

    def _shape(self, size: str) -> Shape:
        return shape_for(
            size, vocab_size=self.settings.timed_vocab_size, context=self.settings.timed_context
        )

    def _micro_batch(self, shape: Shape, batch: int, seeds: int = 1) -> int:
        """Of the whole memory, so that what is compiled ahead has the sizes of what is timed."""
        return micro_batch(shape, batch, self.settings.device, self.memory_bytes, members=seeds)

    def _text(self) -> dict[str, Any]:
        return {
            "data": self.settings.data,
            "tokenizer": self.settings.tokenizer,
            "work": str(self.settings.work),
        }

    def _step(
        self, name: str, function: str, arguments: dict[str, Any], priority: int, **more: Any
    ) -> Step:
        seconds, limit = EXPECTED[self.settings.device][name.partition(":")[0]]
        return Step(
            name,
            function,
            {"device": self.settings.device, **arguments},
            seconds,
            limit,
            priority,
            **more,
        )


def _case(size: str, shape: Shape, batch: int) -> str:
    return f"{size}:{batch}x{shape.context}"


def _memory(arguments: dict[str, Any]) -> int:
    """Bytes of the GPU that a timed row takes, about."""
    shape = Shape(**arguments["shape"])
    return arguments.get("seeds", 1) * shape.memory_bytes(
        arguments["micro_batch"], activation_bytes=2
    )
