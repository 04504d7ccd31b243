"""What our rules say of documents whose words and sentences datatrove cut: the kernels' counts, the gate, and `judge`."""

from typing import Any

import numpy as np
import pyarrow as pa

from agreement.records import REWRITING, Document, Names, sha256
from polylm.kernels import c4_lines, text_statistics
from polylm.kernels.words import Spans
from polylm.tasks.corpus.rule_sets import RuleSet, rule_set
from polylm.tasks.corpus.text import COUNTS, TextParams, filter_text
from polylm.tasks.corpus.text_rules import C4_PARAGRAPH, C4_QUALITY, FINEWEB_QUALITY, GOPHER_QUALITY, REPETITION
from polylm.tasks.rules import Rules, judge

WORD_RULES = {"gopher_repetition": REPETITION, "gopher_quality": GOPHER_QUALITY, "fineweb_quality": FINEWEB_QUALITY}

Verdict = str | None

# A lone surrogate is no text in UTF-8. The private character that stands for it is alike in all that rules look at.
_SURROGATES = {point: 0x100000 + point for point in range(0xD800, 0xE000)}


def answers(batch: list[Document]) -> dict[Names, list[Verdict]]:
    """The verdicts on documents of one language, by profile and filter; `batch` has verdicts of the same filters."""
    texts = pa.array([_in_utf8(document.text) for document in batch], pa.large_string())
    found: dict[Names, list[Verdict]] = {}
    for profile in sorted({profile for profile, name in batch[0].verdicts if name in WORD_RULES}):
        chosen = rule_set("fineweb", "en") if profile == "default" else rule_set("fineweb2", batch[0].language)
        found |= {(profile, name): said for name, said in _by_words(batch, texts, chosen).items()}
    for profile, name in batch[0].verdicts:
        if name in REWRITING:
            found[profile, name] = _by_lines(batch, texts, name)
        elif name == "c4_paragraph":
            found[profile, name] = _first_broken(
                _c4_rules(texts, [[]] * len(batch), ("mc4",), terminal=False)[0], C4_PARAGRAPH
            )
    return found


def _by_words(batch: list[Document], texts: pa.Array, chosen: RuleSet) -> dict[str, list[Verdict]]:
    """What the gate `filter_text` answers under these thresholds, asked for each filter's rules alone."""
    counts = text_statistics.measure(texts, _spans([document.words for document in batch]), chosen.stop_words)
    columns: dict[str, Any] = {name: counts[name].astype(np.float64) for name in ("chars", *COUNTS)}
    columns["language"] = pa.array([batch[0].language] * len(batch)).dictionary_encode()
    rules = filter_text(columns, TextParams(rules=(chosen.name,), thresholds={batch[0].language: chosen.thresholds}))
    said = {name: _first_broken(rules, names) for name, names in WORD_RULES.items()}
    # Of a text of no characters the gate says `empty` for FineWeb's filter; datatrove's for repetition says so, too.
    empty = _first_broken(rules, ["empty"])
    for row, document in enumerate(batch):
        if not document.text:
            said["gopher_repetition"][row] = empty[row]
    return said


def _by_lines(batch: list[Document], texts: pa.Array, name: str) -> list[Verdict]:
    """C4's answers; where other lines or another text are left than datatrove left, this is the answer."""
    sentences = [document.sentences[name] for document in batch]
    rules, lines = _c4_rules(texts, sentences, ("c4",), terminal=name == "c4_quality")
    said = _first_broken(rules, C4_QUALITY)
    for row, (document, kept) in enumerate(zip(batch, lines.counts["c4_kept_lines"].tolist(), strict=True)):
        recorded = document.rewritten[name]
        if said[row] in (None, "too_few_sentences") and kept != len(sentences[row]):
            said[row] = f"{kept} lines left, not {len(sentences[row])}"
        elif said[row] is None and recorded not in (None, sha256(lines.kept[row].as_py().strip())):
            said[row] = "another text is left"
    return said


def _c4_rules(
    texts: pa.Array, sentences: list[list[int]], sets: tuple[str, ...], *, terminal: bool
) -> tuple[Rules, c4_lines.Lines]:
    lines = c4_lines.judge_lines(texts, terminal=terminal)
    columns: dict[str, Any] = {column: counts.astype(np.float64) for column, counts in lines.counts.items()}
    columns["c4_sentences"] = np.array([sum(counts) for counts in sentences], np.float64)
    columns["language"] = pa.array(["en"] * len(texts)).dictionary_encode()
    return filter_text(columns, TextParams(rules=sets)), lines


def _first_broken(rules: Rules, names: list[str]) -> list[Verdict]:
    chosen = {name: rules[name] for name in names}
    said: list[Verdict] = judge(chosen, np.zeros(len(chosen[names[0]].value), np.bool_), "agreement").to_pylist()
    return said


def _spans(words: list[list[str]]) -> Spans:
    """The words of all documents, end to end in bytes of their own."""
    encoded = [_in_utf8(word).encode() for document in words for word in document]
    bounds = np.concatenate(([0], np.cumsum([len(word) for word in encoded]))).astype(np.int32)
    firsts = np.concatenate(([0], np.cumsum([len(document) for document in words]))).astype(np.int64)
    return Spans(np.frombuffer(b"".join(encoded), np.uint8), bounds[:-1].copy(), bounds[1:].copy(), firsts)


def _in_utf8(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.translate(_SURROGATES)
    return text
