"""The pages of instructions and of the evaluation: counts and figures are those of the tables."""

import hashlib
import re
from types import SimpleNamespace

import pytest
from made_store import (
    MadeStore,
    evaluated,
    evaluation,
    figure,
    instruction,
    instructions,
    journal,
    opened,
    rows_of,
    trained,
)

HOSTILE = '</div><script>alert("x")</script>\u202e'
TASKS = {
    "en": [
        instruction("en", 0),
        instruction("en", 1, "similar_to_kept", evidence="0.81 to en-1"),
        instruction("en", 2, "similar_to_kept"),
        instruction("en", 3, "web_link", instruction=HOSTILE),
    ],
    "th": [instruction("th", i, None if i < 12 else "no_task") for i in range(15)],
}
EXAMPLES = 10  # a page


def heads_of(page):
    """The numbers of the tasks that are shown."""
    return re.findall(r"<bdi>(\w\w-0\.\d+\.0)</bdi>, round", page)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    made = MadeStore(tmp_path_factory.mktemp("instructed") / "store")
    run = made.run("tasks", [instructions(made, TASKS)])
    prompts = ["write tasks, please", "once more", "and again"]
    torn = journal(made, "en", prompts)
    with torn.open("ab") as file:
        file.write(b'{"key": "3", "prom')
    return SimpleNamespace(client=opened(made).client, path=f"/run/{run}/instructions", prompts=prompts)


@pytest.fixture(scope="module")
def shown(site):
    while "…</td>" in (page := site.client.get(site.path).text):
        pass
    return page


def test_accepted_and_rejected_are_counted_by_language_and_reason(shown):
    header = next(row for row in rows_of(shown) if row[0] == "Language")
    told = {row[0]: dict(zip(header, row, strict=True)) for row in rows_of(shown) if row[0] in TASKS}
    assert (told["en"]["Accepted"], told["en"]["Rejected"], told["en"]["similar to kept"]) == ("1", "3", "2")
    assert (told["th"]["Accepted"], told["th"]["Rejected"], told["th"]["no task"]) == ("12", "3", "3")
    assert told["th"]["web link"] == "·"


def test_the_journal_says_what_was_paid_for(shown):
    (row,) = [row for row in rows_of(shown) if row[0] == "en"]
    assert row[-5:-1] == ["3", "30", "15", "stop 2, length 1 last line cut"]
    (row,) = [row for row in rows_of(shown) if row[0] == "th"]
    assert row[-5:-2] == ["0", "0", "0"]


def test_seed_tasks_of_the_asked_languages_are_there(shown):
    assert "en: 4 tasks" in shown
    assert "th: 4 tasks" in shown
    assert "de: 4 tasks" not in shown


def test_examples_begin_with_one_of_each_language_and_reason(shown):
    assert set(heads_of(shown)[:5]) == {"en-0.0.0", "en-0.1.0", "en-0.3.0", "th-0.0.0", "th-0.12.0"}


def test_examples_can_be_chosen_by_reason(site):
    page = site.client.get(f"{site.path}?language=en&reason=similar_to_kept").text
    assert heads_of(page) == ["en-0.1.0", "en-0.2.0"]
    assert "0.81 to en-1" in page


def test_accepted_tasks_are_paged(site):
    first = site.client.get(f"{site.path}?language=th&reason=accepted").text
    second = site.client.get(f"{site.path}?language=th&reason=accepted&page=2").text
    assert len(heads_of(first)) == EXAMPLES
    assert len(heads_of(second)) == 2
    assert len({*heads_of(first), *heads_of(second)}) == 12


def test_what_a_model_wrote_is_text(shown):
    assert "<script>alert" not in shown
    assert "\u202e" not in shown
    assert "&lt;script&gt;" in shown


@pytest.mark.parametrize("query", ["language=' OR 1=1 --", "reason=%27%29%3B DROP TABLE x", "language=xx"])
def test_a_language_that_is_none_has_no_tasks(site, query):
    answer = site.client.get(f"{site.path}?{query}")
    assert answer.status_code == 200
    assert heads_of(answer.text) == []


def test_a_prompt_is_shown_with_its_answer(site, shown):
    key = hashlib.sha256(site.prompts[1].encode()).hexdigest()
    page = site.client.get(f"{site.path}?prompt={key}").text
    assert "once more" in page
    assert "answer 1" in page
    assert site.client.get(f"{site.path}?prompt=../../secret").status_code == 404


def test_a_run_without_instructions_says_so(tmp_path):
    made = MadeStore(tmp_path / "store")
    run = made.run("none", [])
    client = opened(made).client
    assert "has generated no instructions" in client.get(f"/run/{run}/instructions").text
    assert "has evaluated no model" in client.get(f"/run/{run}/evaluation").text


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ("running", "has not come as far as {} yet: it has finished 1 stage, the last of them <bdi>initialize</bdi>"),
        ("awaiting approval", "has not come as far as {} yet"),
        ("failed", "ended (<bdi>failed</bdi>) before it came to {}"),
        ("stopped", "ended (<bdi>stopped</bdi>) before it came to {}"),
    ],
)
def test_a_run_that_has_not_come_to_a_page_says_so(tmp_path, state, said):
    made = MadeStore(tmp_path / "store")
    run = made.run("some", [made.folder("initialize", lambda folder: None)], state=state)
    for page in ("training", "instructions", "evaluation"):
        assert said.format(page) in opened(made).client.get(f"/run/{run}/{page}").text


FIGURES = [
    figure("base", value=0.58, stderr=0.02),
    figure("tuned", value=0.70, stderr=0.02),
    figure("base", language="th", value=0.51, stderr=0.05),
    figure("tuned", language="th", value=0.43, stderr=0.02),
    *(figure(model, task="UDHR", metric="bits_per_byte", category="bits per byte", value=value, chance=8.0) for model, value in (("untrained", 4.5), ("base", 3.0), ("tuned", 3.5), ("byte 5-gram", 2.6))),
    {"category": "understanding", "task": "XNLI", "note": "not run: <b>needs the hub</b>"},
]  # fmt: skip


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """The page of models of three ages: before training, after both segments, and fine-tuned."""
    made = MadeStore(tmp_path_factory.mktemp("evaluated") / "store")
    entries = trained(made)
    weights = [entries[1], entries[3], entries[4]]  # initialize, stage2, finetune
    exports = [made.folder("export", lambda folder, i=i: (folder / "config.json").write_text(str(i)), reads=[one["artifact"]]) for i, one in enumerate(weights)]  # fmt: skip
    refs = [one["artifact"] for one in exports]
    asked = [evaluation(made, ["untrained"], refs[:1]), evaluation(made, ["base", "tuned"], refs[1:])]
    run = made.run("figures", [*entries, *exports, *asked, evaluated(made, FIGURES)])
    return opened(made).client.get(f"/run/{run}/evaluation").text


def test_models_stand_side_by_side_with_errors_and_chance(table):
    (row,) = [row for row in rows_of(table) if row[:3] == ["XCOPA", "acc", "mean"]]
    assert row[3:] == ["0.580 ± 0.020", "0.700 ± 0.020", "+0.120 ± 0.028", "0.500", "100"]


def test_what_is_better_or_worse_than_chance_is_told_by_the_error(table):
    assert "<b>0.580</b>" in table  # four errors above
    assert "0.510 <small>" in table  # a fifth of an error above
    assert '<mark class="bad">0.430</mark>' in table


def test_fewer_bits_are_better(table):
    assert "<b>3.000</b>" in table
    assert "<del>+0.500</del>" in table


def test_models_are_ordered_by_the_steps_behind_them(table):
    assert re.search(r"untrained</bdi> 0, <bdi>base</bdi> 60, <bdi>tuned</bdi> 70", table)
    (header,) = [row for row in rows_of(table) if row[:1] == ["Task"] and "untrained" in row]
    assert header[3:7] == ["untrained", "base", "tuned", "byte 5-gram"]


def test_a_figure_of_three_checkpoints_is_a_curve(table):
    assert table.count("<svg") == 1
    assert 'aria-label="UDHR, bits per byte, mean"' in table


def test_what_was_not_run_is_listed_with_its_reason(table):
    (row,) = [row for row in rows_of(table) if row[0] == "XNLI"]
    assert row == ["XNLI", "understanding", "&lt;b&gt;needs the hub&lt;/b&gt;"]
