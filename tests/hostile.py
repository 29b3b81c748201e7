"""A folder as a stranger might have packed it: with modules of well-known names, which tell if they
were run.
"""

from pathlib import Path

NAMES = (
    "statistics",
    "tokenizers",
    "queue",
    "pickle",
    "json",
    "socket",
    "numpy",
    "torch",
    "pyarrow",
    "llmscale",
)


def hostile_modules(folder: Path, but: tuple[str, ...] = ()) -> Path:
    """Write them into `folder`, and give the file that appears when one of them is run."""
    folder.mkdir(parents=True, exist_ok=True)
    mark = folder / "it-ran"
    for name in set(NAMES) - set(but):
        (folder / f"{name}.py").write_text(
            f"open({str(mark)!r}, 'a').write({name!r})\n", encoding="utf-8"
        )
    return mark
