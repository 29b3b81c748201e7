"""What is looked at in a tokenizer.json before it is loaded: numbers, and what is not used."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from llmscale.errors import InputError
from llmscale.runs.checked import known_object

_MANY_UNUSED: Final = 0.02
"""Share of the numbers without a token: published tokenizers leave fewer for later use."""


def check_tokenizer_file(path: Path, largest: int) -> tuple[str, ...]:
    """Raise InputError if a number is not below `largest`, for loading and models take as much
    room as the largest number, or if two tokens share one. What it returns is to be said:
    settings that are not used, and gaps."""
    state = known_object(path)  # whoever loads it will say if there is none
    numbers = _numbers(state)
    if not numbers:
        return ()
    token, top = max(numbers.items(), key=lambda item: item[1])
    if top >= largest:
        raise InputError(
            f"{path} gives {token!r} the number {top:,}, and a vocabulary has at most {largest:,}",
            "number its tokens from 0 on, without gaps",
        )
    holder: dict[int, str] = {}
    for token, number in numbers.items():
        first = holder.setdefault(number, token)
        if first != token:
            raise InputError(
                f"{path} gives {first!r} and {token!r} the same number {number:,}",
                "give every token a number of its own, from 0 on",
            )
    return tuple(_remarks(state, numbers, top))


def end_beside(path: Path) -> str | None:
    """The end of text that the tokenizer's configuration next to `path` names, or None."""
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        token = known_object(path.with_name(name)).get("eos_token")
        if isinstance(token, dict):
            token = token.get("content")
        if isinstance(token, str) and token:
            return token
    return None


@contextmanager
def reading_tokenizer(problem: str, fix: str) -> Iterator[None]:
    """Turn what the tokenizers library raises, bare Exceptions and panics, into an InputError."""
    try:
        yield
    except InputError:
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__module__ != "pyo3_runtime":
            raise
        raise InputError(f"{problem}: {error}", fix) from error


def _remarks(state: Mapping[str, Any], numbers: Mapping[str, int], top: int) -> Iterator[str]:
    model = state.get("model")
    kept = model if isinstance(model, dict) else {}
    for chance in ("dropout", "alpha", "nbest_size"):
        if kept.get(chance):
            unused = f"the tokenizer's {chance} of {kept[chance]} is not used"
            yield f"{unused}: the same text must give the same tokens"
    ignored = [part for part in ("truncation", "padding") if state.get(part)]
    if ignored:
        yield f"the tokenizer's {' and '.join(ignored)} is not used: documents are read whole"
    gaps = top + 1 - len(numbers)
    if gaps > _MANY_UNUSED * (top + 1):
        empty = f"{gaps:,} of the tokenizer's {top + 1:,} numbers have no token"
        yield f"{empty}: the model has weights for all of them"


def _numbers(state: Mapping[str, Any]) -> dict[str, int]:
    """The number of every token, as far as this is a tokenizer.json at all."""
    found: dict[str, int] = {}
    model = state.get("model")
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    if isinstance(vocabulary, dict):
        found |= {token: number for token, number in vocabulary.items() if isinstance(number, int)}
    elif isinstance(vocabulary, list):
        found |= {
            str(entry[0]): place
            for place, entry in enumerate(vocabulary)
            if isinstance(entry, list) and entry
        }
    added = state.get("added_tokens")
    for entry in added if isinstance(added, list) else ():
        if isinstance(entry, dict) and isinstance(entry.get("id"), int):
            found[str(entry.get("content"))] = entry["id"]
    return found
