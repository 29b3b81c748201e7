"""Fits that are kept: `fit-LAW.json` holds all that a forecast needs, without the table.

The file begins with what `fit --json` prints. `kept` holds the rest: the options, the reach of the
runs, the bootstrap refits (packed), what forecasts have held, what the budgets say of the best
size, and the fingerprint of the table, by which a fit is known to be of it."""

import base64
import hashlib
import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from llmscale.errors import InputError, Note
from llmscale.errors.command_lines import command_line
from llmscale.errors.printable import one_line, shortened
from llmscale.explain.estimation.holdout import Holdout
from llmscale.explain.estimation.lowest_points import LowestPoints
from llmscale.explain.estimation.needs import OwnNeeds
from llmscale.explain.estimation.options import Options
from llmscale.explain.estimation.reach import Reach
from llmscale.explain.estimation.result import Fit, Origin, Tested, settings_of
from llmscale.explain.fit.fingerprint import fingerprint, law_digest
from llmscale.explain.laws import LAWS, Array, Law
from llmscale.explain.table import Excluded
from llmscale.runs.checked import DamagedFile, WrongValue, check, read_object
from llmscale.runs.json_values import plain
from llmscale.runs.results_folder import ResultsFolder
from llmscale.runs.safe_paths import refuse_links
from llmscale.runs.safe_write import check_file_place, make_folder, write_text
from llmscale.settings.tables import from_table

FORMAT = 1
_BEGINNING = 1 << 16
"""Bytes of a file in which its format stands, also if its keys have been sorted."""
_TEXT_COLUMNS = ("run_id", "title")
_ARRAYS = ("replicates", "noise", "covariance", "intervals")
_PLACE = "name a .json in a folder that you may write to"


def is_kept(source: object) -> bool:
    """Whether `source` names a file that holds a fit, by what it begins with: a table of runs may
    be named as one."""
    if not isinstance(source, (str, os.PathLike)):
        return False
    path = Path(source)
    if path.suffix != ".json" or not path.is_file():
        return False
    with path.open("rb") as stream:
        begins = stream.read(_BEGINNING)
    is_old = all(key in begins for key in (b'"law":', b'"formula":', b'"coefficients":'))
    return begins.lstrip()[:1] == b"{" and (b'"fit_format":' in begins or is_old)


def to_json(fits: Sequence[Fit]) -> dict[str, Any]:
    """The first fit's object with the others under `alternatives`: what `fit --json` prints."""
    return {**fits[0].to_json(), "alternatives": [fit.to_json() for fit in fits[1:]]}


def check_place(folder: Path) -> None:
    """Raise InputError unless fits can be written into this results folder."""
    if not os.access(folder, os.W_OK):
        elsewhere = command_line("llmscale", "fit", ResultsFolder(folder).runs_path)
        raise InputError(
            f"the fit cannot be written into {folder}: the folder is read-only",
            f"fit the file in it, which writes nothing: {elsewhere}",
        )
    refuse_links(folder, with_runs=False)
    for path in folder.glob("fit-*.json"):
        if path.is_dir():
            raise InputError(f"{path} is a folder, in the place of a fit", "move it away")


def check_file(path: Path) -> None:
    """Raise InputError unless a fit can be written into this file."""
    if path.suffix != ".json":
        raise InputError(f"{path} does not end in .json", "name a file like fit-chinchilla.json")
    check_file_place(path, _PLACE)


def keep_in_folder(fits: Sequence[Fit]) -> tuple[Fit, ...]:
    """Write fit-LAW.json for every fit into the results folder they were read from. Raises
    InputError."""
    source = fits[0].table.path
    check_place(source)
    kept = []
    for fit in fits:
        others = [other for other in fits if other is not fit]
        kept.append(keep(fit, ResultsFolder(source).fit_path(fit.law.name), others))
    return tuple(kept)


def keep(fit: Fit, path: Path, others: Sequence[Fit] = ()) -> Fit:
    """Write a fit; the file names the others of its table, too. Raises InputError."""
    make_folder(path.parent, _PLACE)
    payload = {"fit_format": FORMAT, **to_json([fit, *others]), "kept": _kept(fit, path)}
    payload["digest"] = _digest(payload)
    write_text(path, json.dumps(payload, indent=2, allow_nan=False) + "\n")
    return replace(fit, kept=path)


def read_kept(path: Path | str, law: type[Law] | None = None) -> Fit:
    """The fit in a file that `keep` wrote, without its runs. A law of the user's own is given as
    `law`: a file of numbers names no code to run. Raises InputError."""
    path = Path(path)
    payload = _payload(path)
    try:
        kind = _law_of(path, payload, law).with_coefficients(payload["coefficients"])
        fit = _restored(path, payload, kind)
        return _in_folder(fit, path.parent) if payload["kept"].get("in_its_folder") else fit
    except KeyError as error:
        raise _damaged(path, f"it has no {error.args[0]}") from error
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        raise _damaged(path, f"a value of it is wrong: {error}") from error


def table_of(fit_path: Path) -> str:
    """The fingerprint of the table that the fit in a file was made from. Raises InputError."""
    return str(_payload(fit_path)["kept"].get("table"))


def _payload(path: Path) -> dict[str, Any]:
    """What the file holds, if it is whole and of this format."""
    try:
        payload = read_object(path)
    except FileNotFoundError:
        raise InputError(f"there is no file {path}", "fit first: llmscale fit TABLE") from None
    except DamagedFile as error:
        raise _damaged(path, error.reason) from error
    if "fit_format" not in payload:
        if "law" in payload and "coefficients" in payload:
            raise InputError(
                f"{path} was written by an older llmscale, and lacks what a forecast needs",
                _again(payload),
            )
        raise InputError(f"{path} holds no fit that llmscale kept", "fit first: llmscale fit TABLE")
    if payload["fit_format"] != FORMAT:
        raise InputError(
            f"{path} is of format {shortened(repr(payload['fit_format']), 20)}, and this llmscale "
            f"reads {FORMAT}",
            _again(payload),
        )
    if payload.pop("digest", None) != _digest(payload):
        raise _damaged(path, "it has changed since it was written", _again(payload))
    return payload


def _again(payload: Mapping[str, Any]) -> str:
    table, law = payload.get("table"), payload.get("law")
    if not isinstance(table, str) or not isinstance(law, str) or not Path(table).exists():
        return "fit again: llmscale fit TABLE"
    return f"fit again: {command_line('llmscale', 'fit', Path(table), '--law', law)}"


def _damaged(path: Path, reason: str, fix: str = "fit again: llmscale fit TABLE") -> DamagedFile:
    return DamagedFile(path, shortened(one_line(reason), 120), fix)


def _law_of(path: Path, payload: Mapping[str, Any], own: type[Law] | None) -> type[Law]:
    name = payload["law"]
    check(name, str, "law")
    if own is not None and own.name != name:
        raise InputError(f"{path} is the fit of {name}, not of {own.name}", "leave --law out")
    if name in LAWS.names:
        return LAWS.find(name)
    if own is None:
        raise InputError(
            f"{path} is the fit of {name}, which is no law of llmscale's own",
            f"name the file that the law is in: --law ./mine.py:{name}",
        )
    if payload["kept"].get("law_digest") != law_digest(own):
        raise InputError(f"{own.name} has changed since {path} was fitted", _again(payload))
    return own


def _kept(fit: Fit, path: Path) -> dict[str, Any]:
    settings = settings_of(fit.law)
    tested = fit.tested and {
        "coverage": fit.tested.coverage,
        "notes": _notes_json(fit.tested.notes),
        "figures": fit.tested.figures,
        "needs": fit.tested.needs and fit.tested.needs.to_json(),
    }
    return {
        "options": asdict(fit.options),
        "settings": settings,
        "law_digest": law_digest(type(fit.law)),
        "table": fingerprint(fit.table),
        "in_its_folder": fit.origin.path == path.parent,
        "reading": fit.origin.reading,
        "loss_unit": fit.origin.loss_unit,
        "asked": None if fit.origin.asked is None else list(fit.origin.asked),
        "size": fit.origin.size,
        "reach": {
            "ranges": {name: list(ends) for name, ends in fit.reach.ranges.items()},
            "largest": fit.reach.largest,
            "misfit": plain(fit.reach.misfit),
            "off": fit.reach.off,
        },
        "replicates": _packed(fit.replicates),
        "noise": _packed(fit.noise),
        "covariance": _packed(fit.covariance),
        "intervals": _packed(np.array(list(fit.intervals.values()), dtype=float).reshape(-1, 2)),
        "tested": tested,
        "lowest_points": fit.lowest_points and fit.lowest_points.to_json(),
    }


def _restored(path: Path, payload: Mapping[str, Any], kind: type[Law]) -> Fit:
    kept = payload["kept"]
    law = _law_from(kind, payload["coefficients"], kept["settings"])
    options, names = _options(kept["options"]), law.coefficient_names()
    fitted = [name for name in names if options.constraints.value(name) is None]
    arrays = {name: _unpacked(kept[name]) for name in _ARRAYS}
    _check_shapes(arrays, len(names), len(fitted))
    named = zip(fitted, arrays["intervals"].tolist(), strict=False)
    tested = kept["tested"] and Tested(
        kept["tested"]["coverage"],
        _notes(kept["tested"]["notes"]),
        kept["tested"]["figures"],
        _needs(kept["tested"].get("needs")),
    )
    reach = kept["reach"]
    check(reach["largest"], float | None, "reach.largest")
    return Fit(
        law=law,
        options=options,
        origin=_origin(payload),
        reach=Reach(
            {name: (float(low), float(high)) for name, (low, high) in reach["ranges"].items()},
            reach["largest"],
            _number(reach["misfit"]),
            float(reach.get("off", 0.0)),
        ),
        objective=float(payload["objective"]["value"]),
        replicates=arrays["replicates"],
        noise=arrays["noise"],
        bootstrap_method=str(payload["bootstrap_method"]),
        notes=_notes(payload["warnings"]),
        intervals={name: (low, high) for name, (low, high) in named},
        covariance=arrays["covariance"],
        holdout=_holdout(payload["holdout"], kind, kept["settings"]),
        settled=bool(payload["settled"]),
        tested=tested or None,
        lowest_points=_lowest_points(kept.get("lowest_points")),
        kept=path,
    )


def _in_folder(fit: Fit, folder: Path) -> Fit:
    """The fit of a results folder, which may have been moved since: of the one that it is in."""
    if fit.origin.path == folder:
        return fit
    name = re.escape(command_line(fit.origin.path))
    was = re.compile(rf"(?<!\S){name}(?=[\s,;:)]|\.?$|\.\s)")

    def here(notes: Sequence[Note]) -> tuple[Note, ...]:
        now = command_line(folder)
        return tuple(replace(note, message=was.sub(lambda _: now, note.message)) for note in notes)

    tested = fit.tested and replace(fit.tested, notes=here(fit.tested.notes))
    origin = replace(fit.origin, path=folder)
    return replace(fit, origin=origin, notes=here(fit.notes), tested=tested)


def _needs(payload: Mapping[str, Any] | None) -> OwnNeeds | None:
    return None if payload is None else OwnNeeds.from_json(payload)


def _lowest_points(payload: Mapping[str, Any] | None) -> LowestPoints | None:
    return None if payload is None else LowestPoints.from_json(payload)


def _check_shapes(arrays: Mapping[str, Array], count: int, fitted: int) -> None:
    """Raise WrongValue unless the arrays are those of one fit of so many coefficients, of which so
    many are not fixed."""
    refits = len(arrays["replicates"]) if arrays["replicates"].ndim else 0
    right: dict[str, list[tuple[int, ...]]] = {
        "replicates": [(refits, count)],
        "noise": [(refits,)],
        "covariance": [(count, count), (0, 0)],
        "intervals": [(fitted, 2), (0, 2)],
    }
    for name, shapes in right.items():
        if arrays[name].shape not in shapes:
            raise WrongValue(f"its {name} is of shape {arrays[name].shape}, not {shapes[0]}")


def _options(payload: Any) -> Options:
    try:
        return from_table(Options, payload, "its options")
    except InputError as error:
        raise WrongValue(error.problem) from error


def _origin(payload: Mapping[str, Any]) -> Origin:
    excluded = [Excluded(str(run["run_id"]), str(run["reason"])) for run in payload["excluded"]]
    return Origin(
        path=Path(payload["table"]),
        count=str(payload["count"]),
        columns=dict(payload["columns"]),
        reading=str(payload["kept"]["reading"]),
        size=str(payload["kept"]["size"]),
        runs=int(payload["n_runs"]),
        rows=int(payload["n_rows"]),
        excluded=tuple(excluded),
        metric=str(payload.get("metric", "loss")),
        loss_unit=payload["kept"].get("loss_unit"),
        asked=_asked(payload["kept"].get("asked")),
    )


def _asked(words: Any) -> tuple[str, ...] | None:
    return None if words is None else tuple(map(str, words))


def _holdout(
    payload: Mapping[str, Any] | None, kind: type[Law], settings: Mapping[str, Any]
) -> Holdout | None:
    if payload is None:
        return None
    runs = pd.DataFrame(payload["runs"])
    for name in runs.columns:
        if name not in _TEXT_COLUMNS and runs[name].dtype != bool:
            runs[name] = runs[name].astype(float)
    law = _law_of_check(payload["law"], kind)
    return Holdout(payload["rule"], _law_from(law, payload["coefficients"], settings), runs)


def _law_of_check(name: object, kind: type[Law]) -> type[Law]:
    """The law of a held-out check: the fit's own, or a simpler one of llmscale's. Never a file that
    the name is of: what a file of results says is not run."""
    if name == kind.name:
        return kind
    if name not in LAWS.names:
        raise WrongValue(f"holdout.law is {name!r}, which is no law of llmscale's own")
    return LAWS.find(str(name))


def _law_from(kind: type[Law], values: Mapping[str, Any], settings: Mapping[str, Any]) -> Law:
    for name in kind.coefficient_names():
        check(values[name], float, name)
        if not math.isfinite(values[name]):
            raise WrongValue(f"{name} is {values[name]}")
    return kind(*(float(values[name]) for name in kind.coefficient_names()), **settings)


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def _notes(payload: Sequence[Mapping[str, Any]]) -> tuple[Note, ...]:
    return tuple(Note(str(one["code"]), str(one["message"]), one.get("weight")) for one in payload)


def _notes_json(notes: Sequence[Note]) -> list[dict[str, str | int]]:
    return [note.to_json() for note in notes]


def _packed(values: Array) -> dict[str, Any]:
    """An array to the last bit, in half the room that digits take."""
    content = np.ascontiguousarray(values, dtype="<f8").tobytes()
    text = base64.b64encode(content).decode("ascii")
    return {"shape": list(values.shape), "float64": text}


def _unpacked(payload: Mapping[str, Any]) -> Array:
    content = base64.b64decode(payload["float64"])
    return np.frombuffer(content, dtype="<f8").reshape(payload["shape"]).astype(float)


def _digest(payload: Mapping[str, Any]) -> str:
    """Of all but the digest: a file that was cut or changed by hand says nothing that holds."""
    text = json.dumps(payload, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
