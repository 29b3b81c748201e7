"""Formats that models are exported to and imported from: `--to hf` is formats/hf.py.

A member defines `files(trained, dtype) -> dict`, the content of each file by its name, in bytes;
and `read(folder) -> Imported`. A format of one's own is such a module in a file anywhere, `--to
./mine.py`."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmscale.menu import Menu
from llmscale.runs.shape import Shape

if TYPE_CHECKING:
    from torch import Tensor


IMPORTED = "imported from "
"""How the text of an imported model is called: by this and the model's own name."""


@dataclass(frozen=True)
class Imported:
    """A model as another program left it, in the terms of this one."""

    shape: Shape
    weights: "Mapping[str, Tensor]"
    """By their names in `LanguageModel`, of the shapes that it has."""
    tokenizer: Path
    """Its tokenizer.json."""
    name: str
    remarks: tuple[str, ...] = ()
    """What was taken for what, to be said."""


FORMATS: Menu[Any] = Menu(__name__, "format", "--to", own="my_format")
