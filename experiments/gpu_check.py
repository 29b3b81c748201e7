"""Everything that needs a GPU, in one run of some minutes: does it train right, how fast, and what
law comes out.

    python3 experiments/gpu_check.py --budget 530 --data 'corpus/*.jsonl.xz' --peer nanoGPT --out
    results/gpu-h100

Steps in processes of their own, each with a limit: the machine and its peaks; correctness against
the CPU, of resumed and of killed runs; training speed, in turn with nanoGPT's (a checkout of
github.com/karpathy/nanoGPT); kernels of a step; a sweep with its law and figures. What does not fit
into --budget seconds is left out, the least important first. What each step has found is a line of
OUT/check.jsonl before the next one begins; OUT/README.md shows all of it, and OUT/results.tgz packs
it with the tables and figures. `--only speed,law` runs some steps, again or for the first time,
into the same folder.

`--device cpu` goes the same way in small, without a GPU. It needs no installation, and of
llmscale's packages not `datasets`. Exit code 1 if a row of correctness has failed, 130 after
Ctrl-C, which keeps what was found."""

import argparse
import os
import shlex
import signal
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
for folder in (ROOT, ROOT / "experiments"):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
if str(ROOT / "benchmarks") not in sys.path:
    sys.path.append(str(ROOT / "benchmarks"))  # nanoGPT is timed as benchmarks/train.py does it

from gpu.leader import Journal, Leader, Machine  # noqa: E402
from gpu.packing import copy_tables, pack  # noqa: E402
from gpu.report import is_correct, markdown, parts, show  # noqa: E402
from gpu.settings import Settings, add_options, settings_for  # noqa: E402
from gpu.steps import check_kinds, limited, list_steps, pick  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.markup import escape  # noqa: E402

from llmscale.errors import LlmscaleError  # noqa: E402

EXIT_INTERRUPTED = 130
CORES_A_STEP = 4
"""Of steps that share the machine: compilers run on several cores."""
console = Console(highlight=False, width=None if sys.stdout.isatty() else 150)


def main() -> int:
    parser = make_parser()
    options = parser.parse_args()
    only = options.only.split(",") if options.only else []
    try:
        limits = parse_limits(options.limit or "")
        check_kinds([*only, *limits])
    except ValueError as error:
        parser.error(str(error))
    out = options.out.resolve()
    set_environment(out)
    journal = Journal(out / "check.jsonl", tell)
    leader = Leader(out / "work", journal, options.budget)
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, leader.interrupt)
    try:
        found = leader.ask("hardware:look", {"device": options.device})
    except RuntimeError as error:
        parser.error(f"the device {options.device} cannot be used: {error}")
    try:
        settings = settings_for(found["device"], found["dtype"], options)
        steps = list_steps(settings, found["cores"], found["memory_bytes"])
        steps = pick(limited(steps, limits), only) if only else limited(steps, limits)
    except (LlmscaleError, ValueError) as error:
        parser.error(str(error))
    if options.list:
        for step in steps:
            console.print(
                f"{step.name:40} {step.seconds:4.0f} s of {step.limit:4.0f}  {step.missing}"
            )
        return 0
    leader.run(steps, Machine(max(2, found["cores"] // CORES_A_STEP), found["memory_bytes"]))
    return finish(settings, journal, leader.interrupted)


def finish(settings: Settings, journal: Journal, interrupted: bool) -> int:
    """Show and pack what was found; the exit code."""
    copy_tables(settings.sweep, settings.out)
    steps = journal.latest()
    found = parts(steps)
    command = shlex.join(["python3", "experiments/gpu_check.py", *sys.argv[1:]])
    (settings.out / "README.md").write_text(markdown(steps, found, command), encoding="utf-8")
    show(console, found)
    packed = pack(settings.out, settings.work)
    console.print(f"{'stopped; ' if interrupted else ''}all of it: {packed}", soft_wrap=True)
    if interrupted:
        return EXIT_INTERRUPTED
    return 0 if is_correct(steps) else 1


def tell(text: str) -> None:
    console.print(escape(text), soft_wrap=True)


def set_environment(out: Path) -> None:
    """What all processes of the check share: the checkout on their path, and a cache of compiled
    kernels.
    """
    paths = [str(ROOT), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    os.environ["PYTHONPATH"] = os.pathsep.join(paths)
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(out / "work" / "inductor"))
    os.environ.setdefault("MPLBACKEND", "Agg")


def parse_limits(text: str) -> dict[str, float]:
    """Seconds by kind of step, of `profile=20,sweep=300`. Raises ValueError."""
    pairs = [part.partition("=") for part in text.split(",") if part]
    return {kind: float(seconds) for kind, _, seconds in pairs}


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="results folder")
    parser.add_argument("--budget", type=float, default=530.0, help="seconds for everything")
    parser.add_argument(
        "--limit", metavar="STEP=SECONDS,...", help="other limits than those that --list shows"
    )
    parser.add_argument("--only", metavar="STEP,...", help="steps to run, as speed or speed:100M")
    parser.add_argument("--list", action="store_true", help="list the steps, and run none")
    parser.add_argument("--device", default="auto", help="auto, cuda or cpu")
    parser.add_argument(
        "--peer", type=Path, help="a checkout of nanoGPT, to be timed in turn with ours"
    )
    add_options(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
