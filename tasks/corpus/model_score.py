"""Scores of texts by any adopted model of `transformers`: a sequence classifier, or an embedding with a small head trained here.

The second is JQL's way (arXiv 2505.22232): label a few thousand texts, by hand or by a language model, and let a linear head on
frozen embeddings say the same of millions. Off unless a recipe names a `score_model`: a forward pass costs a thousand times a
fastText score. A model is one file, a zip (a wheel is one) with `config.json`, a tokenizer and weights as safetensors: nothing in
it is run. A flow with a head:

    head = run(train_score_head, HeadParams(), adopt(model), adopt(labels))
    scores = run(score_with_model, ModelScoreParams(), docs, adopt(model), head, where=wanted)
"""

import atexit
import json
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from polylm.tasks.keys import file_digest
from polylm.tasks.stage import Columns, Field, Params, Rows, Workspace, files, measure

Floats: TypeAlias = NDArray[np.float64]
CHARS_A_TOKEN = 12  # more than any tokenizer needs: a text is cut before it is tokenised
HELD_OUT = 5  # every fifth label judges the head


class ModelScoreParams(Params):
    max_tokens: int = Field(
        512, ge=8, description="Of a text that the model sees.", unit="tokens", source="FineWeb-Edu"
    )
    batch: int = Field(32, ge=1, description="Texts at a time; those of like length together.")
    label: int = Field(1, ge=0, description="Whose probability is the score, of a classifier with several labels.")


class HeadParams(ModelScoreParams):
    text: str = Field("text", description="Field of the labels' texts.")
    score: str = Field("score", description="Field of the labels' numbers.")
    ridge: float = Field(
        1.0, gt=0, description="Weight of the penalty on the head's squares.", source="ridge regression"
    )


@measure(
    reads=["text"], writes={"model_score": pa.float32()}, version=1, libraries=["torch", "transformers", "tokenizers"]
)
def score_with_model(rows: Rows, params: ModelScoreParams, model: Path, head: Path | None = None) -> Columns:
    """Score every text by a model of `transformers`, on the GPU if there is one.

    A classifier's score is its label's probability (of one label: its output); an embedding's is the head's. Devices agree to
    about 3 decimals. Memory: the model, and a batch.
    """
    scorer = load_scorer(str(model))
    if scorer.is_classifier == (head is not None):
        raise ValueError(
            f"{model.name} is {scorer.kind}: give {'no head' if scorer.is_classifier else 'a head (train_score_head)'}"
        )
    texts = rows["text"].to_pylist()
    places = [place for place, text in enumerate(texts) if text is not None]
    found = np.full(len(texts), np.nan)
    outputs = scorer.outputs([texts[place] for place in places], params)
    if len(places):
        found[places] = (
            scorer.probabilities(outputs, params.label) if head is None else _Head.read(head, model).scores(outputs)
        )
    return {"model_score": pa.array(np.round(found, 4).astype(np.float32), mask=np.isnan(found))}


@files(writes=None, reproducible=False, version=1, libraries=["torch", "transformers", "tokenizers"])
def train_score_head(params: HeadParams, model: Path, labels: Path, work: Workspace) -> dict[str, Any]:
    """Train a linear head on a model's embeddings of labelled texts (JSON lines), by ridge regression.

    The record's metrics have the correlation with every fifth label, which the head has not seen. Memory: the embeddings.
    """
    with labels.open() as lines:
        records = [json.loads(line) for line in lines if line.strip()]
    missing = next(
        (row for row, record in enumerate(records) if not {params.text, params.score} <= record.keys()), None
    )
    if missing is not None or len(records) < 2 * HELD_OUT:
        what = (
            f"line {missing + 1} has no"
            if missing is not None
            else f"{len(records)} labels, expected {2 * HELD_OUT} with"
        )
        raise ValueError(f"{labels.name}: {what} {params.text!r} and {params.score!r}")
    scorer = load_scorer(str(model))
    vectors = scorer.outputs([record[params.text] for record in records], params)
    wanted = np.array([float(record[params.score]) for record in records])
    held_out = np.arange(len(records)) % HELD_OUT == 0
    head = _Head.fit(vectors[~held_out], wanted[~held_out], params.ridge, file_digest(model))
    (work.out / "head.json").write_text(json.dumps(head.__dict__))
    correlation = np.corrcoef(head.scores(vectors[held_out]), wanted[held_out])[0, 1]
    return {"labels": len(records), "held_out_correlation": round(float(np.nan_to_num(correlation)), 4)}


@dataclass(frozen=True)
class _Head:
    """A linear function of a model's embeddings; of another model's it means nothing."""

    model: str  # sha256
    weights: list[float]
    height: float

    @classmethod
    def fit(cls, vectors: Floats, wanted: Floats, ridge: float, model: str) -> "_Head":
        middle = vectors.mean(axis=0)
        centred = vectors - middle
        weights = np.linalg.solve(
            centred.T @ centred + ridge * np.eye(vectors.shape[1]), centred.T @ (wanted - wanted.mean())
        )
        return cls(model, weights.tolist(), float(wanted.mean() - middle @ weights))

    @classmethod
    def read(cls, folder: Path, model: Path) -> "_Head":
        head = cls(**json.loads((folder / "head.json").read_text()))
        if head.model != _digest(str(model)):
            raise ValueError(
                f"the head was trained on model {head.model[:16]}, {model.name} is {_digest(str(model))[:16]}: train one on it"
            )
        return head

    def scores(self, vectors: Floats) -> Floats:
        return np.asarray(vectors @ np.array(self.weights) + self.height)


@dataclass(frozen=True)
class Scorer:
    """A model and its tokenizer on a device."""

    model: Any
    tokenizer: Any
    is_classifier: bool

    @property
    def kind(self) -> str:
        return "a sequence classifier" if self.is_classifier else "an embedding"

    def outputs(self, texts: Sequence[str], params: ModelScoreParams) -> Floats:
        """A classifier's outputs, or the mean of the last layer over the tokens at length 1; NaN without tokens."""
        import torch

        order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
        found: dict[int, Any] = {}
        for first in range(0, len(order), params.batch):
            places = order[first : first + params.batch]
            cut = [texts[place][: CHARS_A_TOKEN * params.max_tokens] for place in places]
            tokens = self.tokenizer(
                cut, truncation=True, max_length=params.max_tokens, padding=True, return_tensors="pt"
            )
            seen = tokens["attention_mask"].sum(1) > 0
            if seen.any():
                with torch.inference_mode():
                    rows = self._forward({name: values[seen].to(self.model.device) for name, values in tokens.items()})
                found |= zip(np.array(places)[seen.numpy()].tolist(), rows.double().cpu().numpy(), strict=True)
        nothing = np.full(len(next(iter(found.values()), [0])), np.nan)
        return np.array([found.get(place, nothing) for place in range(len(texts))], np.float64)

    def probabilities(self, outputs: Floats, label: int) -> Floats:
        if outputs.shape[1] == 1:
            return outputs[:, 0]
        if label >= outputs.shape[1]:
            raise ValueError(f"label {label}: the model has {outputs.shape[1]}, from 0")
        odds = np.exp(outputs - outputs.max(axis=1, keepdims=True))
        return np.asarray(odds[:, label] / odds.sum(axis=1))

    def _forward(self, tokens: Any) -> Any:
        if self.is_classifier:
            return self.model(**tokens).logits
        mask = tokens["attention_mask"].unsqueeze(-1)
        mean = (self.model(**tokens).last_hidden_state * mask).sum(1) / mask.sum(1).clamp(min=1)
        return mean / mean.norm(dim=1, keepdim=True).clamp(min=1e-12)


@lru_cache(maxsize=1)
def load_scorer(path: str) -> Scorer:
    """The model in a zip; once a worker. ValueError if there is none that can be loaded without running code of its own."""
    import torch  # seconds, and only workers of this stage need them
    from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer

    folder = _unpacked(Path(path))
    architectures = json.loads((folder / "config.json").read_text()).get("architectures") or [""]
    is_classifier = architectures[0].endswith("ForSequenceClassification")
    loader = AutoModelForSequenceClassification if is_classifier else AutoModel
    safe: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    try:
        model = loader.from_pretrained(folder, use_safetensors=True, dtype=torch.float32, **safe)
        tokenizer = AutoTokenizer.from_pretrained(folder, **safe)
    except (OSError, ValueError) as error:
        raise ValueError(f"{Path(path).name} holds no model that can be loaded: {error}") from error
    return Scorer(model.to("cuda" if torch.cuda.is_available() else "cpu").eval(), tokenizer, is_classifier)


@lru_cache(maxsize=1)
def _digest(path: str) -> str:
    return file_digest(Path(path))


def _unpacked(archive: Path) -> Path:
    """The model's folder, unpacked until this process ends: what lies beside the `config.json` nearest to the root."""
    if not zipfile.is_zipfile(archive):
        raise ValueError(
            f"{archive.name} is no zip; a model is one with config.json, tokenizer.json and model.safetensors"
        )
    with zipfile.ZipFile(archive) as file:
        configs = [name for name in file.namelist() if Path(name).name == "config.json"]
        if not configs:
            raise ValueError(f"{archive.name} holds no config.json, so no model of transformers")
        root = Path(min(configs, key=lambda name: (name.count("/"), name))).parent
        folder = Path(tempfile.mkdtemp(prefix="polylm-model-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        for name in _beside(file.namelist(), root):
            with file.open(name) as source, (folder / Path(name).name).open("wb") as target:
                shutil.copyfileobj(source, target)
    return folder


def _beside(names: Sequence[str], root: Path) -> Iterator[str]:
    return (name for name in names if Path(name).parent == root and not name.endswith("/"))
