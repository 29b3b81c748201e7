"""`--published`: a law that others published, in place of a table of one's own."""

from typing import Any

from llmscale.errors import InputError
from llmscale.explain.fit.published import published_fit


def source_asked(source: Any, published: bool) -> Any:
    """The source, or the fit that was published. Raises InputError if both are asked for."""
    if not published:
        return source
    if source is not None:
        raise InputError(
            "a table is given, and --published asks for a law that others published in its place",
            "leave one of them out",
        )
    return published_fit()
