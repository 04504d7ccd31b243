"""Parameters of an address: a page refuses what it does not know, and says what it does."""

import pytest
from crawling import crawl


@pytest.mark.parametrize(
    ("path", "query", "known"),
    [
        ("", "verdict=", "before"),
        ("/run/{run}", "language=en", "by"),
        ("/run/{run}/live", "x=1", "by"),
        ("/run/{run}/search", "q=the&verdict=", "q, by, language, fate, reason, source, gate, alone, after"),
        ("/run/{run}/doc/sample.0.0", "fate=kept", "text, beside"),
        ("/run/{run}/stage/filter_text", "language=en&threshold=1", "language, source, rule, p.NAME"),
        ("/run/{run}/stage/filter_text/what-if", "lang=en", "language"),
        ("/run/{run}/stage/clean", "language=en", "artifact, page, as"),
        ("/run/{run}/stage/identify_language", "rule=x", "language"),
        ("/run/{run}/evaluation", "model=base", "it knows none"),
        ("/compare/{run}/{run}", "side=lost", "way, page"),
    ],
)
def test_an_unknown_parameter_is_refused_with_those_that_are_known(client, run, path, query, known):
    answer = client.get(f"{path.format(run=run.id) or '/'}?{query}")
    assert answer.status_code == 400
    unknown = query.rpartition("&")[2].partition("=")[0]
    assert f"&#39;{unknown}&#39;: this page knows no such parameter" in answer.text
    assert known in answer.text


def test_names_of_unknown_parameters_are_text_and_not_all_repeated(client):
    answer = client.get("/", params={f"<b>{number}": "" for number in range(9)})
    assert answer.status_code == 400
    assert "&lt;b&gt;4" in answer.text
    assert "&lt;b&gt;5" not in answer.text
    assert "and 4 more" in answer.text
    assert "<b>" not in answer.text


def test_no_link_of_ours_has_a_parameter_that_its_page_does_not_know(client, app, run):
    found = [page.path for page, answer in crawl(client, app) if "knows no such parameter" in answer.text]
    assert found == []


def test_a_stage_of_other_code_takes_the_parameters_of_any_stage(toy_store):
    """Links to a gate have them whichever code made it."""

    def mend(record):
        record["stages"][-1]["stage"] = "since_deleted"

    toys = toy_store(mend=mend)
    assert toys.client.get(f"/run/{toys.id}/stage/since_deleted?language=en&source=toy").status_code == 200
    assert toys.client.get(f"/run/{toys.id}/stage/since_deleted?verdict=").status_code == 400
