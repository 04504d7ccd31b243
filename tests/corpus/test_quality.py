"""Perplexity is cc_net's, folds never score themselves, and cutoffs keep the shares that they promise."""

import itertools
import random
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from ccnet import slow_normal
from hypothesis import given, settings
from hypothesis import strategies as st

from polylm.tasks.corpus.classifier import ClassifierParams, train_classifier
from polylm.tasks.corpus.language import LANGUAGES
from polylm.tasks.corpus.perplexity import QualityModelParams, train_quality_models
from polylm.tasks.corpus.quality import CUTOFFS, CutoffParams, filter_quality, fit_quality_cutoffs, score_quality
from polylm.tasks.corpus.reference import Sample
from polylm.tasks.keys import file_digest
from polylm.tasks.rules import judge
from polylm.tasks.stage import NoParams, Workspace

SMALL = QualityModelParams(min_reference_bytes=2_000, memory="32M")
FEW = ClassifierParams(min_examples=10)


def workspace(folder):
    for name in ("out", "scratch", "shared"):
        (folder / name).mkdir(parents=True)
    return Workspace(folder / "out", folder / "scratch", folder)


@pytest.fixture(scope="module")
def models(sample, programs, tmp_path_factory):
    """Models of two languages, from the sample, as folders by language."""
    folders = {}
    for language in ("de", "zh"):
        work = workspace(tmp_path_factory.mktemp(language))
        assert train_quality_models(sample, SMALL, work, language)["has_model"]
        folders[language] = work.out
    return folders


@pytest.fixture(scope="module")
def classifiers(sample, tmp_path_factory):
    work = workspace(tmp_path_factory.mktemp("classifier"))
    metrics = train_classifier(sample, FEW, work, "en")
    assert metrics["has_model"]
    assert min(metrics["held_out_auc"]) > 0.7
    return {"en": work.out}


def slow_perplexity(folder, fold, text):
    """cc_net's own way, one text at a time, by SentencePiece and KenLM."""
    import kenlm
    import sentencepiece

    pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / f"{fold}.sp.model"))
    line = " ".join(pieces.encode_as_pieces(slow_normal(text)))
    model = kenlm.Model(str(next(path for path in folder.glob(f"{fold}.*") if path.suffix in (".binary", ".trie"))))
    state, after, total = kenlm.State(), kenlm.State(), 0.0
    model.BeginSentenceWrite(state)
    for piece in [*line.split(), "</s>"]:
        total += model.BaseScore(state, piece, after)
        state, after = after, state
    return round(10 ** (-total / (len(line.split()) + 1)), 1)


def in_language(sample, language, count, kinds=None):
    """The first documents in a language, and of some kinds."""
    rows = [
        (text, language)
        for part in sample
        for text, own, kind in zip(
            part["text"].to_pylist(), part["language"].to_pylist(), part["kind"].to_pylist(), strict=True
        )
        if own == language and (kinds is None or kind in kinds)
    ]
    texts, languages = zip(*rows[:count], strict=True)
    return {"text": pa.array(texts), "language": pa.array(languages)}


def scores_of_both(folder, texts):
    """Each text's perplexity by the slow way of cc_net's, under both models."""
    return [[slow_perplexity(folder, fold, text) for fold in "01"] for text in texts]


def test_perplexity_is_that_of_cc_net(sample, models):
    for language in models:
        rows = in_language(sample, language, 25)
        found = score_quality(rows, NoParams(), models, {})["perplexity"].to_pylist()
        for both, perplexity in zip(scores_of_both(models[language], rows["text"].to_pylist()), found, strict=True):
            nearest = min(both, key=lambda value: abs(value - perplexity))
            assert perplexity == pytest.approx(nearest, abs=0.1)


def test_no_document_is_scored_by_a_model_that_read_it(sample, models):
    """A reference that a model has read is far less surprising to it than to the other one."""
    rows = in_language(sample, "de", None, SMALL.reference_kinds)
    assert len(rows["text"]) >= 5
    found = score_quality(rows, NoParams(), models, {})["perplexity"].to_pylist()
    for both, perplexity in zip(scores_of_both(models["de"], rows["text"].to_pylist()), found, strict=True):
        assert perplexity == pytest.approx(max(both), abs=0.1)


def test_where_there_is_no_model_no_token_or_no_row_there_is_no_score(models, tmp_path):
    rows = {"text": pa.array(["สวัสดี", "\u200b \u0301", "Guten Tag"]), "language": pa.array(["th", "de", "de"])}
    found = score_quality(rows, NoParams(), {**models, "th": tmp_path}, {"th": tmp_path})
    assert [value is None for value in found["perplexity"].to_pylist()] == [True, True, False]
    assert [value is None for value in found["perplexity_model"].to_pylist()] == [True, True, False]
    assert found["classifier"].to_pylist() == [None] * 3
    empty = {"text": pa.array([], pa.string()), "language": pa.array([], pa.string())}
    assert [len(values) for values in score_quality(empty, NoParams(), {}, {}).values()] == [0, 0, 0]


def test_a_row_has_its_score_whatever_stands_around_it(sample, models, classifiers):
    rows = {name: sample[0][name] for name in ("text", "language")}
    order = np.random.default_rng(1).permutation(len(rows["text"]))
    found = score_quality(rows, NoParams(), models, classifiers)
    mixed = score_quality(
        {name: values.take(pa.array(order)) for name, values in rows.items()}, NoParams(), models, classifiers
    )
    for name, values in found.items():
        assert values.take(pa.array(order)).equals(mixed[name])
        assert values.null_count < len(values)


def test_in_the_sample_twelve_languages_have_enough_reference_and_thai_and_hebrew_none(sample, tmp_path):
    """As in the recipe `sample`, but with a bound that trains nothing: only the text is counted."""
    counted = {}
    for language in LANGUAGES:
        work = workspace(tmp_path / language)
        metrics = train_quality_models(sample, QualityModelParams(min_reference_bytes=10**9), work, language)
        assert list(work.out.iterdir()) == []
        counted[language] = metrics
    enough = {language for language, metrics in counted.items() if min(metrics["reference_bytes"]) >= 20_000}
    assert len(enough) >= 12
    assert not enough & {"th", "he"}
    assert counted["th"]["why_none"] == (
        f"the smaller fold has {min(counted['th']['reference_bytes']):,} bytes of reference, 1,000,000,000 are needed"
    )


def test_a_corpus_of_nothing_trains_nothing(work):
    assert not train_quality_models([], SMALL, work, "de")["has_model"]
    assert not train_classifier([], ClassifierParams(), work, "de")["has_model"]
    assert list(work.out.iterdir()) == []


def test_copies_of_a_text_are_one_example(work):
    texts = [f"Seite {number} von vielen Seiten" for number in range(60)]
    kinds = pa.array(["doc"] * 6 + ["web"] * 54)
    rows = {"text": pa.array(texts), "language": pa.array(["de"] * 60).dictionary_encode(), "kind": kinds}
    metrics = train_classifier([rows] * 20, FEW, work, "de")
    assert not metrics["has_model"]
    assert "examples of a class, 10 are needed" in metrics["why_none"]


def test_fewer_pieces_than_characters_are_refused_in_words(work):
    texts = ["".join(chr(0x4E00 + (7 * row + place) % 2_500) for place in range(60)) for row in range(300)]
    rows = {
        "text": pa.array(texts),
        "language": pa.array(["zh"] * 300).dictionary_encode(),
        "kind": pa.array(["doc"] * 300),
    }
    with pytest.raises(ValueError, match=r"300 pieces are fewer .* raise quality_models.pieces, or lower"):
        train_quality_models([rows], QualityModelParams(min_reference_bytes=2_000, pieces=300), work, "zh")


lines = st.lists(st.tuples(st.integers(0, 2**64 - 1), st.binary(min_size=1, max_size=9)), max_size=30)


@settings(max_examples=30, deadline=None)
@given(lines, st.integers(1, 100), st.randoms())
def test_a_sample_is_of_the_hashes_and_not_of_the_order(lines, limit, order):
    lines = [(hash_, line.replace(b"\n", b" ")) for hash_, line in lines]
    kept = []
    for _ in range(2):
        with tempfile.TemporaryDirectory() as folder:
            sample = Sample(Path(folder) / "fold", limit)
            for hash_, line in lines:
                sample.add(hash_, line)
            assert sample.seen == sum(len(line) for _, line in lines)
            kept.append(sorted(sample.join().read_bytes().split(b"\n")[:-1]))
            assert sum(map(len, kept[-1])) == sample.kept
        order.shuffle(lines)
    assert kept[0] == kept[1]
    assert sum(map(len, kept[0])) <= limit or len({hash_ for hash_, _ in lines if hash_ == 0}) == 1
    # The smallest threshold that fits: what one level more would add goes over the limit.
    by_level = sorted(((64 - hash_.bit_length(), line) for hash_, line in lines), reverse=True)
    expected, size = [], 0
    for _, level in itertools.groupby(by_level, key=lambda pair: pair[0]):
        own = [line for _, line in level]
        if (size := size + sum(map(len, own))) > limit:
            break
        expected += own
    assert kept[0] == sorted(expected) or (size > limit and not expected)


def test_a_large_sample_is_between_half_of_its_limit_and_all_of_it(tmp_path):
    draw = random.Random(1)
    sample = Sample(tmp_path / "fold", 10_000)
    for _ in range(20_000):
        sample.add(draw.getrandbits(64), b"x" * 10)
    assert 4_000 <= sample.kept <= 10_000
    assert sample.seen == 200_000


def test_the_beginning_of_a_sample_is_the_smaller_sample(tmp_path):
    draw = random.Random(2)
    lines = [(draw.getrandbits(64), f"line {number}".encode()) for number in range(2_000)]
    large, small = Sample(tmp_path / "large", 10_000), Sample(tmp_path / "small", 2_000)
    for hash_, line in lines:
        large.add(hash_, line)
        small.add(hash_, line)
    first = small.join().read_bytes()
    assert 500 < len(first) < 3_000
    assert large.join().read_bytes().startswith(first)


def test_pieces_are_learned_from_the_beginning_and_n_grams_from_all(sample, models, programs, tmp_path):
    """SentencePiece's memory grows with its text, so it is given less of it."""
    work = workspace(tmp_path)
    less = SMALL.model_copy(update={"max_pieces_bytes": 2_000})
    found = train_quality_models(sample, less, work, "de")
    whole = train_quality_models(sample, SMALL, workspace(tmp_path / "all"), "de")
    assert found["used_bytes"] == whole["used_bytes"]
    assert max(found["pieces"]) < min(whole["pieces"])
    rows = in_language(sample, "de", 5)
    scores = score_quality(rows, NoParams(), {"de": work.out}, {})["perplexity"].to_pylist()
    for both, perplexity in zip(scores_of_both(work.out, rows["text"].to_pylist()), scores, strict=True):
        assert min(abs(value - perplexity) for value in both) < 0.1


def test_two_trainings_of_the_classifier_give_the_same_bytes_whatever_the_order_of_parts(sample, classifiers, work):
    train_classifier(sample[::-1], FEW, work, "en")
    for name in ("0.bin", "1.bin", "calibration.json"):
        assert file_digest(work.out / name) == file_digest(classifiers["en"] / name)


def test_the_classifier_tells_references_from_the_rest(sample, classifiers):
    likes, others = [], []
    for part in sample:
        scores = score_quality({name: part[name] for name in ("text", "language")}, NoParams(), {}, classifiers)[
            "classifier"
        ]
        for kind, score in zip(part["kind"].to_pylist(), scores.to_pylist(), strict=True):
            if score is not None:
                assert 0 <= score <= 1
                (likes if kind in ClassifierParams().reference_kinds else others).append(score)
    assert np.median(likes) > np.median(others)


def labelled(texts, language, kinds):
    return {"text": pa.array(texts), "language": pa.array([language] * len(texts)), "kind": pa.array(kinds)}


def test_words_that_look_like_fasttexts_own_change_no_label(work):
    texts = [
        f"__label__0 </s> text {chr(97 + i // 10)}{chr(97 + i % 10)} {'good' if i % 2 else 'bad'}" for i in range(40)
    ]
    rows = labelled(texts, "en", ["doc" if i % 2 else "web" for i in range(40)])
    metrics = train_classifier([rows], ClassifierParams(min_examples=1), work, "en")
    assert metrics["has_model"]
    assert np.array(metrics["examples"]).sum(axis=0).tolist() == [20, 20]
    assert metrics["held_out_auc"] == [1.0, 1.0]


def scored(pairs, size=7):
    return [
        {
            "language": pa.array([language for language, _, _ in pairs[i : i + size]], pa.string()).dictionary_encode(),
            "perplexity": pa.array([perplexity for _, perplexity, _ in pairs[i : i + size]], pa.float32()),
            "perplexity_model": pa.array(
                [None if value is None else f"model-{language}" for language, value, _ in pairs[i : i + size]],
                pa.string(),
            ).dictionary_encode(),
            "classifier": pa.array([score for _, _, score in pairs[i : i + size]], pa.float32()),
        }
        for i in range(0, len(pairs), size)
    ]


def test_head_middle_and_tail_have_their_shares():
    draw = np.random.default_rng(3)
    pairs = [
        (language, float(value), None)
        for language, scale in (("de", 5), ("th", 9))
        for value in draw.lognormal(scale, 1, 3_000)
    ]
    pairs += [("he", None, None)] * 5
    draw.shuffle(pairs)
    pairs = [(str(language), None if value is None else float(value), None) for language, value, _ in pairs]
    cutoffs = fit_quality_cutoffs(scored(pairs, 500), CutoffParams())
    assert cutoffs.equals(fit_quality_cutoffs(scored(pairs[::-1], 333), CutoffParams()))
    for row in cutoffs.to_pylist():
        own = np.array(
            [value for language, value, _ in pairs if language == row["language"] and value is not None], np.float32
        )
        assert row["documents"] == len(own)
        assert row["model"] == (f"model-{row['language']}" if len(own) else None)
        if row["language"] == "he":
            assert (row["head"], row["ceiling"], row["classifier_floor"]) == (None, None, None)
            continue
        for name, share in (("head", 0.3), ("middle", 0.6), ("ceiling", 0.9)):
            assert (own <= row[name]).mean() == pytest.approx(share, abs=0.02)
            assert row[name] == pytest.approx(np.quantile(own, share, method="inverted_cdf"), rel=1e-3)


def test_no_documents_have_no_cutoffs():
    table = fit_quality_cutoffs([], CutoffParams())
    assert table.num_rows == 0
    assert table.schema == pa.schema(list(CUTOFFS.items()))


def test_the_worst_texts_have_their_reasons_and_what_has_no_model_is_not_judged():
    pairs = [("en", float(value), value / 100) for value in range(1, 101)] + [("th", None, None)]
    cutoffs = fit_quality_cutoffs(scored(pairs), CutoffParams())
    rows = scored(pairs, len(pairs))[0]
    seen = {name: rows[name] for name in ("language", "perplexity_model")} | {
        name: rows[name].cast(pa.float64()).fill_null(np.nan).to_numpy() for name in ("perplexity", "classifier")
    }
    rules = filter_quality(seen, NoParams(), cutoffs)
    nulls = np.asarray(rows["perplexity"].is_null())
    reasons = judge(rules, nulls, "filter_quality").to_pylist()
    assert reasons[90:100] == ["tail_perplexity"] * 10
    assert reasons[:4] == ["unlike_reference"] * 4
    assert reasons[4:90] == [None] * 86
    assert reasons[100] is None
    assert not rules["tail_perplexity"].judged[100]


def test_percentiles_of_another_model_are_refused():
    pairs = [("en", float(value), None) for value in range(1, 101)]
    rows = scored(pairs, len(pairs))[0]
    cutoffs = fit_quality_cutoffs([rows], CutoffParams())
    foreign = cutoffs.set_column(1, "model", pa.array(["another"]))
    seen = {
        **rows,
        "perplexity": rows["perplexity"].cast(pa.float64()).to_numpy(),
        "classifier": np.full(100, np.nan),
    }
    filter_quality(seen, NoParams(), cutoffs)
    with pytest.raises(ValueError, match="in en are of model model-en, their percentiles of model another: fit perc"):
        filter_quality(seen, NoParams(), foreign)
    other = {**rows, "perplexity_model": pa.array(["another"] * 100)}
    with pytest.raises(ValueError, match=r"are of 2 models \(another, model-en\)"):
        fit_quality_cutoffs([rows, other], CutoffParams())


def test_all_percentiles_are_kept_as_in_the_table_of_cc_net():
    cutoffs = fit_quality_cutoffs(scored([("en", float(value), None) for value in range(1, 1001)]), CutoffParams())
    found = cutoffs["percentiles"][0].as_py()
    assert len(found) == 101
    for share in (1, 30, 60, 99, 100):
        assert found[share] == pytest.approx(10 * share, rel=2e-3)
