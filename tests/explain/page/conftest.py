"""The browser that tests of the page share."""

from collections.abc import Iterator

import pytest
from browser import Browser, browser


@pytest.fixture(scope="package")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened
