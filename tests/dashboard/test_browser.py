"""The pages in a real browser: nothing leaves the machine, nothing is blocked, nothing is wider than the window."""

import pytest
from browsing import chromium, served


@pytest.fixture(scope="module")
def address(app):
    with served(app) as (host, port):
        yield f"http://{host}:{port}"


@pytest.fixture(scope="module")
def browser():
    with chromium() as started:
        yield started


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


def test_the_threshold_of_a_chart_moves_with_its_slider(browser, address, run):
    """And stands where the server draws it for those without scripts."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"{address}/run/{run.id}/stage/filter_text?language=en")
    card = page.locator("#rule-gopher_short_doc")
    card.locator("input[type=number]").wait_for(timeout=20_000)
    assert card.locator("line.threshold").count() == 1
    card.locator("input[type=number]").fill("200")
    drawn = card.locator("line.moved").get_attribute("x1"), card.locator("text.moved").text_content()
    assert card.locator("line.was").count() == 1
    page.wait_for_url("**p.thresholds.en.gopher_short_doc=200**")
    page.reload()
    assert float(card.locator("line.moved").get_attribute("x1")) == pytest.approx(float(drawn[0]), abs=0.06)
    assert card.locator("text.moved").text_content() == drawn[1] == "→ 200"
    card.locator("input[type=number]").fill("50")
    assert card.locator(".moved").count() == 0
    assert card.locator("line.threshold:not(.was)").count() == 1
    card.locator("input[type=range]").evaluate(
        "range => { range.value = range.max; range.dispatchEvent(new Event('input', { bubbles: true })); }"
    )
    assert float(card.locator("line.moved").get_attribute("x1")) > float(drawn[0])
    context.close()


MOVED = {"dup_line_frac": "0.1", "gopher_short_doc": "200", "list_ratio": "0.05"}
OPTIONS = [f"--set text.thresholds.en.{rule}={value}" for rule, value in MOVED.items()]


@pytest.mark.parametrize("width", [800, 1440])
def test_the_options_of_moved_thresholds_are_seen_whole_and_copied(browser, address, run, width):
    context = browser.new_context(viewport={"width": width, "height": 900}, permissions=["clipboard-read", "clipboard-write"])  # fmt: skip
    page = context.new_page()
    query = "&".join(f"p.thresholds.en.{rule}={value}" for rule, value in MOVED.items())
    page.goto(f"{address}/run/{run.id}/stage/filter_text?language=en&{query}")
    line = page.locator(".answer .copied pre")
    line.wait_for(timeout=20_000)
    assert line.inner_text().replace(" \\\n", "\n").split("\n") == OPTIONS
    assert line.evaluate("one => one.scrollWidth <= one.clientWidth && one.scrollHeight <= one.clientHeight")
    page.locator(".answer .copied button").click()
    page.locator(".answer .copied button", has_text="Copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == " \\\n".join(OPTIONS)
    page.locator("#rule-list_ratio input[type=number]").fill(
        "0.06"
    )  # htmx puts another answer in: its button is shown too
    page.locator(".answer .copied pre", has_text="0.06").wait_for()
    page.locator(".answer .copied button").wait_for(state="visible")
    context.close()


def test_without_scripts_options_are_text_to_select_and_there_is_no_button(browser, address, run):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{address}/run/{run.id}/stage/filter_text?language=en&p.thresholds.en.list_ratio=0.05")
    page.locator(".answer .copied pre").wait_for(timeout=20_000)
    assert page.locator(".answer .copied pre").inner_text() == "--set text.thresholds.en.list_ratio=0.05"
    assert not page.locator(".answer .copied button").is_visible()
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
