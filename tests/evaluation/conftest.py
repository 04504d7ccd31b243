"""A real tokenizer and a small random network, exported as the pipeline does it."""

from pathlib import Path

import pyarrow as pa
import pytest

from polylm.model.config import ModelConfig
from polylm.tasks.evaluation.languages import LANGUAGES, held_out_texts
from polylm.tasks.stage import Workspace


@pytest.fixture(scope="session")
def make_workspace():
    def make(folder: Path) -> Workspace:
        out, scratch = folder / "out", folder / "scratch"
        out.mkdir(parents=True)
        scratch.mkdir()
        return Workspace(out, scratch, folder)

    return make


@pytest.fixture(scope="session")
def make_corpus():
    """A corpus of one part, all of it selected."""

    def make(texts: dict[str, list[str]], *, split: str = "train"):
        rows = [(text, code) for code, of_language in texts.items() for text in of_language]
        return [
            {
                "text": pa.array([text for text, _ in rows], pa.string()),
                "language": pa.array([code for _, code in rows], pa.string()).dictionary_encode(),
                "weight": pa.array([1] * len(rows), pa.int32()),
                "split": pa.array([split] * len(rows), pa.string()),
            }
        ]

    return make


@pytest.fixture(scope="session")
def exported(tmp_path_factory, make_workspace, make_corpus) -> Path:
    """The tokenizer has seen every fifth paragraph of the evaluation text: nothing here measures a model's worth."""
    from polylm.model.checkpoint import save_weights
    from polylm.model.network import Network, initialize
    from polylm.tasks.tokens.tokenizer import TokenizerParams, train_tokenizer
    from polylm.tasks.training.export import SHARES, ExportParams, export

    tokens = make_workspace(tmp_path_factory.mktemp("tokenizer"))
    texts = {code: held_out_texts(code)[::5] for code in LANGUAGES}
    train_tokenizer(make_corpus(texts), TokenizerParams(vocabulary=1_500), work=tokens)
    config = ModelConfig(layers=2, width=32, heads=2, feed_forward=64, vocabulary=1_500, context=192)
    network = Network(config)
    initialize(network, kind="xavier_normal", std=0.02, seed=3)
    model = tmp_path_factory.mktemp("model")
    save_weights(model, {k: v for k, v in network.state_dict().items() if k != "lm_head.weight"}, config)
    work = make_workspace(tmp_path_factory.mktemp("export"))
    export(ExportParams(), model, tokens.out, SHARES.empty_table(), work=work)
    return work.out


@pytest.fixture(scope="session")
def lm(exported):
    from polylm.tasks.evaluation.likelihood import load_model

    return load_model(exported)
