"""`llmscale.export`: a trained model as files that other programs read."""

import os
import re
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmscale.errors import InputError, WorkError
from llmscale.errors.command_lines import command_line
from llmscale.machine.needs import need
from llmscale.measure.train.run_spec import KEPT_DTYPES
from llmscale.measure.trained.exchange.card import model_card
from llmscale.measure.trained.exchange.formats import FORMATS
from llmscale.measure.trained.model import open_model
from llmscale.runs.safe_paths import refuse_unusable
from llmscale.runs.safe_write import cannot_write, make_folder

_PLACE = "name a new folder"
_REPOSITORY = re.compile(r"\w[\w.-]{0,94}\w?/\w[\w.-]{0,94}\w?", re.ASCII)


@dataclass(frozen=True)
class Exported:
    """What was written, and where."""

    folder: Path
    run_id: str
    dtype: str
    bytes: int
    files: tuple[str, ...]
    remarks: tuple[str, ...] = ()
    """What was taken for what, to be said."""
    pushed: str | None = None
    """The repository of a hub that it was sent to."""

    def to_json(self) -> dict[str, Any]:
        return {
            "folder": str(self.folder),
            "run_id": self.run_id,
            "dtype": self.dtype,
            "bytes": self.bytes,
            "files": list(self.files),
            "remarks": list(self.remarks),
            "pushed": self.pushed,
        }


def export(
    run: Path | str,
    folder: Path | str,
    *,
    to: str = "hf",
    dtype: str | None = None,
    push: str | None = None,
    law: Callable[[Path, str], str | None] | str | None = None,
) -> Exported:
    """Write the trained model `run` into the new folder `folder` in the format `to`, with a model
    card; `hf` is what `transformers` loads, with equal logits.

    `dtype` is `bfloat16` or `float32`, by default what its weights are kept in. `law` are words for
    the card, where the run lies on a scaling law, or what gives them for a results folder and the
    run's id (explain.api.on_law). `push` sends it to that repository,
    `OWNER/NAME`, of Hugging Face's hub. The folder appears when it is whole. Raises InputError;
    WorkError if the hub refuses."""
    if dtype not in (None, *KEPT_DTYPES):
        raise InputError(f"dtype {dtype!r} is not known", f"choose {' or '.join(KEPT_DTYPES)}")
    place = _new_folder(Path(folder).expanduser())
    if push is not None:
        _check_push(push)
    member = FORMATS.find(FORMATS.pin(to))
    trained = open_model(run)
    kept = dtype or trained.spec.keep or "float32"
    files = dict(member.files(trained, kept))
    if callable(law):
        law = law(trained.folder.path.parent.parent, trained.run_id)
    files["README.md"] = model_card(trained, push or place.name, law).encode()
    _write_whole(place, files)
    exported = Exported(
        place,
        trained.run_id,
        kept,
        sum(map(len, files.values())),
        tuple(files),
        trained.remarks,
        push,
    )
    if push is not None:
        _push(place, push)
    return exported


def _new_folder(place: Path) -> Path:
    """`place`, unless something is there already. Raises InputError."""
    refuse_unusable(place, _PLACE)
    if place.is_symlink():
        raise InputError(f"{place} is a link", _PLACE)
    if place.is_file() or (place.is_dir() and any(place.iterdir())):
        raise InputError(f"{place} is there already, and not empty", _PLACE)
    return place


def _write_whole(place: Path, files: dict[str, bytes]) -> None:
    """Write `files` into a folder next to `place`, which is renamed once it is whole."""
    parent = make_folder(place.absolute().parent, _PLACE)
    beside = Path(tempfile.mkdtemp(prefix=f".{place.name[:40]}.", suffix=".part", dir=parent))
    try:
        for name, content in files.items():
            with (beside / name).open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        beside.chmod(0o755)
        if place.is_dir():
            place.rmdir()
        beside.replace(place)
    except OSError as error:
        raise cannot_write(place, error, sum(map(len, files.values()))) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _check_push(name: str) -> None:
    need("huggingface_hub", "--push", "'llmscale[models]'")
    if not _REPOSITORY.fullmatch(name):
        raise InputError(f"--push {name!r} cannot be a repository", "name it like OWNER/NAME")


def _push(folder: Path, name: str) -> None:
    """Send the folder to the hub. Raises WorkError; the folder stays."""
    from huggingface_hub import HfApi

    api = HfApi(library_name="llmscale")
    try:
        api.create_repo(name, repo_type="model", exist_ok=True)
        api.upload_folder(repo_id=name, folder_path=folder, commit_message="Add the model")
    except Exception as error:  # of the hub, of the network, of who may do what
        reason = " ".join(str(error).split())[:300]
        again = command_line("hf", "upload", name, folder)
        raise WorkError(
            f"the model is in {folder}, and was not sent to {name}: {reason}",
            f"log in with hf auth login, then: {again}",
        ) from error
