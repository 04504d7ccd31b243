"""Head, middle and tail of real languages have the shares that the recipe asks for, among the documents that they were fitted on."""

import gzip
import itertools
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from polylm.tasks.corpus.language import LANGUAGES
from polylm.tasks.corpus.perplexity import QualityModelParams, train_quality_models
from polylm.tasks.corpus.quality import CutoffParams, filter_quality, fit_quality_cutoffs, score_quality
from polylm.tasks.stage import NoParams, Workspace

MEDIUM = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "medium"
POINTS = 0.02
LEAST = 50  # documents: of fewer, one is more than two points
CUTOFFS = CutoffParams(head=0.3, middle=0.6, ceiling=0.9)


def scored(corpus, language, params, folder):
    """The corpus's documents in a language with their scores, by a model trained on its references; None where there is none."""
    work = Workspace(*(folder / name for name in ("out", "scratch", "shared")))
    for name in ("out", "scratch"):
        (folder / name).mkdir(parents=True)
    if not train_quality_models(corpus, params, work, language)["has_model"]:
        return None
    parts = []
    for part in corpus:
        own = np.asarray(part["language"].to_numpy(zero_copy_only=False) == language)
        rows = {name: part[name].filter(pa.array(own)) for name in ("text", "language")}
        parts.append(rows | score_quality(rows, NoParams(), {language: work.out}, {}))
    return parts


def check_shares(parts, language):
    """Cut-offs fitted on these documents divide them as asked, and the gate rejects what is past the ceiling."""
    [cutoffs] = (table := fit_quality_cutoffs(parts, CUTOFFS)).to_pylist()
    perplexity = np.concatenate([part["perplexity"].drop_null().to_numpy() for part in parts])
    assert cutoffs["documents"] == len(perplexity) >= LEAST
    for name in ("head", "middle", "ceiling"):
        share = (perplexity <= cutoffs[name]).mean()
        assert share == pytest.approx(getattr(CUTOFFS, name), abs=POINTS), (language, name)
    gone = [filter_quality(_seen(part), NoParams(), table)["tail_perplexity"].broken for part in parts]
    assert np.concatenate(gone).sum() / len(perplexity) == pytest.approx(1 - CUTOFFS.ceiling, abs=POINTS), language


def _seen(part):
    """A part's columns as a gate sees them."""
    numbers = {
        name: part[name].cast(pa.float64()).fill_null(np.nan).to_numpy() for name in ("perplexity", "classifier")
    }
    return numbers | {"language": part["language"].dictionary_encode(), "perplexity_model": part["perplexity_model"]}


def test_shares_on_the_sample(sample, programs, tmp_path):
    corpus = [part | {"language": part["language"].cast(pa.string())} for part in sample]
    judged = []
    for language in LANGUAGES:
        parts = scored(corpus, language, QualityModelParams(min_reference_bytes=20_000), tmp_path / language)
        if parts is not None and sum(len(part["text"]) for part in parts) >= LEAST:
            check_shares(parts, language)
            judged.append(language)
    assert len(judged) >= 5, judged


@pytest.mark.skipif(not MEDIUM.is_dir(), reason="../shared/data/medium, with texts in all 18 languages, is not there")
@pytest.mark.parametrize("language", LANGUAGES)
def test_shares_in_every_language(language, programs, tmp_path):
    with gzip.open(MEDIUM / f"{language}.jsonl.gz", "rt") as lines:
        records = [json.loads(line) for line in itertools.islice(lines, 4_000)]
    texts = [record["text"][:1_000] for record in records[:: len(records) // 300]]
    columns = {"text": texts, "language": [language] * len(texts), "kind": ["doc"] * len(texts)}
    corpus = [{name: pa.array(values[at : at + 100]) for name, values in columns.items()} for at in range(0, 300, 100)]
    params = QualityModelParams(min_reference_bytes=5_000, pieces=8_000)
    check_shares(scored(corpus, language, params, tmp_path / "model"), language)
