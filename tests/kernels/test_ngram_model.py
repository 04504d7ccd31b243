"""Sums of log probabilities are KenLM's own, to the last bit."""

import random
import subprocess

import numpy as np
import pytest

from polylm.deployments.settings import cache_folder
from polylm.kernels import ngram_model

kenlm = pytest.importorskip("kenlm")
WORDS = [f"w{i}" for i in range(60)] + ["größe", "世界", "a" * 40]


def sentences(seed, count):
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, range(1, len(WORDS) + 1), k=draw.randrange(30))) for _ in range(count)]


@pytest.fixture(scope="module", params=[2, 3, 5])
def model(request, tmp_path_factory):
    folder, programs = tmp_path_factory.mktemp("ngrams"), cache_folder() / "bin"
    if not (programs / "lmplz").exists():
        pytest.skip(f"lmplz is not in {programs}: `make install` builds it")
    arpa, path = folder / "arpa", folder / "binary"
    text = "\n".join(sentences(1, 300))
    options = ["-o", str(request.param), "-S", "32M", "-T", str(folder), "--discount_fallback", "--arpa", str(arpa)]
    subprocess.run([programs / "lmplz", *options], input=text.encode(), check=True, capture_output=True)
    subprocess.run([programs / "build_binary", str(arpa), str(path)], check=True, capture_output=True)
    return path


def test_sums_are_those_of_kenlm_to_the_last_bit(model):
    lines = [*sentences(2, 200), "", "w1 unseen w2 w3 unseen unseen w1", " ".join(WORDS * 50)]
    ours = ngram_model.open_model(model)
    words = ngram_model.words_of(ours, [word.encode() for line in lines for word in line.split()])
    offsets = np.cumsum([0, *(len(line.split()) for line in lines)], dtype=np.int64)
    found = ngram_model.log10_probabilities(ours, words, offsets)
    theirs = kenlm.Model(str(model))
    assert found.tolist() == [np.float32(theirs.score(line)) for line in lines]


def test_a_word_that_the_model_never_read_has_number_0(model):
    ours = ngram_model.open_model(model)
    assert ngram_model.words_of(ours, [b"unseen", b"<unk>", b"w1", b""]).astype(bool).tolist() == [
        False,
        False,
        True,
        False,
    ]
    assert len(ngram_model.words_of(ours, [])) == 0


def test_a_file_that_is_none_or_ends_early_is_refused(model, tmp_path):
    whole = model.read_bytes()
    (tmp_path / "text").write_bytes(b"no model" * 100)
    (tmp_path / "short").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="is no binary model of KenLM's version 5"):
        ngram_model.open_model(tmp_path / "text")
    with pytest.raises(ValueError, match="ends early"):
        ngram_model.open_model(tmp_path / "short")
