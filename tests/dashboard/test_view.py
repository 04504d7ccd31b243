"""Numbers, written one way everywhere."""

import pytest

from polylm.dashboard import view


@pytest.mark.parametrize(
    ("share", "shown"),
    [(0.1234, "12.3 %"), (0, "0.0 %"), (1, "100.0 %"), (0.00001, "< 0.1 %"), (0.99999, "> 99.9 %"), (None, "–")],
)
def test_a_share_never_claims_nothing_or_all_of_some(share, shown):
    assert view.percent(share) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.0123, "0.012 s"),
        (9.5, "9.5 s"),
        (59.9, "60 s"),
        (75.2, "1 min 15 s"),
        (3_700, "1 h 01 min"),
        (90_000, "1 d 1 h"),
    ],
)
def test_writes_durations(seconds, shown):
    assert view.duration(seconds) == shown


@pytest.mark.parametrize(("value", "shown"), [(0, "0 B"), (999, "999 B"), (1_234_567, "1.23 MB"), (5e18, "5,000 PB")])
def test_writes_sizes(value, shown):
    assert view.size(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (3, "3"),
        (0.123456, "0.1235"),
        (12_345.6, "12,346"),
        (float("nan"), "–"),
        (None, "–"),
        (1e-7, "1e-07"),
        (-0.0036, "−0.0036"),
        (-5, "−5"),
        (-1e-7, "−1e-07"),
    ],
)
def test_writes_measurements(value, shown):
    assert view.number(value) == shown


@pytest.mark.parametrize(("value", "shown"), [(0.0084, "+0.008"), (-0.0326, "−0.033"), (0.0, "±0.000"), (-0.0001, "±0.000")])  # fmt: skip
def test_writes_differences_with_their_sign(value, shown):
    assert view.signed(value) == shown


def test_quotes_every_segment_of_an_address():
    assert view.url("run", "a/b", "doc", "x?y#z", page=2, q="") == "/run/a%2Fb/doc/x%3Fy%23z?page=2"
