"""What a message says of options, said of the keywords that a call in Python takes."""

import re

_COMMAND = r"llmscale [a-z]+(?: [^;)\n]*)?"
"""To be pasted into a shell, and left as it is."""
_TOKEN = r"""(?:'[^']*'|"[^"]*"|[^\s;()'"])+"""
_SAID = re.compile(rf"{_COMMAND}|--(?P<name>[a-z][a-z-]*)(?: (?P<value>{_TOKEN}))?")
_NO_WORD = re.compile(r"""[\d=./A-Z'"]""")
_NUMBER = re.compile(r"\d+(?:\.\d+)?(?:e[+-]?\d+)?")
_CLAUSE_ENDS = re.compile(r"$|[;)\n]| or | --")

_OF_SENTENCES = ("", "out", "and", "or")


def as_keywords(text: str) -> str:
    """`text` with `law="chinchilla"` for `--law chinchilla`, and `law=` for `--law` by itself."""
    return _SAID.sub(_keyword, text)


def _keyword(found: re.Match[str]) -> str:
    if not found["name"]:
        return found[0]
    name, said = found["name"].replace("-", "_"), found["value"] or ""
    value = said if said.endswith("...") else said.rstrip(",.:?")
    ending = said[len(value) :]
    ends = bool(ending) or _CLAUSE_ENDS.match(found.string, found.end()) is not None
    # Other words belong to the sentence: "leave --law out", "--by goes with ...".
    is_value = _NO_WORD.search(value) or (ends and value not in _OF_SENTENCES)
    if not is_value:
        return f"{name}= {said}".rstrip()
    if not _NUMBER.fullmatch(value) and value[0] not in "'\"":
        mark = "'" if '"' in value else '"'
        value = f"{mark}{value}{mark}"
    return f"{name}={value}{ending}"
