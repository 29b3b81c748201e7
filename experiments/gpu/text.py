"""A small text that can be made anywhere: numbers in words."""

import json
import os
from pathlib import Path

DOCUMENTS, NUMBERS = 300, 60
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def write_counting(folder: Path) -> Path:
    """`counting.jsonl` in `folder`: documents that count on, digit by digit, half a megabyte."""
    path = folder / "counting.jsonl"
    if path.exists():
        return path
    lines = []
    for document in range(DOCUMENTS):
        first = document * 37
        spelled = [
            " ".join(DIGITS[int(digit)] for digit in str(number))
            for number in range(first, first + NUMBERS)
        ]
        lines.append(json.dumps({"text": "; ".join(spelled)}))
    beside = folder / f".counting.{os.getpid()}.part"
    beside.write_text("\n".join(lines) + "\n", encoding="utf-8")
    beside.replace(path)
    return path
