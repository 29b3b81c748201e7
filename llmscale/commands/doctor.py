"""`llmscale doctor`: show what this machine can do, and what will be slow."""

from typing import TYPE_CHECKING, Annotated

import typer

from llmscale.commands import output
from llmscale.commands._wrapping import wrapped_lines
from llmscale.errors import counted
from llmscale.quantity import format_bytes, format_seconds

if TYPE_CHECKING:
    from llmscale.measure.doctor import Report

_GAP = 2
"""Columns between a name, its value and the detail."""


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
    show_rows(_rows(report))
    if report.slow:
        output.results.print("")
        output.results.print(output.styled(("Will be slow", "bold")))
    for note in report.slow:
        output.results.say("  -", "yellow", str(note))


def show_rows(rows: list[tuple[str, str, str]]) -> None:
    """A line a row; in a terminal its detail goes on below itself, and no path is broken."""
    console = output.results
    names, values = (max(len(row[place]) for row in rows) + _GAP for place in (0, 1))
    for name, value, detail in rows:
        longest = max(map(len, detail.split()), default=0)
        has_room = not console.wraps or longest <= console.width - names - values
        indent = names + values if has_room else names
        lines = wrapped_lines(detail, console.width, indent) if console.wraps else [detail]
        if not has_room:
            lines = ["", " " * indent + lines[0], *lines[1:]]
        begun = (f"{name:<{names}}", "bold"), f"{value:<{values}}"
        console.print(output.styled(*begun, (lines[0], "dim")), soft_wrap=True)
        for line in lines[1:]:
            console.print(output.styled((line, "dim")), soft_wrap=True)


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
    prepared = [one for one in report.data if cache.path in one.path.parents]
    if prepared:
        size = sum(one.size_bytes for one in prepared)
        texts = counted(len(prepared), "text")
        rows.append(("prepared", format_bytes(size), f"{texts} in {prepared[0].path.parent}"))
    rows += [
        (f"data: {data.name.split()[0]}", format_bytes(data.size_bytes), str(data.path))
        for data in report.data
        if data not in prepared and data.size_bytes
    ]
    rows.append(("packages", "incomplete" if missing else "all there", ", ".join(missing)))
    return rows
