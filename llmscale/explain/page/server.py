"""A page shown to the browser of this machine, and to nobody else."""

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from llmscale.errors import InputError
from llmscale.explain.page.document import Page

_HERE = "127.0.0.1"
"""Only programs of this machine reach it."""


@contextmanager
def served(page: Page, port: int = 0) -> Iterator[str]:
    """The address at which the page is, until the block ends; a `port` of 0 is any that is free.
    Raises InputError if the port is taken."""
    body = page.html.encode()

    class OnePage(_OnePage):
        content = body

    try:
        server = ThreadingHTTPServer((_HERE, port), OnePage)
    except (OSError, OverflowError) as error:
        raise InputError(
            f"port {port} cannot be used: {getattr(error, 'strerror', None) or error}",
            "leave --port out, or name another",
        ) from error
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://{_HERE}:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _OnePage(BaseHTTPRequestHandler):
    """Answers with the page, and knows nothing else."""

    content = b""

    def do_GET(self) -> None:
        if not self._is_asked_here() or self.path.partition("?")[0] != "/":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(self.content)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(self.content)

    def _is_asked_here(self) -> bool:
        """Whether the address is this machine's, and no name of a stranger's that leads here."""
        host = self.headers.get("Host", "").rpartition(":")[0]
        return host in (_HERE, "localhost")

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing of every request."""
