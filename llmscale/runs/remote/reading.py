"""Results at a URL that are only read: fetched, with what can go wrong in one sentence."""

from llmscale.errors import InputError, LlmscaleError
from llmscale.runs.remote import Remote, Wanted
from llmscale.runs.remote._files import reason
from llmscale.runs.safe_write import make_folder


def fetched(remote: Remote, wanted: Wanted) -> None:
    """Bring the `wanted` files of the mirror up to what is at the URL. Raises InputError."""
    make_folder(remote.folder)
    try:
        remote.pull(wanted)
    except LlmscaleError:
        raise
    except Exception as error:  # each file system has errors of its own
        problem = f"{remote.url} cannot be read: {reason(error)}"
        raise InputError(problem, "check its name, the network and the keys") from error
