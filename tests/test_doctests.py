"""The examples in docstrings run and give what they show."""

import doctest
import importlib
import pkgutil

import pytest

import llmscale

PARTS = ("explain", "quantity")


def modules() -> list[str]:
    found = pkgutil.walk_packages(llmscale.__path__, "llmscale.")
    return [module.name for module in found if module.name.split(".")[1] in PARTS]


def test_the_examples_in_docstrings_run() -> None:
    results = {name: doctest.testmod(importlib.import_module(name)) for name in modules()}
    assert {name for name, result in results.items() if result.failed} == set()
    assert sum(result.attempted for result in results.values()) >= 15


@pytest.mark.parametrize("name", ["llmscale.explain.laws", "llmscale.explain.fit.parametric"])
def test_the_main_entries_have_examples(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).attempted >= 3
