"""Bits per byte on held-out text: the one figure that compares models with different tokenizers, and languages."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from polylm.tasks.evaluation.errors import by_item, with_error
from polylm.tasks.evaluation.languages import Paragraph, held_out_paragraphs, spread
from polylm.tasks.evaluation.table import average

UNIFORM_BITS = 8.0  # a byte, guessed
NOTE = "held-out paragraphs of the Universal Declaration of Human Rights; 8 bits is a byte guessed"


def bits_per_byte(nll: Sequence[float], sizes: Sequence[int]) -> tuple[float, list[float]]:
    """Bits per byte and each text's deviation, from its negative log-likelihood (nats) and its UTF-8 bytes.

    b = sum(nll) / (ln 2 * sum(bytes)); the deviations are those of a ratio of sums over texts (see `errors`),
    sqrt(n / (n - 1)) * (nll_i / ln 2 - b * bytes_i) / sum(bytes).
    """
    assert len(nll) == len(sizes) > 0
    bits, count, total = [value / math.log(2) for value in nll], len(nll), sum(sizes)
    ratio = sum(bits) / total
    scale = math.sqrt(count / max(1, count - 1)) / total
    return ratio, [scale * (value - ratio * size) for value, size in zip(bits, sizes, strict=True)]


def measure_bits(
    model: str, languages: Sequence[str], limit: int, score: Callable[[str, list[str]], Sequence[float]]
) -> list[dict[str, Any]]:
    """Bits per byte of `limit` held-out paragraphs of each language; `score(language, texts)` gives nats a text."""
    texts = {language: spread(held_out_paragraphs(language), limit) for language in languages}
    nll = {language: score(language, [paragraph.text for paragraph in of]) for language, of in texts.items()}
    return bits_rows(model, nll, texts)


def bits_rows(
    model: str, nll: Mapping[str, Sequence[float]], texts: Mapping[str, Sequence[Paragraph]]
) -> list[dict[str, Any]]:
    """Rows of EVALUATION from nats per text, by language, and their mean over languages."""
    rows = []
    for language, paragraphs in texts.items():
        value, of_texts = bits_per_byte(nll[language], [len(paragraph.text.encode()) for paragraph in paragraphs])
        deviations = by_item([paragraph.place for paragraph in paragraphs], of_texts)
        rows.append(
            {"model": model, "category": "bits per byte", "task": "UDHR", "language": language}
            | {"metric": "bits_per_byte", "value": value, "chance": UNIFORM_BITS, "n": len(paragraphs), "note": NOTE}
            | with_error(deviations)
        )
    return [*rows, average(rows)]


def score_texts(lm: Any, texts: Sequence[str]) -> list[float]:
    """Nats of each text under an `HFLM`, given the separator; the separator after it is not counted.

    A text longer than the context is scored in windows that move by half a context, each token once, as
    `model/score.py` does. Not by `HFLM.loglikelihood_rolling`, which takes twice as long: it makes log-probabilities
    of the whole vocabulary, and looks for the likeliest token, at every place.
    """
    ids = [[lm.prefix_token_id, *lm.tok_encode(text, add_special_tokens=False)] for text in texts]
    windows = [(text, window) for text, of_text in enumerate(ids) for window in _windows(len(of_text), lm.max_length)]
    windows.sort(key=lambda item: item[1].stop - item[1].start)  # rows of a batch are about as long
    totals = [0.0] * len(texts)
    size = int(lm.batch_size)
    for first in range(0, len(windows), size):
        batch = windows[first : first + size]
        for (text, _), nats in zip(batch, _score_batch(lm, ids, batch), strict=True):
            totals[text] += nats
    return totals


@dataclass(frozen=True)
class _Window:
    """Tokens start..stop are seen; those from `scored` on are counted."""

    start: int
    stop: int
    scored: int


def _windows(length: int, context: int) -> Iterator[_Window]:
    start, scored = 0, 1
    while scored < length:
        stop = min(length, start + context + 1)
        yield _Window(start, stop, scored)
        start, scored = start + max(1, context // 2), stop


def _score_batch(lm: Any, ids: Sequence[Sequence[int]], batch: Sequence[tuple[int, _Window]]) -> list[float]:
    import torch  # costs seconds
    from torch.nn.functional import cross_entropy

    longest = max(window.stop - window.start for _, window in batch) - 1
    inputs = torch.zeros(len(batch), longest, dtype=torch.long)
    targets = torch.full_like(inputs, -100)
    for row, (text, window) in enumerate(batch):
        tokens = torch.tensor(ids[text][window.start : window.stop])
        inputs[row, : len(tokens) - 1] = tokens[:-1]
        skipped = window.scored - window.start - 1
        targets[row, skipped : len(tokens) - 1] = tokens[1 + skipped :]
    with torch.inference_mode():
        # Padding is on the right, where a causal model looks at it for padding's sake only.
        logits = lm.model(inputs.to(lm.device), use_cache=False).logits.float()
        nats = cross_entropy(logits.flatten(0, 1), targets.to(lm.device).flatten(), reduction="none")
    return [float(value) for value in nats.view(len(batch), -1).double().sum(1)]
