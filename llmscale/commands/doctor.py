"""`llmscale doctor`: what this machine can do."""

from typing import TYPE_CHECKING, Annotated

import typer

from llmscale.commands import output
from llmscale.quantity import format_bytes, format_seconds

if TYPE_CHECKING:
    from rich.table import Table

    from llmscale.measure.doctor import Report


def doctor(
    full: Annotated[
        bool,
        typer.Option(
            "--full", help="Also compile a small function with torch.compile (up to 30 seconds)."
        ),
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show what this machine can do, and what will be slow.

    Device, number type, compiler, cores, memory, disk, cache, data and packages; limits of
    containers count.

    Example: llmscale doctor --full
    """
    from llmscale.measure.doctor import examine

    report = examine(full)
    if json:
        output.print_json(report.to_json())
        return
    output.results.print(_table(report))
    if report.slow:
        output.results.print("")
        output.results.print(output.styled(("Will be slow", "bold")))
    for note in report.slow:
        output.results.say("  -", "yellow", str(note))


def _table(report: "Report") -> "Table":
    from llmscale.commands._tables import SafeTable

    table = SafeTable.grid(padding=(0, 3))
    for _ in range(3):
        table.add_column(overflow="fold")
    for name, value, detail in _rows(report):
        table.add_row(output.styled((name, "bold")), value, output.styled((detail, "dim")))
    return table


def _rows(report: "Report") -> list[tuple[str, str, str]]:
    device, compiled, cache = report.device, report.compile, report.cache
    speed = f"{device.flops_per_second / 1e9:,.0f} GFLOP/s in matrix products"
    capability = f", capability {device.cuda_capability}" if device.cuda_capability else ""
    took = f" in {format_seconds(compiled.seconds)}" if compiled.seconds is not None else ""
    missing = [name for name, version in report.packages.items() if version is None]
    rows = [
        ("Python", report.python, report.platform),
        (
            "torch",
            report.torch,
            f"CUDA {report.torch_cuda}" if report.torch_cuda else "built without CUDA",
        ),
        (
            "device",
            device.kind,
            f"{device.name}{capability}, {format_bytes(device.memory_free_bytes)} free",
        ),
        ("dtype", device.dtype, f"{device.dtype_reason}; {speed}"),
        ("compile", compiled.status, f"{compiled.detail}{took}"),
        (
            "CPU kernels",
            "missing" if report.no_kernels else "compiled",
            report.no_kernels or "for training on the CPU",
        ),
        ("cores", str(report.cores), f"torch uses {report.threads}"),
        (
            "memory",
            format_bytes(report.memory_bytes),
            f"{format_bytes(report.memory_free_bytes)} free",
        ),
        (
            "cache",
            format_bytes(cache.used_bytes),
            f"{cache.path}, {format_bytes(cache.free_bytes)} free on its disk",
        ),
    ]
    rows += [
        (f"data: {data.name}", format_bytes(data.size_bytes), str(data.path))
        for data in report.data
    ]
    rows.append(("packages", "all there" if not missing else f"missing: {', '.join(missing)}", ""))
    return rows
