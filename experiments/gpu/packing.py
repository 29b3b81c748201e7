"""results.tgz: what somebody elsewhere needs of a check, without weights, caches and the text."""

import io
import shutil
import tarfile
from pathlib import Path

TABLES = ("sweep.json", "runs.parquet", "curves.parquet", "fit-*.json", "figures/*")
"""Of a results folder."""
FOUND = ("check.jsonl", "README.md", "profile-*.txt", "profile-*.json", *TABLES)
LOG_BYTES = 200_000
"""Of each log, from its end."""
NAME = "results.tgz"


def copy_tables(sweep: Path, out: Path) -> None:
    """The tables, laws and figures of the sweep, beside the rest."""
    for pattern in TABLES:
        for path in sweep.glob(pattern):
            target = out / path.relative_to(sweep)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)


def pack(out: Path, work: Path) -> Path:
    """Write results.tgz into `out`, beside its place and renamed; the ends of the logs are in
    it.
    """
    target = out / NAME
    beside = target.with_name(f".{NAME}.part")
    with tarfile.open(beside, "w:gz") as archive:
        for pattern in FOUND:
            for path in sorted(out.glob(pattern)):
                archive.add(path, path.relative_to(out).as_posix())
        for path in sorted(work.glob("long/*.parquet")):
            archive.add(path, path.relative_to(work).as_posix())
        for path in sorted((work / "logs").glob("*.log")):
            _add_end(archive, path, f"logs/{path.name}")
    beside.replace(target)
    return target


def _add_end(archive: tarfile.TarFile, path: Path, name: str) -> None:
    content = path.read_bytes()[-LOG_BYTES:]
    entry = tarfile.TarInfo(name)
    entry.size, entry.mtime = len(content), int(path.stat().st_mtime)
    archive.addfile(entry, io.BytesIO(content))
