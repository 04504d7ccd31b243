"""Pages of stages that have their own: duplicates, the tokenizer, and the curriculum."""

import re
from collections import Counter
from html import unescape
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_store import (
    STEPS,
    MadeStore,
    curriculum,
    documents,
    opened,
    plan_row,
    rows_of,
    trained,
)

from polylm.dashboard.stages.duplicates import differences
from polylm.dashboard.stages.tokenizer import cuts_of, pieces_of
from polylm.tasks import keys
from polylm.tasks.store import read_columns
from polylm.tasks.tokens.tokenizer import encode_texts, load_tokenizer

HOSTILE = '"><img src=x onerror=alert(1)>\u202e'


def bare(markup):
    """The text of markup."""
    return unescape(re.sub(r"<.*?>", "", str(markup)))


def waited(client, path):
    while 'class="pending"' in (page := client.get(path).text):
        pass
    return page


@pytest.fixture(scope="module")
def clusters(here, run):
    """Members of every cluster of the third of the sample, from the table itself."""
    (path,) = here.paths(here.entry(run, "verify_clusters"))
    members = {}
    for row in read_columns(path).to_pylist():
        members.setdefault(row["cluster"], []).append(row["doc"])
    return members


@pytest.fixture(scope="module")
def largest(clusters, here, run):
    centre = min(clusters, key=lambda one: (-len(clusters[one]), one))
    return SimpleNamespace(
        address=keys.address(centre, list(here.manifest(here.entry(run, "ingest")).sources)), docs=clusters[centre]
    )


@pytest.mark.parametrize("stage", ["join_bands", "verify_clusters", "label_clusters", "choose_keepers"])
def test_clusters_are_counted(client, run, clusters, stage):
    page = bare(waited(client, f"/run/{run.id}/stage/{stage}"))
    sizes = Counter(map(len, clusters.values()))
    assert re.search(rf"\b{len(clusters)}\s*clusters\b", page)
    assert re.search(rf"\b{sum(map(len, clusters.values()))}\s*documents in them", page)
    assert re.search(rf"\b{max(sizes)}\s*documents in the largest", page)


def test_the_largest_clusters_come_first(client, run, clusters, largest):
    rows = rows_of(waited(client, f"/run/{run.id}/stage/label_clusters").partition('id="largest"')[2])[1:]
    assert rows[0][:2] == [largest.address, str(len(largest.docs))]
    assert [int(row[1]) for row in rows] == sorted(map(len, clusters.values()), reverse=True)[:20]


def test_members_stand_beside_their_centre(client, run, largest, here):
    sources = list(here.manifest(here.entry(run, "ingest")).sources)
    page = client.get(f"/run/{run.id}/stage/label_clusters?cluster={largest.address}").text
    others = {keys.address(doc, sources) for doc in largest.docs} - {largest.address}
    shown = re.findall(r'<h3><a href="[^"]*"><bdi>([^<]*)</bdi></a> <small>', page)
    assert len(shown) == min(5, len(others))
    assert set(shown) <= others


def test_any_member_leads_to_its_cluster(client, run, largest, here):
    sources = list(here.manifest(here.entry(run, "ingest")).sources)
    member = keys.address(max(largest.docs), sources)
    page = client.get(f"/run/{run.id}/stage/verify_clusters?cluster={member}").text
    assert f">The cluster of {member}" in re.sub(r"</?(?:a|bdi)[^>]*>", "", page)
    assert largest.address in page


@pytest.mark.parametrize(("query", "status"), [("cluster=sample.999.0", 404), ("cluster=../x", 400), ("cluster=sample.0.0&page=x", 400), ("cluster=sample.0.0&page=0", 400)])  # fmt: skip
def test_a_cluster_that_is_not_is_refused(client, run, query, status):
    assert client.get(f"/run/{run.id}/stage/label_clusters?{query}").status_code == status


def test_differences_are_marked_word_by_word():
    left, right = differences("the cat sat", "the dog sat")
    assert (str(left), str(right)) == ("the <del>cat</del> sat", "the <ins>dog</ins> sat")


def test_scripts_without_spaces_are_compared_by_character():
    left, right = differences("今天我们去", "今天他们去")
    assert (str(left), str(right)) == ("今天<del>我</del>们去", "今天<ins>他</ins>们去")


@given(st.text("ab <&\n今", max_size=30), st.text("ab <&\n今", max_size=30))
def test_both_texts_are_whole_whatever_differs(a, b):
    left, right = differences(a, b)
    assert (bare(left), bare(right)) == (a, b)


def test_differences_are_escaped():
    left, right = differences("x", HOSTILE)
    assert "<img" not in left + right
    assert "\u202e" not in right


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Trainings with a tokenizer, documents and a curriculum of which one cell was dealt too little."""
    import pyarrow as pa

    made = MadeStore(tmp_path_factory.mktemp("stages") / "store")
    texts = [HOSTILE if i == 0 else "the cat sat on the mat" if i % 2 == 0 else "ภาษาไทย ขอบคุณ" for i in range(12)]
    entries = documents(made, [None] * 12, texts=texts)
    weights = (
        pa.table({"weight": pa.array([1] * 10, pa.uint8())}),
        pa.table({"weight": pa.array([1, None], pa.uint8())}),
    )
    entries.append(made.rows("select", weights))
    entries += trained(made)
    stage1, stage2 = STEPS["stage1"], STEPS["stage2"]
    plan = [plan_row("stage1", "en/web", 3 * stage1), plan_row("stage1", "th/web", stage1 + 7, warning="th/web is seen <b>4.7</b> times"), plan_row("stage2", "en/web", 3 * stage2), plan_row("stage2", "th/web", stage2), plan_row("stage2", "en-th/pair", 0)]  # fmt: skip
    entries.append(curriculum(made, plan))
    run = made.run("stages", entries)
    return SimpleNamespace(path=f"/run/{run}/stage", id=run, **vars(opened(made)))


@pytest.fixture(scope="module")
def folder(site):
    return site.here.paths(site.here.entry(site.here.run(site.id), "train_tokenizer"))[0]


def test_what_was_dealt_stands_beside_what_was_planned(site):
    page = site.client.get(f"{site.path}/plan_curriculum").text
    cells = [row for row in rows_of(page) if "/" in row[0]]
    assert [(row[0], row[5], row[6]) for row in cells] == [
        ("en/web", "120", "120"),
        ("th/web", "47", "40"),
        ("en/web", "60", "60"),
        ("th/web", "20", "20"),
        ("en-th/pair", "0", "0"),
    ]
    assert '<mark class="bad">40</mark>' in page
    assert page.count('<mark class="bad">') == 1


def test_warnings_of_the_plan_are_shown(site):
    page = site.client.get(f"{site.path}/plan_curriculum").text
    assert "th/web is seen &lt;b&gt;4.7&lt;/b&gt; times" in page


def test_a_text_is_cut_into_its_tokens_with_their_ids(site, folder):
    text = "the words are สวัสดี"
    (ids,) = encode_texts(load_tokenizer(folder), [text])
    page = site.client.get(f"{site.path}/train_tokenizer", params={"text": text}).text
    assert ", ".join(map(str, ids)) in page
    assert f"{len(ids)} tokens" in page


def test_pieces_are_the_text_again(folder):
    text = "the words, the\n\ncat"
    pieces = pieces_of(folder, text)
    assert "".join(piece.shown for piece in pieces).replace("␣", " ").replace("↵", "\n") == text


def test_bytes_of_a_character_that_was_cut_are_shown_as_bytes(folder):
    assert [piece.shown for piece in pieces_of(folder, "😀")] == ["F0", "9F", "98", "80"]
    assert {piece.kind for piece in pieces_of(folder, "😀")} == {"byte"}


@pytest.mark.parametrize("text", [HOSTILE, "</textarea><script>alert(1)</script>", "\x00\ud800"])
def test_a_text_of_the_address_is_escaped(site, text):
    answer = site.client.get(f"{site.path}/train_tokenizer?text=" + "".join(f"%{byte:02X}" for byte in text.encode("utf-8", "surrogatepass")))  # fmt: skip
    assert answer.status_code == 200
    assert "<img" not in answer.text
    assert "<script>alert" not in answer.text


def test_a_text_longer_than_an_address_is_refused(site):
    assert site.client.get(f"{site.path}/train_tokenizer", params={"text": "x" * 10_000}).status_code == 414
    assert site.client.get(f"{site.path}/train_tokenizer", params={"text": "x" * 8_000}).status_code == 200


def test_bytes_per_token_are_those_that_the_stage_measured(site):
    rows = {row[0]: row for row in rows_of(waited(site.client, f"{site.path}/train_tokenizer"))}
    assert rows["en"][3:5] == ["300 B", "3"]
    assert rows["th"][3:5] == ["500 B", "5"]


def test_cut_words_and_byte_tokens_are_counted_over_selected_documents(site, folder):
    cuts = cuts_of(site.here, site.here.run(site.id), folder)
    text = "the cat sat on the mat"
    pieces = pieces_of(folder, text)
    assert cuts["en"].words >= 5 * 6  # five such documents of six words, and the hostile one
    assert cuts["th"].tokens == 5 * len(pieces_of(folder, "ภาษาไทย ขอบคุณ"))  # the sixth was not selected
    assert cuts["th"].byte_tokens == 5 * sum(p.kind == "byte" for p in pieces_of(folder, "ภาษาไทย ขอบคุณ"))
    assert cuts["en"].tokens == 5 * len(pieces) + len(pieces_of(folder, HOSTILE))
