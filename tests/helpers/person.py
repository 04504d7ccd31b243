"""A person before Prefect's web UI: what is clicked and filled in, by the words that stand on the page."""

from contextlib import contextmanager
from dataclasses import dataclass

from browsing import chromium
from playwright.sync_api import Page, expect
from samples import wait_until
from upped import Up

PATIENCE = 60_000  # milliseconds until something that is clicked or looked for must be there, on a busy machine too
BUSY = 503  # SQLite has one writer at a time


@dataclass(frozen=True)
class Person:
    """Somebody with one tab open on the Prefect server of `polylm up`."""

    page: Page
    up: Up

    def opens(self, deployment):
        """The page of a deployment, by way of the list of all."""
        self.turns_back()
        self.page.goto(f"http://127.0.0.1:{self.up.port}/deployments")
        self.page.get_by_role("link", name=deployment, exact=True).click()

    def opens_form(self, deployment):
        """The form of "Run", "Custom run" on a deployment's page."""
        self.opens(deployment)
        self.page.get_by_role("button", name="Run", exact=True).click()
        self.page.get_by_role("link", name="Custom run").click()
        expect(self.field("Sources")).to_be_visible()

    def field(self, name):
        """A field of the form, with its title, its description and what is wrong with its value."""
        titled = f':has(> .p-label__header :text-is("{name} (Optional)"))'
        return self.page.locator(f".schema-form-properties > .schema-form-property{titled}")

    def adds(self, name, *items):
        """Fill an empty list with items."""
        field = self.field(name)
        for index, item in enumerate(items):
            field.get_by_role("button", name="Add item").click()
            field.get_by_role("textbox").nth(index).fill(item)

    def submits(self):
        self.page.get_by_role("button", name="Submit").click()

    def submits_patiently(self):
        """Submit, and again where the server was busy: Prefect's clients try again by themselves, the UI says "Oops"."""
        for _ in range(5):
            with self.page.expect_response("**/create_flow_run") as answer:
                self.page.get_by_role("button", name="Submit").dispatch_event("click")  # "Oops" lies over the button
            if answer.value.status != BUSY:
                return
            expect(self.page.get_by_role("button", name="Submit")).to_be_enabled()

    def starts(self, deployment, name, sources, changes):
        """Start a run from the form, under a name, and open its page; the id of the flow run."""
        self.opens_form(deployment)
        self.page.locator('.p-label:has(> .p-label__header :text-is("Run Name"))').get_by_role("textbox").fill(name)
        self.adds("Sources", *sources)
        self.adds("Changes", *changes)
        told = self.page.get_by_role("paragraph").filter(has_text=f"{name} scheduled to start")
        self.submits_patiently()
        told.get_by_role("button", name="View run").last.click()  # it is there twice, the last one on top
        self.page.wait_for_url("**/runs/flow-run/**")
        return self.page.url.rpartition("/")[2].partition("?")[0]

    def opens_run(self, run):
        """The page of a flow run."""
        self.turns_back()
        self.page.goto(f"http://127.0.0.1:{self.up.port}/runs/flow-run/{run}")

    def turns_back(self):
        """Bring Prefect's tab to the front: Chromium slows those behind another one, to one look of theirs a second."""
        self.page.bring_to_front()

    def looks_away(self):
        """Leave Prefect's pages while a run gets on: they ask and draw all the time, which costs a core."""
        self.page.goto("about:blank")

    def sees_state(self, name, seconds=180):
        """Wait until the open page of a flow run shows a state."""
        badge = self.page.get_by_role("banner").locator(".state-badge")
        expect(badge).to_have_text(name, timeout=seconds * 1000)

    def comes_back_at(self, run, state):
        """Leave Prefect's pages until a flow run is in a state, and see that on its page."""
        self.looks_away()
        assert wait_until(lambda: self.up.state(run)["name"] == state, 180, 0.3), self.up.worker_log()
        self.opens_run(run)
        self.sees_state(state)

    def opens_tab(self, name):
        self.page.get_by_role("tablist").get_by_text(name, exact=True).click()

    def follows(self, link):
        """The page that a link opens beside this one."""
        with self.page.context.expect_page() as opened:
            link.click()
        opened.value.wait_for_load_state()
        return opened.value


@contextmanager
def person_at(up):
    """A person with a browser of their own."""
    with chromium() as browser:
        context = browser.new_context(viewport={"width": 1280, "height": 1000})
        context.set_default_timeout(PATIENCE)
        expect.set_options(timeout=PATIENCE)
        yield Person(context.new_page(), up)
        context.close()
