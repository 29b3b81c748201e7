"""Two kinds of text that every machine has, for experiments/transfer.py: what this Python's
standard library says in docstrings and comments, and the functions of other modules without."""

import ast
import re
import zlib
from collections.abc import Iterator

from llmscale.measure.text.sources import open_source

COMMENT = re.compile(r"^\s*#+ ?(.*\w.*)$", re.MULTILINE)
LONGEST = 2_000
"""Characters of a function."""


def prose() -> Iterator[str]:
    """Docstrings and comments, one document a module."""
    for text in _modules(side=0):
        docstrings = (ast.get_docstring(node) or "" for node in _documented(text))
        said = [one for one in docstrings if one] + [" ".join(COMMENT.findall(text))]
        yield "\n\n".join(said)


def code() -> Iterator[str]:
    """Functions, as Python writes them out of their syntax."""
    for text in _modules(side=1):
        for node in _documented(text):
            if isinstance(node, ast.FunctionDef):
                if ast.get_docstring(node) is not None:
                    node.body = node.body[1:] or [ast.Pass()]
                written = ast.unparse(node)
                if len(written) <= LONGEST:
                    yield written


def _modules(side: int) -> Iterator[str]:
    source = open_source("stdlib")
    for shard, name in enumerate(source.shards):
        if zlib.crc32(name.encode()) % 2 == side:
            yield from source.documents(shard)


def _documented(text: str) -> Iterator[ast.Module | ast.ClassDef | ast.FunctionDef]:
    """What may have a docstring; nothing of a module that this Python cannot read."""
    try:
        tree = ast.parse(text)
    except SyntaxError:
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            yield node
