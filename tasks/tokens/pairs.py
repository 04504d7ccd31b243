"""Bilingual training text: pairs of lines cut from aligned pages, packed in both directions.

The paper does not give the form of its bilingual data. `SRC\\nTranslate this sentence from X to Y.\\nTGT\\n` is inferred
from its released demo and from its prompts for WMT20; its preprocessor ends no example, ours ends each with `</s>`, so
that the model learns to stop after a translation.
"""

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from polylm.tasks import keys
from polylm.tasks.evaluation.languages import LANGUAGES
from polylm.tasks.stage import DOC, Corpus, Field, Params, Rows, StageError, files
from polylm.tasks.tokens.encode import encode_column
from polylm.tasks.tokens.pack import PACKED, Documents, PackParams, pack_documents
from polylm.tasks.tokens.tokenizer import separator_id

PAIR_KIND = "pair"
"""Cells of bilingual rows are called `en-de/pair` (from English to German) and `de-en/pair`."""

PAIR = pa.schema(
    [
        ("src_language", pa.string()),
        ("tgt_language", pa.string()),
        ("src", pa.string()),
        ("tgt", pa.string()),
        ("align", pa.string()),
        ("src_doc", pa.int64()),
        ("tgt_doc", pa.int64()),
        ("split", pa.string()),
    ]
)


class PairParams(Params):
    """Which lines of aligned pages make a pair."""

    pivot: str = Field(default="en", min_length=2, description="The language that every pair has on its source side.")
    min_chars: int = Field(
        default=2, ge=1, unit="characters", description="Shorter lines teach too little.", source="ours"
    )
    max_chars: int = Field(
        default=1_000, ge=1, unit="characters", description="Longer lines are paragraphs, not sentences.", source="ours"
    )


class PackPairParams(PackParams):
    """The shape of rows of pairs, and how the prompt names languages."""

    names: dict[str, str] = Field(
        default={code: language.name for code, language in LANGUAGES.items()},
        description="English names of the languages, as the prompt says them.",
        source="PolyLM's released demo",
    )

    def jobs(self) -> tuple[str, ...]:
        """One job, whose output is then a file like those of `pack`."""
        return ("pairs",)


@files(reads=["text", "language", "extra", "split", DOC], writes=PAIR, version=2)
def cut_pairs(corpus: Corpus, params: PairParams) -> pa.Table:
    """Cut pairs of lines from pages that are aligned with a page in the pivot language.

    Rules for running text do not judge lines, so the flow shows pages before those gates.

    Pages are aligned if their `extra` has the same `align` and `source`; line k belongs to line k where both pages have
    the same number of lines. Not cut: a page whose language is not the declared one (mostly untranslated); lines that
    are equal, have no letter, or are too short or long. A pair of texts is kept once. All pairs of aligned pages are in
    one split: valid if one of the pages is. Memory: the aligned pages and what is written.
    """
    groups: dict[tuple[str, str], list[_Page]] = defaultdict(list)
    for rows in corpus:
        for page in _pages(rows):
            groups[page.source, page.align].append(page)
    pairs: list[dict[str, Any]] = []
    seen: set[tuple[str, str, str]] = set()
    for pages in groups.values():
        for pair in _cut(pages, params):
            texts = (pair["tgt_language"], pair["src"], pair["tgt"])
            if texts not in seen:
                seen.add(texts)
                pairs.append(pair)
    return pa.Table.from_pylist(pairs, PAIR)


@files(writes=PACKED, each="task", version=1, libraries=("tokenizers",))
def pack_pairs(params: PackPairParams, pairs: pa.Table, tokenizer: Path) -> pa.Table:
    """Pack every pair twice, once in each direction, as documents that ask for a translation.

    A segment's language is that of the translation, its document the translated page; its tokens in the source
    language count there too. Raises StageError for a language without a name. Memory: all pairs of the split, as text
    and as tokens.
    """
    pairs = pairs.filter(pc.equal(pairs["split"], params.split))
    both = [_directed(pairs, "src", "tgt", params.names), _directed(pairs, "tgt", "src", params.names)]
    table = pa.concat_tables(both).combine_chunks()
    columns = {name: keys.contiguous(table[name]) for name in table.column_names}
    documents = Documents.of(
        tokens=encode_column(columns["text"], tokenizer),
        docs=columns["doc"],
        languages=columns["language"],
        cells=columns["cell"],
    ).take(np.arange(table.num_rows))
    return pack_documents(documents, context=params.context, separator=separator_id(tokenizer), seed=params.seed)


def prompt(source: str, source_language: str, target_language: str) -> str:
    """What asks for a translation, up to where it begins; languages by their English names."""
    return f"{source}\nTranslate this sentence from {source_language} to {target_language}.\n"


@dataclass(frozen=True)
class _Page:
    """One page of a group of aligned pages."""

    source: str
    align: str
    language: str
    doc: int
    is_valid: bool
    lines: list[str]


def _pages(rows: Rows) -> Iterator[_Page]:
    """The pages that are aligned with others."""
    names = ["text", "language", "extra", "split", DOC]
    table = pa.table({name: rows[name] for name in names})
    # Few documents are aligned: only those are parsed.
    has_page = pc.fill_null(pc.match_substring(rows["extra"], '"align"'), False)
    chosen = pc.and_(pc.is_valid(rows["text"]), has_page)
    for row in table.filter(chosen).to_pylist():
        extra = json.loads(row["extra"])
        declared = extra.get("lang_declared", row["language"])
        if extra.get("align") and declared == row["language"]:
            lines = [line.strip() for line in row["text"].split("\n")]
            source = str(extra.get("source", ""))
            yield _Page(source, str(extra["align"]), row["language"], row[DOC], row["split"] == "valid", lines)


def _cut(pages: list[_Page], params: PairParams) -> Iterator[dict[str, Any]]:
    """The pairs of one group of aligned pages; the first page in the pivot language is their source."""
    pivots = [page for page in pages if page.language == params.pivot]
    split = "valid" if any(page.is_valid for page in pages) else "train"
    for page in pages:
        if not pivots or page.language == params.pivot or len(page.lines) != len(pivots[0].lines):
            continue
        for src, tgt in zip(pivots[0].lines, page.lines, strict=True):
            if src != tgt and _fits(src, params) and _fits(tgt, params):
                yield {
                    "src_language": params.pivot,
                    "tgt_language": page.language,
                    "src": src,
                    "tgt": tgt,
                    "align": page.align,
                    "src_doc": pivots[0].doc,
                    "tgt_doc": page.doc,
                    "split": split,
                }


def _fits(line: str, params: PairParams) -> bool:
    return params.min_chars <= len(line) <= params.max_chars and any(map(str.isalpha, line))


def _directed(pairs: pa.Table, source: str, target: str, names: dict[str, str]) -> pa.Table:
    """Examples that translate the column `source` into the column `target`."""
    columns = [f"{source}_language", f"{target}_language", source, target]
    rows = zip(*(pairs[column].to_pylist() for column in columns), strict=True)
    examples = [
        (prompt(text, _name(a, names), _name(b, names)) + translation + "\n", f"{a}-{b}/{PAIR_KIND}")
        for a, b, text, translation in rows
    ]
    return pa.table(
        {
            "text": pa.array([text for text, _ in examples], pa.string()),
            "cell": pa.array([cell for _, cell in examples], pa.string()),
            "language": pairs[f"{target}_language"],
            "doc": pairs[f"{target}_doc"],
        }
    )


def _name(code: str, names: dict[str, str]) -> str:
    if code not in names:
        raise StageError(f"pack_pairs: language {code!r} has no name for the prompt: add it to pack_pairs.names")
    return names[code]
