"""What else a file can be that is taken for a table: a pointer, a web page, a workbook."""

import html
import io
import json
import re
import zipfile
from pathlib import Path
from typing import Any

from llmscale.errors import InputError
from llmscale.errors.command_lines import command_line

_SAVE = "save the sheet as CSV"
_EXPORT = "write its rows as CSV or parquet, one row a run"
_BINARY: tuple[tuple[bytes, str, str], ...] = (
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Excel workbook (.xls)", _SAVE),
    (b"SQLite format 3\0", "an SQLite database, as Optuna and MLflow write one", _EXPORT),
    (
        b"ARROW1",
        "an Arrow (Feather) file",
        "write it as parquet: pandas.read_feather(FILE).to_parquet('runs.parquet')",
    ),
    (b"\x89HDF\r\n", "an HDF5 file", _EXPORT),
    (b"\x93NUMPY", "an array of NumPy", _EXPORT),
    (b"Obj\x01", "an Avro file", _EXPORT),
    (b"ORC\n", "an ORC file", _EXPORT),
    (b"%PDF", "a PDF", "copy its table into a CSV file"),
    (b"\x89PNG", "a picture (PNG)", "give the table that it was drawn from"),
    (b"\xff\xd8\xff", "a picture (JPEG)", "give the table that it was drawn from"),
    (b"GIF8", "a picture (GIF)", "give the table that it was drawn from"),
    (b"\x7fELF", "a program", "name a table of runs"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it first"),
    (b"Rar!\x1a\x07", "a RAR archive", "unpack it first"),
    (b"\x28\xb5\x2f\xfd", "packed by zstd", "unpack it first: zstd -d FILE"),
    (b"\x04\x22\x4d\x18", "packed by lz4", "unpack it first: lz4 -d FILE"),
    (
        b":W&B",
        "a log of Weights & Biases (.wandb)",
        "export the table of runs of the project as CSV",
    ),
)
_POINTERS = (
    (
        r"version https://(git-lfs|hawser)\.github\.com",
        "a pointer of Git LFS, and not the file itself",
        "fetch the file: git lfs pull",
    ),
    (r"# xet version", "a pointer of Xet, and not the file itself", "fetch the file: git xet pull"),
    (
        r"(\.\./)*(\.git)?/annex/objects/",
        "a pointer of git-annex, and not the file itself",
        "fetch the file: git annex get FILE",
    ),
    (
        r"(md5: [0-9a-f]{32}\n.*)?outs:\n- md5: ",
        "a pointer of DVC, and not the file itself",
        "fetch the file: dvc pull",
    ),
    (r"\\(documentclass|begin\{)", "LaTeX", "write its table as CSV"),
    (r"\{\\rtf", "a document (RTF)", "write its table as CSV"),
    (r"-----BEGIN [A-Z ]+-----", "a key or certificate", "name a table of runs"),
    (
        r"Traceback \(most recent call last\)",
        "the traceback of a program that failed",
        "name a table of runs",
    ),
)
_PAGE = re.compile(
    r"(<!--.*?-->\s*)*<(!doctype html|html|head|body|script|meta|title|div|table)\b", re.I | re.S
)
_PRINTED = re.compile(
    r"^[^,;|\t\n]*?\b(iter(ation)?|step|epoch)s?[ :=]+\d[^\n]*\bloss\b[ "
    r":=]*\d|^\{'(train_|eval_)?loss': ",
    re.IGNORECASE | re.MULTILINE,
)
_SENTENCE = r"(?![{\[])[^,;\t|]* [^,;\t|]*"
_SAYS_NO = ("error", "errors", "message", "detail", "error_message", "fault")


def refuse_binary(content: bytes, file: Path) -> None:
    """Raise InputError for what is no table by its first bytes, saying what it is."""
    for magic, what, fix in _BINARY:
        if content.startswith(magic):
            raise InputError(f"{file} is {what}", fix.replace("FILE", command_line(file)))
    if content[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        raise _zipped(content, file)
    if content[257:262] == b"ustar":
        raise InputError(
            f"{file} is a tar archive", f"unpack it first: tar xf {command_line(file)}"
        )
    if re.match(rb"\x80[\x02-\x05]", content) and content.rstrip().endswith(b"."):
        raise InputError(
            f"{file} is a pickle, which can run code when it is opened",
            "if you trust it, write it as parquet: "
            "pandas.read_pickle(...).to_parquet('runs.parquet')",
        )
    if b"brain.Event:" in content[:64]:
        raise InputError(
            f"{file} is a log of TensorBoard (events of one run)",
            "write a table with a row a run: run_id, params, tokens and the last validation loss "
            "of each",
        )


def refuse_text(text: str, file: Path) -> None:
    """Raise InputError for a text that is no table: a pointer, a web page, a printed log."""
    start = text[:20_000].lstrip("\ufeff \t\r\n")
    for pattern, what, fix in _POINTERS:
        if re.match(pattern, start):
            raise InputError(f"{file} is {what}", fix.replace("FILE", command_line(file)))
    if _PAGE.match(start):
        raise _web_page(start, file)
    if start.startswith("<?xml") or re.match(r"<[A-Za-z][\w:]*(\s[^<>]*)?>", start):
        said = re.search(r"<(Message|Code)>([^<]+)<", start)
        if said:
            raise InputError(f"{file} is an answer of a web server: {_short(said[2])}", _AGAIN)
        raise InputError(f"{file} is XML, not a table of runs", "save the table as CSV")
    if len(_PRINTED.findall(start)) >= 2:
        raise InputError(
            f"{file} is the printed log of one run, a line a step, and a law needs a row a run",
            "write a table with one row a run: params, tokens and the last validation loss of each",
        )
    lines = [line.strip() for line in text[:4000].splitlines() if line.strip()]
    if len(text) < 4000 and len(lines) == 1 and re.fullmatch(_SENTENCE, lines[0]):
        raise InputError(f"{file} holds one line: {_short(lines[0])!r}", _AGAIN)


def refuse_answer(value: Any, file: Path) -> None:
    """Raise InputError for what servers answer in place of a table: {"message": "Not Found"}."""
    if not isinstance(value, dict):
        return
    lists = [item for item in value.values() if isinstance(item, list)]
    runs = [items for items in lists if items and isinstance(items[0], dict) and "loss" in items[0]]
    if runs or any(len(items) > 1 for items in lists):
        return
    said = next((name for name in _SAYS_NO if value.get(name)), None)
    others = [item for name, item in value.items() if name not in ("code", "status")]
    numbers = any(type(item) in (int, float) for item in others)
    if said is not None and not numbers:
        message = value[said]
        while isinstance(message, (dict, list)) and message:
            inner = message
            if isinstance(message, dict):
                inner = [message["message"]] if "message" in message else list(message.values())
            texts = [item for item in inner if isinstance(item, str)]
            message = (texts or inner)[0]
        raise InputError(
            f"{file} is an answer of a web server, not a table: {_short(message)}", _AGAIN
        )


_AGAIN = "download the table again: its address may be wrong, or may need you to log in"


def _short(text: Any) -> str:
    if not isinstance(text, str):
        text = json.dumps(text, default=str)
    line = " ".join(text.split())
    return line if len(line) <= 80 else line[:77] + "..."


def _web_page(start: str, file: Path) -> InputError:
    title = re.search(r"<title[^>]*>(.*?)</title>", start, re.IGNORECASE | re.DOTALL)
    named = f" ({_short(html.unescape(title[1]))!r})" if title and title[1].strip() else ""
    login = re.search(r"sign in|log ?in|password|authenticat", start, re.IGNORECASE)
    if login:
        return InputError(f"{file} is a web page{named} that asks to log in, not a table", _AGAIN)
    fix = "download the file itself: on GitHub its Raw button, on Hugging Face its download button"
    return InputError(f"{file} is a web page{named}, not a table", fix)


def _zipped(content: bytes, file: Path) -> InputError:
    try:
        names = zipfile.ZipFile(io.BytesIO(content)).namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return InputError(f"{file} is a damaged zip archive", "download it again")
    if any(name.startswith("xl/") for name in names):
        return InputError(f"{file} is an Excel workbook", _SAVE)
    if "content.xml" in names:
        return InputError(f"{file} is an OpenDocument spreadsheet", _SAVE)
    if any(name.startswith(("Index/", "Data/")) or name.endswith(".iwa") for name in names):
        return InputError(f"{file} is a Numbers spreadsheet", _SAVE)
    if any(name.startswith("word/") for name in names):
        return InputError(f"{file} is a Word document", "copy its table into a CSV file")
    if names and all(name.endswith(".npy") for name in names):
        return InputError(f"{file} is a file of NumPy arrays (.npz)", _EXPORT)
    inside = next((name for name in names if not name.endswith("/")), "nothing")
    return InputError(
        f"{file} is a zip archive (of {_short(inside)})",
        f"unpack it first: unzip {command_line(file)}",
    )
