"""Two texts that every machine has, out of Python's standard library: its code without docstrings
and comments, and its docstrings.

    llmscale sweep experiments/mixture.toml"""

import ast
import sysconfig
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path

LEAST_CHARACTERS = 100
"""Of a docstring that is a text and no label."""
LEFT_OUT = {"site-packages", "dist-packages", "test", "tests", "idlelib", "lib2to3"}
"""What was installed later, and tests, which some machines lack."""
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def code() -> Iterator[str]:
    """Each module without its docstrings and comments."""
    yield from _parts()[0]


def prose() -> Iterator[str]:
    """Each docstring of some length, without the margin that it has in code."""
    yield from _parts()[1]


@cache
def _parts() -> tuple[list[str], list[str]]:
    """The documents of both texts: to parse the library takes some seconds."""
    modules, docstrings = [], []
    library = Path(sysconfig.get_paths()["stdlib"])
    for path in sorted(library.rglob("*.py")):
        if LEFT_OUT & set(path.relative_to(library).parts):
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError):  # files that are there to be refused
            continue
        for node in ast.walk(tree):
            if not isinstance(node, _DOCUMENTED):
                continue
            text = ast.get_docstring(node)
            if text is not None:
                docstrings.append(text)
                node.body = node.body[1:] or [ast.Pass()]
        modules.append(ast.unparse(tree))
    return modules, [text for text in docstrings if len(text) >= LEAST_CHARACTERS]
