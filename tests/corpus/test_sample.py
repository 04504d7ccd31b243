"""The data stages on a third of the sample, as a run left them: what every document's rules say, and what is reported."""

import json
from collections import Counter, defaultdict

import numpy as np
import pytest

from polylm.deployments.settings import Settings
from polylm.flows.reading import replayed
from polylm.tasks import keys
from polylm.tasks.corpus.language import LANGUAGES
from polylm.tasks.corpus.rule_sets import rule_set, rules_of
from polylm.tasks.store import read_columns
from polylm.tasks.why import why

RULE_NAMES = rules_of(["polylm"])
GATES = ["drop_empty", "want_languages", "keep_sure", "filter_text", "filter_quality", "drop_duplicates"]


@pytest.fixture(scope="module")
def session(third_store):
    with replayed(Settings(store=third_store, workers=0)) as here:
        yield here


@pytest.fixture(scope="module")
def answers(session):
    """All rules' answers on every document, by number."""
    found = {}
    for index, part in enumerate(session.artifacts["ingest"].parts):
        jobs = [jobs[index] for jobs in session.gates]
        for row in range(part.record.rows):
            found[part.number + row] = why(jobs, row, session.store)
    return found


@pytest.fixture(scope="module")
def columns(session):
    """Columns of every document by stage."""

    def read(stage, *names):
        artifact = session.artifacts[stage]
        tables = [read_columns(session.store.part_path(stage, part.key), list(names)) for part in artifact.parts]
        return [value for table in tables for value in zip(*(table[name].to_pylist() for name in names), strict=True)]

    return read


def test_every_document_has_the_answer_of_every_rule(answers, columns):
    assert len(answers) == len(columns("ingest", "id")) > 300
    for found in answers.values():
        assert list(dict.fromkeys(answer.gate for answer in found)) == GATES
        assert len(found) == 2 + 1 + len(RULE_NAMES) + 2 + 1
        for answer in found:
            if answer.verdict.startswith("not judged: "):
                assert answer.verdict.endswith((" is null", " are null"))
                assert answer.margin is None
            elif answer.side == "one_of":
                assert answer.bound == list(LANGUAGES)
                assert (answer.value in answer.bound) == (answer.margin == 0) == (answer.verdict == "holds")
            elif answer.bound is not None:
                sign = 1 if answer.side == "at_least" else -1
                assert answer.margin == pytest.approx((answer.value - answer.bound) * sign)
                assert (answer.margin < 0) == (answer.verdict == "broken")
            else:
                assert (answer.margin, answer.verdict) == (None, "off")


def test_what_is_selected_is_what_no_rule_breaks(answers, columns):
    kept = [all(answer.verdict != "broken" for answer in found) for found in answers.values()]
    assert kept == [weight is not None for (weight,) in columns("select", "weight")]
    assert 0 < sum(kept) < len(kept)


def test_documents_in_are_those_kept_and_those_rejected_by_reason(answers, session):
    reasons = Counter(
        next((answer.rule for answer in found if answer.verdict == "broken"), None) for found in answers.values()
    )
    assert sum(reasons.values()) == sum(part.record.rows for part in session.artifacts["clean"].parts)
    assert reasons.keys() <= {None, "empty", "unwanted_language", "unsure_language", *RULE_NAMES, "tail_perplexity",
                              "unlike_reference", "duplicate"}  # fmt: skip


def test_a_rule_that_did_not_judge_names_the_column_that_is_null(answers, columns):
    languages = [language for (language,) in columns("identify_language", "language")]
    for language, found in zip(languages, answers.values(), strict=True):
        quality = {answer.rule: answer.verdict for answer in found if answer.gate == "filter_quality"}
        if language in ("th", "he"):
            assert "perplexity" in quality["tail_perplexity"]
        if language != "en":
            assert "classifier" in quality["unlike_reference"]


def test_thresholds_are_those_of_the_documents_language(answers, columns):
    languages = [language for (language,) in columns("identify_language", "language")]
    for language, found in zip(languages, answers.values(), strict=True):
        own = {answer.rule: answer for answer in found if answer.gate == "filter_text"}
        if own["gopher_short_doc"].value is not None:
            expected = rule_set("polylm", language).thresholds
            assert {rule: answer.bound for rule, answer in own.items()} == expected


def test_every_cluster_that_has_a_survivor_keeps_one(answers, columns):
    labels = columns("label_clusters", "cluster", "similarity")
    survivors = defaultdict(list)
    for (cluster, similarity), found in zip(labels, answers.values(), strict=True):
        broken = [answer.rule for answer in found if answer.verdict == "broken"]
        if cluster is not None:
            assert 0.7 <= round(similarity, 4) <= 1
        if cluster is not None and broken in ([], ["duplicate"]):
            survivors[cluster].append(broken == [])
    assert all(sum(kept) == 1 for kept in survivors.values())


def test_the_record_says_which_languages_have_a_model_and_why_others_have_none(session):
    metrics = {part.label: part.record.metrics for part in session.artifacts["train_quality_models"].parts}
    assert list(metrics) == list(LANGUAGES)
    for language, own in metrics.items():
        assert own["has_model"] == (min(own["reference_bytes"]) >= 10_000), language
        assert ("bytes of reference, 10,000 are needed" in own.get("why_none", "")) != own["has_model"]
    assert not metrics["th"]["has_model"]
    assert not metrics["he"]["has_model"]


def test_scores_are_null_exactly_where_there_is_no_model(session, columns):
    has_model = {
        part.label: part.record.metrics["has_model"] for part in session.artifacts["train_quality_models"].parts
    }
    languages = [language for (language,) in columns("identify_language", "language")]
    for language, (perplexity, classifier) in zip(
        languages, columns("score_quality", "perplexity", "classifier"), strict=True
    ):
        assert (perplexity is not None) == has_model.get(language, False)
        assert perplexity is None or perplexity > 1
        assert classifier is None or 0 <= classifier <= 1


def test_keys_name_the_libraries_whose_output_is_the_stages(session):
    """Another Unicode version or segmenter makes other parts."""
    for stage, library in (
        ("clean", "unicodedata"), ("identify_language", "fasttext-modern"), ("measure_text", "rjieba"),
        ("sign", "pyarrow"), ("score_quality", "kenlm"),
    ):  # fmt: skip
        identity = session.artifacts[stage].parts[0].record.identity
        assert library in identity["libraries"], stage
        assert keys.digest(json.loads(json.dumps(identity))) == keys.digest(identity)


def test_no_page_is_in_both_splits(columns):
    splits = defaultdict(set)
    for (extra,), (split,) in zip(columns("ingest", "extra"), columns("assign_split", "split"), strict=True):
        page = json.loads(extra or "{}").get("align")
        if page and split:
            splits[page].add(split)
    assert splits
    assert all(len(found) == 1 for found in splits.values())
    assert np.mean([found == {"valid"} for found in splits.values()]) < 0.2
