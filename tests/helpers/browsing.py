"""A dashboard on a port of its own, and headless Chromium to look at it."""

import os
import shutil
import socket
import threading
import time
from contextlib import contextmanager

import pytest
import uvicorn

FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run")  # fmt: skip


@contextmanager
def chromium():
    """A browser; where there is none the test is skipped, and fails under CI."""
    from playwright.sync_api import sync_playwright  # only here: half a second

    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        (pytest.fail if "CI" in os.environ else pytest.skip)("Chromium is not there: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        yield browser
        browser.close()


@contextmanager
def served(app):
    """The host and port where an application is served, as `polylm dashboard` serves it."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="critical", ws="none"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.05)
    yield "127.0.0.1", port
    server.should_exit = True
    thread.join()
