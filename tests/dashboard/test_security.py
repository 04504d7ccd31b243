"""Nobody gets in: names, methods, addresses and texts that attack."""

import pytest
from fastapi.testclient import TestClient

from polylm.dashboard.app import create_app
from polylm.dashboard.security import CONTENT_POLICY, MAX_ADDRESS_BYTES

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"
POLICY = "content-security-policy"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:8000", "localhost:65535", "LOCALHOST", "[::1]:80"])
def test_answers_to_names_of_this_machine(client, host):
    assert client.get("/", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "127.0.0.1.evil.example",
        "localhost.evil.example:8000",
        "127.0.0.1@evil.example",
        "",
        "[::1",
        "127.1",
    ],
)
def test_refuses_names_that_somebody_elses_dns_may_point_here(client, host):
    answer = client.get("/", headers={"host": host})
    assert answer.status_code == 400
    assert answer.headers[POLICY] == CONTENT_POLICY
    assert "sample" not in answer.text


def test_answers_to_an_allowed_name(settings):
    named = TestClient(create_app(settings, allowed_hosts=["Lab.Example"]), base_url="http://lab.example:8000")
    assert named.get("/").status_code == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "GETS"])
@pytest.mark.parametrize("path", ["/", "/static/style.css", "/nothing"])
def test_only_reads(client, method, path):
    answer = client.request(method, path)
    assert answer.status_code == 405
    assert answer.headers["allow"] == "GET, HEAD"
    assert answer.headers[POLICY] == CONTENT_POLICY


def test_head_is_get_without_the_body(client):
    there, only_head = client.get("/"), client.head("/")
    assert only_head.status_code == 200
    assert only_head.content == b""
    assert only_head.headers["content-length"] == str(len(there.content))


@pytest.mark.parametrize("address", ["/" + "x" * MAX_ADDRESS_BYTES, "/?q=" + "x" * MAX_ADDRESS_BYTES])
def test_refuses_long_addresses(client, address):
    answer = client.get(address)
    assert answer.status_code == 414
    assert answer.headers[POLICY] == CONTENT_POLICY


@pytest.mark.parametrize(
    "path",
    ["/", "/nothing", "/run/nothing", "/static/style.css", "/static/nothing", "/docs", "/openapi.json", "/run/x/live"],
)
def test_every_answer_has_the_policy_and_no_cookie(client, path):
    answer = client.get(path)
    assert answer.headers[POLICY] == CONTENT_POLICY
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert "set-cookie" not in answer.headers


def test_there_are_no_pages_about_the_application(client):
    assert {client.get(path).status_code for path in ("/docs", "/redoc", "/openapi.json")} == {404}


@pytest.mark.parametrize(
    "segment",
    [
        "../../etc/passwd",
        "..%2f..%2fetc%2fpasswd",
        "%2e%2e",
        "%00",
        "*",
        "?",
        "[a-z]*",
        "'; DROP TABLE runs; --",
        HOSTILE,
    ],
)
@pytest.mark.parametrize("pattern", ["/run/{}", "/run/{}/live", "/static/{}", "/{}"])
def test_what_an_address_names_is_looked_up_and_never_opened(client, segment, pattern):
    answer = client.get(pattern.format(segment))
    assert answer.status_code in (200, 400, 404)  # a path that is climbed back to "/" is the first page
    assert "root:" not in answer.text
    assert "<script>alert" not in answer.text
    assert "onerror=alert(1)>" not in answer.text.replace("&gt;", "")
    assert "Traceback" not in answer.text


def test_an_error_of_ours_shows_no_traceback(app, client, monkeypatch):
    def fail():
        raise RuntimeError("a secret of the server")

    monkeypatch.setattr(app.state.queries, "runs", fail)
    answer = client.get("/")
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert answer.headers[POLICY] == CONTENT_POLICY


def test_hostile_names_in_a_run_are_shown_and_do_nothing(toy_store):
    def mend(record):
        alarm = {"rule": HOSTILE, "subject": "\u202eeman", "message": HOSTILE, "value": 1.0, "bound": 0.5}
        record["alarms"] = [alarm | {"action": "ask", "decision": None}]
        record["started_by"] = record["name"] = HOSTILE

    toys = toy_store(mend=mend)
    for path in ("/", f"/run/{toys.id}"):
        page = toys.client.get(path).text
        assert "<script>alert" not in page
        assert "<img" not in page
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "\u202e" not in page
    assert "U+202E" in page


def test_no_page_has_inline_scripts_or_styles(client, run):
    """The policy would block them, so a page that needs one is broken."""
    for path in ("/", f"/run/{run.id}", "/nothing"):
        page = client.get(path).text
        assert " style=" not in page
        assert "<style" not in page
        assert page.count("<script") == page.count('<script src="/static/')
        assert " onclick=" not in page
