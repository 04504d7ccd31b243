import math

import pytest

from polylm.deployments.settings import cache_folder
from polylm.tasks.evaluation.bits import bits_per_byte
from polylm.tasks.evaluation.byte_models import (
    ByteModelParams,
    find_lmplz,
    score_ngram,
    score_unigram,
    train_byte_models,
)
from polylm.tasks.evaluation.languages import EvaluationError, held_out_texts

needs_lmplz = pytest.mark.skipif(
    not (cache_folder() / "bin" / "lmplz").is_file(), reason="lmplz is not built yet: `make run` builds it"
)


@pytest.fixture
def trained(tmp_path, make_workspace, make_corpus):
    def train(texts, language="en", name="model", **rest):
        work = make_workspace(tmp_path / name)
        params = ByteModelParams(languages=(language,), **rest)
        train_byte_models(make_corpus(texts), params, work=work, job=language)
        return work.out

    return train


@needs_lmplz
def test_a_5gram_beats_a_unigram_and_both_beat_guessing(trained):
    train, held_out = held_out_texts("en")[::2], held_out_texts("en")[1::2]
    folder = trained({"en": train, "th": held_out_texts("th")})
    sizes = [len(text.encode()) for text in held_out]
    five, _ = bits_per_byte(score_ngram(folder, held_out), sizes)
    one, _ = bits_per_byte(score_unigram(folder, held_out), sizes)
    assert five < 3 < one < 8


@needs_lmplz
def test_the_probabilities_of_all_bytes_and_the_line_end_sum_to_one(trained):
    import kenlm

    folder = trained({"en": ["abracadabra", "a cab"]})
    model = kenlm.Model(str(folder / "5gram.arpa"))
    state, after = kenlm.State(), kenlm.State()
    model.BeginSentenceWrite(state)
    words = [f"{byte:02x}" for byte in range(256)] + ["</s>"]
    # <unk> stands for one byte that was not seen: the other two words that the padding counts are <s> and <unk>.
    total = sum(10 ** model.BaseScore(state, word, after) for word in words)
    assert total == pytest.approx(1, abs=0.01)


@needs_lmplz
def test_bytes_that_were_never_seen_cost_more_but_not_everything(trained):
    folder = trained({"en": held_out_texts("en")})
    cost = score_ngram(folder, ["ไทย"])[0] / len("ไทย".encode())
    assert math.log(256) < cost < 25


@needs_lmplz
def test_training_twice_gives_the_same_bytes(trained):
    texts = {"de": held_out_texts("de")}
    first, second = trained(texts, "de", "first"), trained(texts, "de", "second")
    for name in ("5gram.arpa", "unigram.json"):
        assert (first / name).read_bytes() == (second / name).read_bytes()


@needs_lmplz
def test_only_selected_training_text_of_the_language_is_read(tmp_path, make_workspace, make_corpus):
    corpus = make_corpus({"en": ["aaa"], "de": ["bbb"]}) + make_corpus({"en": ["ccc"]}, split="valid")
    work = make_workspace(tmp_path / "model")
    train_byte_models(corpus, ByteModelParams(languages=("en",)), work=work, job="en")
    a, b, c = score_unigram(work.out, ["a", "b", "c"])
    assert b == c == pytest.approx(math.log(259))
    assert a == pytest.approx(math.log(259 / 4))


def test_a_language_without_text_is_guessed(trained):
    folder = trained({"de": ["nichts"]}, language="en")
    assert score_ngram(folder, ["ab"]) == score_unigram(folder, ["ab"]) == pytest.approx([2 * math.log(256)])


@needs_lmplz
def test_reading_stops_at_the_limit(trained):
    many = {"en": ["x" * 999] * 10}
    folder = trained(many, max_bytes=1_000)
    assert score_unigram(folder, ["x"]) == pytest.approx([math.log((1_998 + 256) / 1_999)])


def test_a_missing_lmplz_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(EvaluationError, match=r"lmplz: not there; `make run` builds it"):
        find_lmplz()
