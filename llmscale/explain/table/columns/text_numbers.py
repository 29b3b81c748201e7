"""Texts that hold more than a number, `1.0B tokens` or `4.2 ± 0.1`: what to write instead."""

import re

from llmscale.explain.table.columns.names import count_unit

_NUMBER = re.compile(r"[+-]?(?:\d[\d.,\u00a0\u202f ']*\d|\d|[.,]\d+)(?:[eE][+-]?\d+)?")
_THOUSANDS = re.compile(r"[+-]?\d{1,3}([.,]\d{3})+")
_LOSS_UNITS = {"bits": "bits", "bit": "bits", "perplexity": "perplexity", "ppl": "perplexity"}
_DATE = re.compile(r"\d{4}-\d\d?-\d\d?|\d\d?/\d\d?/\d{2,4}\b|\d\d?:\d\d")


def written_plainly(text: str, quantity: str) -> str:
    """`write 1.0B` for the text of a value that is no number; nothing for a name."""
    if _DATE.match(text.strip()):
        return ""
    text = text.lstrip("~≈≃<>≤≥=$€£ ")
    found = _NUMBER.match(text)
    if found is None:
        return ""
    number, after = found[0].strip(), text[found.end() :].strip().lower()
    word = "".join(re.findall(r"\A[^\W\d]+", after))
    scales = [one for one in re.findall(r"[^\W\d]+", after) if count_unit(one)]
    if len(scales) > 1 or word == "mil":
        return ""  # a thousand million; `mil` is a million in English and a thousand in Spanish
    suffix = count_unit(word) or ""
    if quantity == "loss":
        suffix = ""
        if after.startswith("%"):
            unit = "--units loss=accuracy if it is an accuracy in percent"
            return f"write {_pointed(number)}, and {unit}"
        if word in _LOSS_UNITS:
            return f"write {_pointed(number)}, and --units loss={_LOSS_UNITS[word]}"
    if "," in number and "." not in number and _THOUSANDS.fullmatch(number):
        small, large = number.replace(",", ".", 1).replace(",", ""), number.replace(",", "")
        if number.count(",") > 1:
            return f"write {large}{suffix}"
        return f"write {small}{suffix} or {large}{suffix}, whichever is meant"
    return f"write {_pointed(number)}{suffix}"


def _pointed(number: str) -> str:
    """The number with a point for decimals and nothing between thousands."""
    number = re.sub(r"[\u00a0\u202f ']", "", number)
    if "," in number and "." in number:
        decimal = max(number.rfind(","), number.rfind("."))
        whole, part = re.sub("[.,]", "", number[:decimal]), number[decimal + 1 :]
        return f"{whole}.{part}"
    if number.count(",") > 1 or number.count(".") > 1:
        return re.sub("[.,]", "", number)
    return number.replace(",", ".")
