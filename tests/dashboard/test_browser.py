"""The pages in a real browser: nothing leaves the machine, nothing is blocked, nothing is wider than the window."""

import shutil
import socket
import threading
import time

import pytest
import uvicorn

FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run")  # fmt: skip


@pytest.fixture(scope="module")
def address(app):
    """The dashboard on a port of its own."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.05)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join()


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("Chromium is not there: apt-get install chromium")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=list(FLAGS))
        yield started
        started.close()


@pytest.mark.parametrize("width", [800, 1440])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_stay_on_this_machine_and_in_their_window(browser, address, run, width, scheme):
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page, asked, said = context.new_page(), [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    for path in ("/", f"/run/{run.id}"):
        page.goto(address + path)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.wait_for_selector("#funnel ~ svg, svg[aria-label^=Documents]")
    assert [url for url in asked if not url.startswith(address)] == []
    assert said == []  # the policy speaks here where it blocks something
    assert page.evaluate("document.cookie") == ""
    context.close()


def test_reads_without_scripts(browser, address, run):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{address}/run/{run.id}")
    assert page.locator("svg[aria-label='What was made from what']").count() == 1
    page.goto(f"{address}/")
    page.keyboard.press("Tab")
    assert page.locator(":focus").inner_text() == "Skip to the content"
    context.close()


def test_the_page_of_a_run_that_is_counted_fills_itself(browser, address, run, here):
    """The first answer may lack what is counted in the background; htmx fetches it."""
    here.cache._made.clear()
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"{address}/run/{run.id}")
    page.wait_for_selector("svg[aria-label='Documents left after each gate']")
    page.wait_for_selector("svg[aria-label='The costliest stages, by CPU time']")
    page.wait_for_selector("#live:not([hx-get])")
    context.close()
