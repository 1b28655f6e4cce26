# SPDX-License-Identifier: Apache-2.0
"""Headless Chromium, driven by its DevTools protocol over a pipe: no driver program, no port."""
import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import tempfile
import time

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser")
NOT_OURS = ("Cross-Origin-Opener-Policy header has been ignored",)


class Browser:
    """One browser, with as many pages as are opened. Close it, or use it as a context."""

    def __init__(self, *options):
        self.profile = tempfile.mkdtemp(prefix="tally-chromium-")
        theirs_in, self.to = os.pipe()
        self.from_, theirs_out = os.pipe()

        def pipes():
            os.dup2(theirs_in, 3)
            os.dup2(theirs_out, 4)

        command = [PROGRAM, "--headless=new", "--remote-debugging-pipe", f"--user-data-dir={self.profile}", "--no-first-run", "--disable-gpu",
                   "--disable-dev-shm-usage", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--mute-audio", *options]
        if os.geteuid() == 0:
            command.append("--no-sandbox")
        self.log = open(os.path.join(self.profile, "log"), "wb+")
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, close_fds=False, preexec_fn=pipes)
        os.close(theirs_in)
        os.close(theirs_out)
        self.number, self.buffer, self.events = 0, b"", []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        with contextlib.suppress(Exception):
            self.call("Browser.close", timeout=5)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for fd in (self.to, self.from_):
            os.close(fd)
        self.log.close()
        shutil.rmtree(self.profile, ignore_errors=True)

    def _message(self, timeout):
        end = time.monotonic() + timeout
        while b"\0" not in self.buffer:
            if not select.select([self.from_], [], [], max(0, end - time.monotonic()))[0]:
                raise TimeoutError
            part = os.read(self.from_, 1 << 20)
            if not part:
                self.log.seek(0)
                raise AssertionError(f"chromium ended: {self.log.read()[-2000:].decode(errors='replace')}")
            self.buffer += part
        text, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(text)

    def call(self, method, session=None, timeout=30, **params):
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        if session:
            message["sessionId"] = session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self.to, data):]
        while True:
            try:
                found = self._message(timeout)
            except TimeoutError:
                raise AssertionError(f"chromium does not answer {method}") from None
            if found.get("id") == message["id"]:
                if "error" in found:
                    raise AssertionError(f"{method}: {found['error']}")
                return found["result"]
            if "method" in found:
                self.events.append(found)

    def page(self, url, width=1200, height=900, dark=False):
        return Page(self, url, width, height, dark)


class Page:
    def __init__(self, browser, url, width, height, dark):
        self.browser = browser
        self.target = browser.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = browser.call("Target.attachToTarget", targetId=self.target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")
        self.resize(width, height)
        self.media(dark)
        self.call("Page.navigate", url=url)
        end = time.monotonic() + 30
        while not self.eval("location.href !== 'about:blank' && document.readyState === 'complete'"):
            if time.monotonic() > end:
                raise AssertionError(f"{url} does not load")
            time.sleep(0.02)

    def call(self, method, **params):
        return self.browser.call(method, session=self.session, **params)

    def close(self):
        self.browser.call("Target.closeTarget", targetId=self.target)

    def resize(self, width, height, mobile=False):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=2 if mobile else 1, mobile=mobile)

    def media(self, dark, reduced=False):
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"},
                                                          {"name": "prefers-reduced-motion", "value": "reduce" if reduced else "no-preference"}])

    def eval(self, expression):
        """The value of an expression; a promise is waited for."""
        found = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in found:
            details = found["exceptionDetails"]
            raise AssertionError(f"{expression}: {details.get('exception', {}).get('description', details['text'])}")
        return found["result"].get("value")

    def key(self, key, shift=False):
        """Presses and releases a key: "Tab", "Escape", "ArrowRight", or a character."""
        codes = {"Tab": 9, "Escape": 27, "Enter": 13, "ArrowRight": 39, "ArrowLeft": 37, "ArrowDown": 40, "ArrowUp": 38, " ": 32, "/": 191}
        event = {"key": key, "modifiers": 8 if shift else 0, "windowsVirtualKeyCode": codes.get(key, ord(key.upper()) if len(key) == 1 and key.isalnum() else 0)}
        if len(key) == 1:
            event["text"] = key
        self.call("Input.dispatchKeyEvent", type="keyDown", **event)
        self.call("Input.dispatchKeyEvent", type="keyUp", **{k: v for k, v in event.items() if k != "text"})

    def type(self, text):
        for char in text:
            self.key(char)

    def screenshot(self, path, full=False):
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=full)["data"]
        with open(path, "wb") as file:
            file.write(base64.b64decode(data))

    def faults(self):
        """What went wrong in the page so far: exceptions, and errors that the browser logged (what its policy refused, for instance)."""
        self.call("Runtime.evaluate", expression="0")
        found = []
        for event in self.browser.events:
            if event.get("sessionId") != self.session:
                continue
            params = event["params"]
            if event["method"] == "Runtime.exceptionThrown":
                details = params["exceptionDetails"]
                found.append(details.get("exception", {}).get("description", details["text"]))
            elif event["method"] == "Log.entryAdded" and params["entry"]["level"] == "error":
                found.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")
        return [text for text in found if not any(part in text for part in NOT_OURS)]
