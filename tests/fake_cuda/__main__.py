"""What a training step does on a GPU, traced without one: python tests/fake_cuda --size 100M --batch 16 --json"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

TOP = 12
"""Operations that the table names."""


def main() -> int:
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # of the package, and not of the files in it
    from fake_cuda.library import FakeCudaError, run

    arguments = _parser().parse_args()
    case = {name: value for name, value in vars(arguments).items() if name != "json"}
    try:
        report = run({"step": case})["step"]
    except FakeCudaError as reason:
        sys.stderr.write(f"error: no fake CUDA here: {reason}\n")
        return 1
    sys.stdout.write((json.dumps(report) if arguments.json else _table(report)) + "\n")
    return 0 if report["error"] is None else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="1M", help="of shapes: 1M, 6x384x6")
    parser.add_argument("--arch", default="llama")
    parser.add_argument("--vocab", dest="vocab_size", type=int, default=8192)
    parser.add_argument("--context", type=int, default=512)
    parser.add_argument("--batch", type=int, default=16, help="sequences a step, for each member of a stack")
    parser.add_argument("--micro", dest="micro_batch", type=int, default=16, help="sequences a pass")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--optimizer", default="adamw")
    parser.add_argument("--stack", type=int, default=0, help="members of a stack; 0 for a run alone")
    parser.add_argument("--checkpointing", action="store_true", help="compute activations twice")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def _table(report: dict[str, Any]) -> str:
    """The figures by phase, of the whole step, and the commonest operations."""
    if report["error"] is not None:
        return "{class}: {message} ({place})".format(**report["error"])
    lines = [f"{'phase':<12}{'launches':>10}{'GB moved':>12}{'TFLOP':>10}{'peak GB':>10}"]
    rows = dict(report["phases"])
    rows["step"] = report
    for name, row in rows.items():
        flops = row["matmul_flops"] + row["attention_flops"]
        figures = (row["bytes"] / 1e9, flops / 1e12, row["peak_bytes"] / 1e9)
        lines.append(f"{name:<12}{row['launches']:>10}{figures[0]:>12.3f}{figures[1]:>10.4f}{figures[2]:>10.3f}")
    lines.append(f"planned: {report['planned_flops'] / 1e12:.4f} TFLOP, {report['planned_bytes'] / 1e9:.3f} GB")
    counts: dict[str, int] = {}
    for name, phase in report["phases"].items():
        if name != "evaluation":
            for operation, count in phase["operations"].items():
                counts[operation] = counts.get(operation, 0) + count
    commonest = sorted(counts.items(), key=lambda pair: -pair[1])[:TOP]
    lines.append("commonest: " + ", ".join(f"{name} {count}" for name, count in commonest))
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
