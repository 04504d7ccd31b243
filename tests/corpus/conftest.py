"""Documents as stages see them: the embedded sample, cleaned and labelled once, and small corpora made by hand."""

import gzip
import json

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from samples import DOCUMENTS, MODEL

from polylm.deployments.settings import cache_folder
from polylm.kernels import clean_text
from polylm.tasks.corpus.language import LanguageParams, identify_language
from polylm.tasks.stage import Workspace

PART = 100


@pytest.fixture(scope="session")
def sample():
    """The sample's parts with text, chars, kind, extra, language, confidence and doc."""
    if not MODEL.exists():
        pytest.skip(f"{MODEL} is not there: `make install` fetches it")
    with gzip.open(DOCUMENTS, "rt") as file:
        records = [json.loads(line) for line in file]
    texts = clean_text.clean(
        pa.array([record["text"] for record in records]), max_word_chars=1_000, drop_url_lines=True
    ).texts
    columns = {
        "text": texts,
        "chars": pc.utf8_length(texts).fill_null(0),
        "kind": pa.array([record.get("kind") for record in records], pa.string()),
        "align": pa.array([record.get("align") for record in records], pa.string()),
        "doc": pa.array(range(len(records)), pa.int64()),
        **identify_language({"text": texts}, LanguageParams(), MODEL),
    }
    return [
        {name: values.slice(start, PART) for name, values in columns.items()} for start in range(0, len(records), PART)
    ]


@pytest.fixture
def work(tmp_path):
    for name in ("out", "scratch", "shared"):
        (tmp_path / name).mkdir()
    return Workspace(tmp_path / "out", tmp_path / "scratch", tmp_path / "shared")


@pytest.fixture(scope="session")
def programs():
    folder = cache_folder() / "bin"
    if not (folder / "lmplz").exists():
        pytest.skip(f"lmplz is not in {folder}: `make install` builds it")
