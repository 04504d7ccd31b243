"""`make agreement`: our rules against datatrove's recorded answers, and what it says of files that are not as they should be."""

import gzip
import hashlib
import json
import subprocess
import sys
from importlib.util import find_spec

import pytest
from samples import ROOT, environment

sys.path.append(str(ROOT / "benchmarks"))

from agreement.__main__ import Tally
from agreement.answers import answers
from agreement.records import FILTERS, GoldensError, batches, read_documents

SYNTHETIC = ROOT / "tests" / "data" / "datatrove_filters.jsonl.gz"
SHARED = ROOT.parent / "shared"
PUBLIC = SHARED / "goldens" / "filters.jsonl.gz"


def compared(path, data=ROOT):
    tally = Tally()
    for batch in batches(read_documents(path, data)):
        tally.add(batch, answers(batch))
    return tally


def records():
    with gzip.open(SYNTHETIC) as lines:
        return [json.loads(line) for line in lines]


def record(text="One two three.", words=(), **more):
    """A record with one verdict, of a text that datatrove's FineWeb filter drops."""
    words = {"n": len(words), "list": list(words)}
    verdicts = {"default": {"fineweb_quality": "short_line_ratio"}}
    return {"lang": "en", "id": "made", "file": None, "text": text, "words": words, "verdicts": verdicts, **more}


def write(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def agreement(*words):
    command = [sys.executable, "-P", "-m", "agreement", *map(str, words)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=300, env=environment(PYTHONPATH=ROOT / "benchmarks")
    )


def test_every_verdict_and_reason_on_documents_at_the_edges_of_rules_is_datatroves():
    tally = compared(SYNTHETIC)
    assert tally.differences == []
    assert tally.compared == 6 * len(records())


@pytest.mark.slow
@pytest.mark.skipif(not PUBLIC.exists(), reason=f"datatrove's recorded answers are not at {PUBLIC}")
def test_every_verdict_and_reason_in_18_languages_is_datatroves():
    tally = compared(PUBLIC, SHARED / "data")
    assert tally.differences == []
    assert tally.compared == 43_215


def test_the_command_ends_with_one_line_of_sums(tmp_path):
    done = agreement(write(tmp_path / "plain", record(), record(unstable=True)))
    assert done.returncode == 0, done.stderr
    assert "| default | fineweb_quality | 1 | 0 | 1 | 1 | 0 |" in done.stdout
    assert done.stdout.splitlines()[-1] == (
        "2 documents, 1 of them unstable and left out; 1 verdicts compared; 0 deliberate differences; 0 differences"
    )


@pytest.mark.parametrize("name", FILTERS)
def test_any_other_verdict_is_a_difference_that_names_its_line(name, tmp_path):
    rows = records()[:3]
    rows[1]["verdicts"]["default"][name] = "another reason"
    ((line, message),) = compared(write(tmp_path / "rows", *rows)).differences
    assert line == 2
    assert rows[1]["id"] in message
    assert "datatrove another reason, ours " in message


def test_the_command_fails_where_something_differs(tmp_path):
    wrong = record(verdicts={"default": {"fineweb_quality": None}})
    done = agreement(write(tmp_path / "wrong", record(), wrong))
    assert done.returncode == 1
    assert "line 2 (made, en), default/fineweb_quality: datatrove kept, ours short_line_ratio\n" in done.stdout
    assert done.stdout.endswith("; 1 differences\n")


@pytest.mark.skipif(bool(find_spec("datatrove")), reason="datatrove is installed here")
def test_words_from_raw_text_need_the_segmenters_of_datatrove(tmp_path):
    done = agreement(write(tmp_path / "plain", record()), "--raw")
    assert done.returncode == 2
    assert "pip install 'polylm[datatrove]'" in done.stderr


def test_rules_see_the_recorded_words_and_not_their_own(tmp_path):
    prose = next(row for row in records() if row["verdicts"]["default"]["gopher_quality"] is None)
    prose["words"] = {"n": 1, "list": ["the"]}
    messages = [message for _, message in compared(write(tmp_path / "words", prose)).differences]
    assert any("default/gopher_quality: datatrove kept, ours gopher_short_doc" in message for message in messages)


def test_dividing_by_no_words_is_the_only_exception_that_is_deliberate(tmp_path):
    raised = {"fineweb2": {"fineweb_quality": "!ZeroDivisionError"}}
    without = record("1" * 40 + ".", lang="ko", verdicts=raised)
    with_words = record("1" * 40 + ".", ["1" * 40, "."], lang="ko", verdicts=raised)
    other = record("1" * 40 + ".", lang="ko", verdicts={"fineweb2": {"fineweb_quality": "!TypeError"}})
    tally = compared(write(tmp_path / "raised", without, with_words, other))
    assert [line for line, _ in tally.differences] == [2, 3]


@pytest.mark.parametrize(("text", "reason"), [("", "empty"), (" ", None), ("\n", "dup_line_frac")])
def test_only_a_text_of_no_characters_is_empty_for_the_repetition_filter(text, reason, tmp_path):
    row = record(text, verdicts={"default": {"gopher_repetition": reason, "fineweb_quality": "empty"}})
    assert compared(write(tmp_path / "empty", row)).differences == []


def test_a_lone_surrogate_is_a_character_like_any_other(tmp_path):
    words = ["a\ud800", "b\udfff"] * 30
    lines = "\n".join(" ".join(words) + f"\ud800{k} and the end of it." for k in range(3))
    verdicts = {"default": {"fineweb_quality": None, "gopher_quality": "gopher_below_avg_threshold"}}
    spans = {"n": 60, "spans": [number for _ in words for number in (1, 2)]}
    spans["spans"][0] = 0
    row = record(lines, verdicts=verdicts) | {"words": spans}
    assert compared(write(tmp_path / "surrogates", row)).differences == []


def test_documents_of_several_languages_and_filters_may_stand_in_any_order(tmp_path):
    filters = {"fineweb_quality": "line_punct_ratio"}
    swedish = record("Inte en mening", lang="sv", verdicts={"default": filters})
    turkish = record("Bir cümle", lang="tr", verdicts={"fineweb2": filters, "default": filters})
    tally = compared(write(tmp_path / "mixed", swedish, record(), turkish, swedish, {**record(), "verdicts": {}}))
    assert (tally.differences, tally.compared) == ([], 5)


def test_texts_come_from_the_files_that_records_name(tmp_path):
    digest = hashlib.sha256(b"One two three.").hexdigest()
    row = record(file="medium/en.jsonl.gz", text_sha256=digest)
    del row["text"]
    (tmp_path / "medium").mkdir()
    with gzip.open(tmp_path / "medium" / "en.jsonl.gz", "wt") as file:
        file.write(
            json.dumps({"id": "other", "text": "x"}) + "\n" + json.dumps({"id": "made", "text": row["id"]}) + "\n"
        )
    path = write(tmp_path / "rows", record(), row)
    with pytest.raises(GoldensError, match=r"rows, line 2: the text's sha256 is"):
        compared(path, tmp_path)
    with gzip.open(tmp_path / "medium" / "en.jsonl.gz", "wt") as file:
        file.write(json.dumps({"id": "made"}) + "\n")
    with pytest.raises(GoldensError, match=r"rows, line 2: .*en.jsonl.gz, line 1: no `text`"):
        compared(path, tmp_path)
    with gzip.open(tmp_path / "medium" / "en.jsonl.gz", "wt") as file:
        file.write(json.dumps({"id": "other"}) + "\n")
    with pytest.raises(GoldensError, match=r"rows, line 2: medium/en.jsonl.gz holds no document with the id 'made'"):
        compared(path, tmp_path)
    with gzip.open(tmp_path / "medium" / "en.jsonl.gz", "wt") as file:
        file.write(json.dumps({"id": "made", "text": "One two three."}) + "\n")
    assert compared(path, tmp_path).compared == 2


def without(name):
    row = record()
    del row[name]
    return row


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            record(verdicts={"default": {"c4_badwords": None}}),
            "no rules for a filter 'c4_badwords'; those here are gopher_",
        ),
        (record(verdicts={"dolma": {}}), "no thresholds for a profile 'dolma'; those here are default, fineweb2"),
        (record(verdicts={"fineweb2": {}}), "no thresholds of FineWeb2 for the language 'en'"),
        (record(verdicts={"default": {"fineweb_quality": 1}}), "`fineweb_quality` is int, not str or null"),
        (record(verdicts={"default": {"c4_quality": None}}), "no `c4_quality`, which should be dict"),
        (without("words"), "no `words`, which should be dict; there are lang, id, file, text, verdicts"),
        (without("text"), "no `text`, which should be str"),
        (without("file"), "no `file`, which should be str or null"),
        (without("lang"), "no `lang`"),
        (without("verdicts"), "no `verdicts`"),
        (record(text_sha256="0" * 64), "the text's sha256 is 7493b3"),
        (record(file="medium/xx.jsonl.gz"), "xx.jsonl.gz, which is not there; give the folder with DATA=FOLDER"),
        (record() | {"words": {"spans": [0, 3, 1, 30]}}, "no pairs of gap and length within the 14 characters"),
        (record() | {"words": {"spans": [0, "3"]}}, "`spans` holds something else than whole numbers"),
        (record() | {"words": {"n": 2, "list": ["One"]}}, "1 words where `n` says 2"),
        (record() | {"words": {"list": [1]}}, "something else than strings"),
        (record() | {"words": {}}, "no `spans`"),
        ([], "holds a list; an object was expected"),
    ],
)
def test_a_record_of_another_form_is_named_by_its_line(row, message, tmp_path):
    with pytest.raises(GoldensError) as error:
        compared(write(tmp_path / "rows", record(), row), tmp_path)
    assert f"{tmp_path / 'rows'}, line 2" in str(error.value)
    assert message in str(error.value)


def test_a_file_that_cannot_be_read_is_one_message_and_another_exit_code(tmp_path):
    broken = tmp_path / "broken"
    broken.write_bytes(SYNTHETIC.read_bytes()[:20_000])
    (tmp_path / "text").write_text(json.dumps(record()) + "\n\nno JSON\n")
    for name, said in (
        ("nothing", "nothing cannot be read"),
        ("broken", "broken cannot be read behind line"),
        ("text", "text, line 3 is no JSON"),
    ):
        done = agreement(tmp_path / name)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.count("\n") == 1
        assert said in done.stderr


def test_make_asks_for_the_file():
    done = subprocess.run(["make", "agreement", "GOLDENS="], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr.startswith("make agreement GOLDENS=FILE [DATA=FOLDER]")
