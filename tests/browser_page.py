"""The page of the service in Chromium, used as by hand."""

import base64
import json
import time
from pathlib import Path

from calipose.poses import Poses
from chromium import PATIENCE, Browser


class Page(Browser):
    """The page, used as by hand."""

    def open(self, url: str) -> None:
        """Load a page and wait until it has loaded its model, or says why not."""
        self.call("Page.navigate", url=url)
        self.wait_until_ready()

    def choose(self, input_id: str, file: Path) -> None:
        """Choose a file, and wait."""
        self._mark()
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=f"#{input_id}")["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(file)])
        self.wait_until_ready()

    def drop(self, file: Path) -> None:
        """Drop a file onto the page, and wait."""
        self._mark()
        data = {"items": [], "files": [str(file)], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.call("Input.dispatchDragEvent", type=kind, x=300, y=300, data=data)
        self.wait_until_ready()

    def paste(self, file: Path) -> None:
        """Paste an image, and wait."""
        self._mark()
        self.evaluate(
            f"(data => {{ const bytes = {js_bytes(file.read_bytes())};"
            " data.items.add(new File([bytes], 'image.png', {type: 'image/png'}));"
            " document.dispatchEvent(new ClipboardEvent('paste', {clipboardData: data})); })(new DataTransfer())"
        )
        self.wait_until_ready()

    def click(self, selector: str) -> None:
        """Click an element, and wait."""
        self._mark()
        self.evaluate(f"document.querySelector({selector!r}).click()")
        self.wait_until_ready()

    def select(self, element_id: str, value: str) -> None:
        """Choose an option of a list, and wait."""
        choose = f"e => {{ e.value = {value!r}; e.dispatchEvent(new Event('change')); }}"
        self.evaluate(f"({choose})(document.getElementById({element_id!r}))")
        self.wait_until_ready()

    def _mark(self) -> None:
        self.evaluate("document.getElementById('status').textContent = 'Starting'")  # as index.html does

    def wait_until_ready(self) -> None:
        """Wait until the page has done what it is at."""
        end = time.monotonic() + PATIENCE
        while not self.evaluate(
            "document.getElementById('busy')?.hidden"
            " && !document.getElementById('status').textContent.startsWith('Starting')"
        ):
            assert time.monotonic() < end, f"still busy: {self.evaluate('document.body.innerText')}"
            time.sleep(0.02)

    def text(self, element_id: str) -> str:
        """Text of an element, nothing if it is hidden."""
        return str(self.evaluate(f"(e => e.hidden ? '' : e.textContent)(document.getElementById({element_id!r}))"))

    def slide(self, value: float, slider: str = "threshold") -> None:
        """Move a slider."""
        move = f"e => {{ e.value = {value}; e.dispatchEvent(new Event('input')); }}"
        self.evaluate(f"({move})(document.getElementById({slider!r}))")

    def poses(self) -> Poses:
        """The poses that the page gives as JSON, in the form of `Poses.to_dict`."""
        return Poses.from_dict(json.loads(self.text("json")))


def js_bytes(data: bytes) -> str:
    """A JavaScript expression of these bytes."""
    return f"Uint8Array.from(atob('{base64.b64encode(data).decode()}'), c => c.charCodeAt(0))"
