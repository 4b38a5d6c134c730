"""A headless Chromium, spoken to in its own protocol through two pipes: no driver and no package is needed."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), ""
)
PAGES = Path(__file__).parent.parent / "docs" / "interactive"
PATIENCE = 60.0  # seconds for an answer; a machine under load takes a few to start the browser
KEYS = {"ArrowRight": 39, "ArrowLeft": 37, "ArrowUp": 38, "ArrowDown": 40, "Home": 36, "End": 35, "Tab": 9}


FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--hide-scrollbars",
    "--disable-dev-shm-usage",
    "--no-first-run",
]
FLAGS += ["--remote-debugging-pipe", "about:blank", "--user-data-dir"]
LAUNCH = """
import fcntl, os, sys
ends = [fcntl.fcntl(int(one), fcntl.F_DUPFD, 10) for one in sys.argv[1:3]]
for place, end in zip((3, 4), ends):  # where the protocol is spoken
    os.dup2(end, place)
command = sys.argv[3:]
command[-2:] = [f"{command[-2]}={command[-1]}"]
os.execv(command[0], command)
"""


class Browser:
    """One page at a time: `open`, `run` a line of JavaScript, `press` a key, `drag`, take a `picture`."""

    def __init__(self) -> None:
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        to_browser, self._out = os.pipe()
        self._in, from_browser = os.pipe()
        self._process = subprocess.Popen(
            [sys.executable, "-c", LAUNCH, str(to_browser), str(from_browser), CHROMIUM, *FLAGS, self._profile.name],
            pass_fds=(to_browser, from_browser),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(from_browser)
        self._asked, self._unread, self._session = 0, b"", ""
        self.faults: list[str] = []  # what the pages threw, or could not load
        self.requests: list[str] = []
        try:
            target = next(one for one in self._ask("Target.getTargets")["targetInfos"] if one["type"] == "page")
            self._session = self._ask("Target.attachToTarget", targetId=target["targetId"], flatten=True)["sessionId"]
            for domain in ("Page", "Runtime", "Network", "Log"):
                self._ask(f"{domain}.enable")
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the browser."""
        self._process.terminate()
        self._process.wait(PATIENCE)
        os.close(self._out)
        os.close(self._in)
        self._profile.cleanup()

    def open(self, path: Path, *, width: int = 1200, height: int = 900, **controls: Any) -> None:
        """Load a page, with its controls set through the address."""
        self._ask(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500
        )
        self._ask("Page.navigate", url="about:blank")  # else another #hash would not load it again
        said = "&".join(f"{name}={value}" for name, value in controls.items())
        self._ask("Page.navigate", url=f"{path.resolve().as_uri()}#{said}")
        self._until("document.readyState == 'complete' && location.protocol == 'file:'")

    def show(self, name: str, **controls: Any) -> None:
        """Load an interactive page by its name."""
        self.open(PAGES / f"{name}.html", **controls)

    def run(self, script: str) -> Any:
        """The value of an expression in the page."""
        answer = self._ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"]["exception"]["description"])
        return answer["result"].get("value")

    def number(self, name: str) -> float:
        """The number that the element `name` shows, in full."""
        return float(self.run(f"document.getElementById({name!r}).dataset.value"))

    def text(self, name: str) -> str:
        """What the element `name` says."""
        return self.run(f"document.getElementById({name!r}).textContent")

    def move(self, name: str, position: int) -> None:
        """Put a slider at one of its positions, as a hand does."""
        self.run(
            f"{{const it = document.getElementById({name!r}); it.value = {position};"
            "it.dispatchEvent(new Event('input', {bubbles: true}));}"
        )

    def press(self, name: str, key: str, times: int = 1) -> None:
        """Give the focus to what the selector `name` finds, and press a key there."""
        self.run(f"document.querySelector({name!r}).focus()")
        for _ in range(times):
            for kind in ("rawKeyDown", "keyUp"):
                self._ask("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=KEYS[key])

    def drag(self, name: str, dx: float, dy: float, *, finger: bool = False) -> None:
        """Drag what the selector `name` finds by so many pixels, with the mouse or on a touch screen."""
        find = f"document.querySelector({name!r})"
        self.run(f"{find}.scrollIntoView({{block: 'center'}})")
        x, y, w, h = self.run(f"(({{x, y, width, height}}) => [x, y, width, height])({find}.getBoundingClientRect())")
        x, y = x + w / 2, y + h / 2
        method = "Input.dispatchTouchEvent" if finger else "Input.dispatchMouseEvent"
        begin, go, end = (
            ("touchStart", "touchMove", "touchEnd") if finger else ("mousePressed", "mouseMoved", "mouseReleased")
        )
        for kind, part in ((begin, 0.0), *((go, k / 4) for k in range(1, 5)), (end, 1.0)):
            at = {"x": x + part * dx, "y": y + part * dy}
            mouse = {**at, "button": "left", "clickCount": 1, "buttons": 1}
            self._ask(method, type=kind, **({"touchPoints": [] if kind == end else [at]} if finger else mouse))

    def picture(self, selector: str = "html") -> bytes:
        """What the selector finds, the whole page if nothing is said, as PNG."""
        box = f"document.querySelector({selector!r}).getBoundingClientRect()"
        x, y, width, height = self.run(
            f"(({{x, y, width, height}}) => [x + scrollX, y + scrollY, width, height])({box})"
        )
        clip = {"x": x, "y": y, "width": width, "height": height, "scale": 1}
        answer = self._ask("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
        return base64.b64decode(answer["data"])

    def _until(self, condition: str) -> None:
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            try:
                if self.run(condition):
                    return
            except RuntimeError:  # asked while one page takes the place of another
                pass
            time.sleep(0.02)
        raise TimeoutError(f"The page never came to {condition}.")

    def _ask(self, method: str, **params: Any) -> dict:
        self._asked += 1
        question: dict[str, Any] = {"id": self._asked, "method": method, "params": params}
        if self._session:
            question["sessionId"] = self._session
        os.write(self._out, json.dumps(question).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._asked:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return answer["result"]
            self._note(answer)

    def _note(self, event: dict) -> None:
        """Keep what went wrong in the page, and what it asked the network for."""
        params = event.get("params", {})
        if event.get("method") == "Runtime.exceptionThrown":
            self.faults.append(params["exceptionDetails"].get("exception", {}).get("description", "an exception"))
        if event.get("method") == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.faults.append(params["entry"]["text"])
        if event.get("method") == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])

    def _read(self) -> dict:
        while b"\0" not in self._unread:
            ready, _, _ = select.select([self._in], [], [], PATIENCE)
            more = os.read(self._in, 1 << 20) if ready else b""
            if not more:
                raise TimeoutError("Chromium says nothing.")
            self._unread += more
        message, _, self._unread = self._unread.partition(b"\0")
        return json.loads(message)
