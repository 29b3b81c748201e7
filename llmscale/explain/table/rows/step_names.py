"""Names of checkpoints taken apart: NAME@1000, NAME-step1000, NAME/checkpoint-500."""

import re

_BETWEEN = r"[\s/@:#_.,;|(\[-]"
_STEP = re.compile(
    rf"^(?P<run>.*?){_BETWEEN}*"
    r"(?:@|(?:global[\s_-]?)?(?:train[\s_-]?)?(?:steps?|iters?|iterations?|ckpts?|checkpoints?|chkpt|updates?|epoch|"
    r"revision)[\s_=:@/-]*)"
    r"(?P<step>\d[\d_,]*(?:\.\d+)?)\s*(?P<unit>[kmbt]?)(?:steps?|tokens?|toks?|iters?)?"
    r"(?P<tail>[\])]|[-_.]?(?:unsharded|hf|pt|ckpt|safetensors|bin|tokens\d+[kmbt]))*$",
    re.IGNORECASE,
)
_STEP_AFTER = re.compile(
    rf"^(?P<run>.*?){_BETWEEN}+(?P<step>\d[\d_,]*)(?P<unit>[km]?)[\s_-]*(?:steps?|iters?|its?|updates?)$",
    re.IGNORECASE,
)


def bare_step(text: str) -> float | None:
    """1000 of `step1000`, `checkpoint-1000` or `1000`; None for a text that says more."""
    if re.fullmatch(r"\s*\d+(\.\d+)?\s*", text):
        return float(text)
    part = with_step(text.strip())
    if not part or part[0]:
        return None
    return part[1]


def with_step(text: str) -> tuple[str, float] | None:
    """The run and step of `NAME@1000`, `NAME-step1000` and the like; None for other names."""
    found: tuple[str, float] | None = None
    run = text
    while run and (match := _STEP.match(run) or _STEP_AFTER.match(run)):
        unit = {"": 1.0, "k": 1e3, "m": 1e6, "b": 1e9, "t": 1e12}[match["unit"].lower()]
        step = float(match["step"].replace(",", "").replace("_", "")) * unit
        run = match["run"]
        found = (run, step if found is None else found[1])
    return found


_TOKENS = re.compile(
    rf"^(?P<run>.+?){_BETWEEN}+(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>[kmbgt])[\s_-]*(?:tokens?|toks?)?$",
    re.IGNORECASE,
)
_UNITS = {"k": 1e3, "m": 1e6, "b": 1e9, "g": 1e9, "t": 1e12}


def with_tokens(text: str) -> tuple[str, float] | None:
    """The run and the tokens of `NAME_5B` or `NAME-10Btokens`; None for other names."""
    match = _TOKENS.match(text)
    if match is None:
        return None
    return match["run"], float(match["number"]) * _UNITS[match["unit"].lower()]
