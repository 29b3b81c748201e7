"""Chromium without a window, for tests of pages: spoken to through two pipes, as its DevTools
protocol has it, so that nothing needs to be installed but the browser itself."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
_PATIENCE_SECONDS = 60.0


class Browser:
    """One tab."""

    def __init__(self, to_browser: int, from_browser: int) -> None:
        self._to, self._from = to_browser, from_browser
        self._session: dict[str, str] = {}
        self._number, self._read = 0, b""
        self.events: list[dict[str, Any]] = []
        """What the browser told of since a page was opened."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = {"sessionId": attached["sessionId"]}
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """What a method of the protocol answers."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params, **self._session}
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return dict(answer["result"])
            self.events.append(answer)

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._read:
            part = os.read(self._from, 2**20)
            assert part, "the browser has ended"
            self._read += part
        first, _, self._read = self._read.partition(b"\0")
        return dict(json.loads(first))

    def open(self, address: str, *, width: int = 1400, height: int = 1000) -> None:
        """Show a page, and wait until it has loaded and is drawn."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        self._go("about:blank")
        self.events.clear()
        self._go(address)
        drawn = "requestAnimationFrame(() => requestAnimationFrame(done))"
        self.value(f"new Promise(done => {drawn}).then(() => null)")

    def _go(self, address: str) -> None:
        self.call("Page.navigate", url=address)
        place = address.partition(":")[0]
        until = time.monotonic() + _PATIENCE_SECONDS
        while self.value("document.readyState + location.protocol") != f"complete{place}:":
            assert time.monotonic() < until, f"{address} does not load"

    def value(self, script: str) -> Any:
        """What an expression comes to on the page."""
        answer = self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def text(self, selector: str) -> str:
        """What an element says."""
        return str(self.value(f"document.querySelector({json.dumps(selector)}).textContent"))

    def click(self, x: float, y: float) -> None:
        """Press and release the mouse at a place of the window."""
        button = {"x": x, "y": y, "button": "left", "clickCount": 1}
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, **button)

    def place(self, selector: str, across: float = 0.5, down: float = 0.5) -> tuple[float, float]:
        """A place within an element, scrolled into sight, as shares of its width and height."""
        name = json.dumps(selector)
        box = self.value(
            f"(() => {{ const one = document.querySelector({name}); "
            "one.scrollIntoView({block: 'center'}); const box = one.getBoundingClientRect(); "
            "return [box.left, box.top, box.width, box.height]; })()"
        )
        return box[0] + across * box[2], box[1] + down * box[3]

    def key(self, name: str, times: int = 1) -> None:
        """Press a key, such as ArrowRight."""
        code = {"ArrowLeft": 37, "ArrowRight": 39, "Enter": 13, "Home": 36, "End": 35}[name]
        text = {"text": "\r"} if name == "Enter" else {}
        pressed = {"key": name, "code": name, "windowsVirtualKeyCode": code}
        for _ in range(times):
            self.call("Input.dispatchKeyEvent", type="keyDown", **pressed, **text)
            self.call("Input.dispatchKeyEvent", type="keyUp", **pressed)

    def type_into(self, selector: str, text: str) -> None:
        """Replace what stands in a box, and press Enter."""
        name = json.dumps(selector)
        self.value(f"document.querySelector({name}).select()")
        self.call("Input.insertText", text=text)
        self.key("Enter")


@contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """A browser whose profile lies in `folder`; skips the test if none is installed."""
    program = next(filter(None, map(shutil.which, _NAMES)), None)
    if program is None or os.name != "posix":
        pytest.skip(f"no browser is installed: none of {', '.join(_NAMES)}")
    (its_read, our_write), (our_read, its_write) = os.pipe(), os.pipe()

    def take_pipes() -> None:
        # It reads from 3 and writes to 4; either may be the number of the other pipe until now.
        read, write = os.dup(its_read), os.dup(its_write)
        os.dup2(read, 3)
        os.dup2(write, 4)

    options = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage")
    profile = ("--no-first-run", "--remote-debugging-pipe", f"--user-data-dir={folder}")
    process = subprocess.Popen(
        [program, *options, *profile],
        preexec_fn=take_pipes,
        close_fds=False,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(its_read)
    os.close(its_write)
    try:
        yield Browser(our_write, our_read)
    finally:
        os.close(our_write)
        os.close(our_read)
        process.terminate()
        process.wait()
