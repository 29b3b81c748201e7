"""Command lines that are printed to be pasted."""

import re
import shlex
from pathlib import PurePath

from llmscale.errors.printable import clean, masked

_IN_QUOTES = re.compile(r"""'[^']*'|"[^"]*"|\\.""")
_BARE = re.compile(r"[\w./:+-]+")
_BARE_NAME = re.compile(r"[^\W\d][\w./:+-]*")
"""What a condition holds without quotes: a value, and a column's name."""
_SHELL = re.compile(r"[;&|<>()`$#]")
"""Outside of quotes: what ends a command, sends its output elsewhere or has the shell fill
something in."""
_UNSHOWN = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def command_line(*parts: object) -> str:
    """A command of its parts, each quoted for the shell; keys in URLs are masked. A path that
    begins with - is written ./-, so that it is not read as an option."""
    return " ".join(_quoted(part) for part in parts)


def condition(column: object, sign: str, *values: object) -> str:
    """A condition as --where reads it: `data == "it's"`, each name and value in quotes if it needs
    them."""
    name = _stated(column, may_be_number=False)
    return f"{name} {sign} {', '.join(_stated(value) for value in values)}"


def where_option(column: object, sign: str, *values: object) -> str:
    """`--where CONDITION`, quoted for the shell."""
    return command_line("--where", condition(column, sign, *values))


def stated_command(text: object, *verbs: str) -> str | None:
    """A command that a file states, quoted anew from its parts; None unless it is plainly `llmscale
    VERB ...`. `verbs` are the commands that it may be."""
    if not isinstance(text, str) or clean(text) != text or "\n" in text or "\t" in text:
        return None
    try:
        parts = shlex.split(text)
    except ValueError:
        return None
    if _SHELL.search(_IN_QUOTES.sub("", text)):
        return None
    if len(parts) < 2 or parts[0] != "llmscale" or parts[1] not in verbs:
        return None
    return command_line(*parts)


def _stated(part: object, *, may_be_number: bool = True) -> str:
    """A name or a value of a condition. A quotation mark within quotes of its own kind stands
    twice."""
    text = str(part)
    bare = _BARE if may_be_number else _BARE_NAME
    if bare.fullmatch(text) and text.lower() not in ("and", "in", "not"):
        return text
    mark = next((mark for mark in "\"'`" if mark not in text), '"')
    return f"{mark}{text.replace(mark, 2 * mark)}{mark}"


def _quoted(part: object) -> str:
    text = str(part)
    if isinstance(part, PurePath) and text.startswith("-"):
        text = f"./{text}"
    if _UNSHOWN.search(text) or clean(text) != text:
        # As bash and zsh read it: a name may hold what no terminal should be shown.
        return "$'" + "".join(_escaped(letter) for letter in text) + "'"
    return shlex.quote(masked(text))


def _escaped(letter: str) -> str:
    if letter in "\\'":
        return "\\" + letter
    if _UNSHOWN.match(letter) or clean(letter) != letter:
        return "".join(f"\\x{byte:02x}" for byte in letter.encode("utf-8", "surrogateescape"))
    return letter
