"""What a training step does on a GPU, traced without one: python tests/fake_cuda --size 100M
--batch 16 --json
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

TOP = 12
"""Operations that the table names."""


def main() -> int:
    sys.path[0] = str(
        Path(__file__).resolve().parents[1]
    )  # of the package, and not of the files in it
    from fake_cuda.library import FakeCudaError, run

    arguments = parser().parse_args()
    case = {name: value for name, value in vars(arguments).items() if name != "json"}
    try:
        report = run({"step": case})["step"]
    except FakeCudaError as reason:
        sys.stderr.write(f"error: no fake CUDA here: {reason}\n")
        return 1
    sys.stdout.write((json.dumps(report) if arguments.json else table(report)) + "\n")
    return 0 if report["error"] is None else 1


def parser() -> argparse.ArgumentParser:
    """The fields of a Case as options, and --json."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--size", default="1M", help="of shapes: 1M, 6x384x6")
    options.add_argument("--arch", default="llama")
    options.add_argument("--vocab", dest="vocab_size", type=int, default=8192)
    options.add_argument("--context", type=int, default=512)
    options.add_argument(
        "--batch", type=int, default=16, help="sequences a step, for each member of a stack"
    )
    options.add_argument(
        "--micro", dest="micro_batch", type=int, default=16, help="sequences a pass"
    )
    options.add_argument("--dtype", default="bfloat16")
    options.add_argument("--optimizer", default="adamw")
    options.add_argument(
        "--stack", type=int, default=0, help="members of a stack; 0 for a run alone"
    )
    options.add_argument("--checkpointing", action="store_true", help="compute activations twice")
    options.add_argument("--json", action="store_true", help="print one JSON object")
    return options


def table(report: dict[str, Any]) -> str:
    """The figures by phase and of the whole step, what is planned, and the commonest operations of
    the step.
    """
    if report["error"] is not None:
        return "{class}: {message} ({place})".format(**report["error"])
    lines = [f"{'phase':<12}{'launches':>10}{'GB moved':>12}{'TFLOP':>10}{'peak GB':>10}"]
    operations: dict[str, int] = {}
    for name, phase in report["phases"].items():
        lines.append(_row(name, phase))
        if name != "evaluation":
            for operation, count in phase["operations"].items():
                operations[operation] = operations.get(operation, 0) + count
    lines.append(_row("step", report))
    lines.append(
        f"plan: {report['planned_flops'] / 1e12:.4f} TFLOP, {report['planned_bytes'] / 1e9:.3f} GB"
    )
    commonest = sorted(operations.items(), key=lambda pair: -pair[1])[:TOP]
    lines.append("most often: " + ", ".join(f"{name} {count}" for name, count in commonest))
    return "\n".join(lines)


def _row(name: str, figures: dict[str, Any]) -> str:
    moved, peak = figures["bytes"] / 1e9, figures["peak_bytes"] / 1e9
    flops = (figures["matmul_flops"] + figures["attention_flops"]) / 1e12
    return f"{name:<12}{figures['launches']:>10}{moved:>12.3f}{flops:>10.4f}{peak:>10.3f}"


if __name__ == "__main__":
    sys.exit(main())
