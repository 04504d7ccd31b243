"""Train the tokenizer: byte-level BPE on a sample in which small languages count for more than they have.

Byte-level is the byte fallback of the paper (3.1) taken to its end: all 256 bytes are entries, so every text comes back
as it was and no entry is spent on `<unk>`; an alphabet of characters would fill 8,192 entries with Chinese alone.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from polylm.tasks.evaluation.languages import LANGUAGES
from polylm.tasks.stage import Corpus, Field, Params, Rows, StageError, Workspace, files
from polylm.tasks.training.chat import ASSISTANT, END, USER

PAD = "<pad>"  # for batches of unequal length after training; packed rows never need it
SPECIAL_TOKENS = (END, PAD, USER, ASSISTANT)
"""Ids 0 to 3. `END` is EOS and BOS alike: the separator that packing puts between documents."""

# Letters and marks of scripts that do not put spaces between words: Thai, Lao, Myanmar, Khmer, kana, Han. Ranges, not
# \p{Han}: JavaScript and llama.cpp do not know script names in their patterns.
_UNSPACED = (
    "\u0e01-\u0e3a\u0e40-\u0e4e\u0e81-\u0ebd\u0ec0-\u0ece\u0edc-\u0edf\u1000-\u103f\u1050-\u108f\u1780-\u17b3"
    "\u17b6-\u17d3\u3005\u3006\u3041-\u3096\u3099\u309a\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
)

_BATCH_ROWS = 1_000  # documents that are Python strings at a time

STATISTICS = pa.schema(
    [
        ("language", pa.string()),
        ("sample_bytes", pa.int64()),  # of the training sample, repeats counted
        ("repeats", pa.float64()),  # how often a document of the language is in the sample, on average
        ("documents", pa.int64()),  # held out, as all that follows
        ("bytes", pa.int64()),
        ("characters", pa.int64()),
        ("words", pa.int64()),  # between white space; null for languages written without
        ("tokens", pa.int64()),
        ("bytes_per_token", pa.float64()),
        ("fertility", pa.float64()),  # tokens a word; null where words is
    ]
)


class TokenizerParams(Params):
    """What the tokenizer is trained on, and how large it gets."""

    vocabulary: int = Field(
        default=256_000,
        ge=256 + len(SPECIAL_TOKENS),
        description="Entries, special tokens and the 256 bytes included; a small sample may give fewer.",
        source="PolyLM 3.1",
    )
    alpha: float = Field(
        default=0.3,
        ge=0,
        le=1,
        description="A language with n bytes gets a part of the sample that goes as n to this power; 1 keeps their shares.",
        source="PolyLM 3.1 follows XLM-R (arXiv 1911.02116), whose exponent is 0.3",
    )
    max_bytes: int = Field(
        default=500_000_000, ge=1, unit="bytes", description="Largest training sample; it bounds memory.", source="ours"
    )
    max_repeats: float = Field(
        default=10.0,
        ge=1,
        description="Most often that a document may be in the sample: past it a language's few pages would fill entries.",
        source="ours",
    )
    max_word_chars: int = Field(
        default=24,
        ge=1,
        unit="characters",
        description="Longer runs of letters or signs are cut: unspaced scripts would else give whole phrases as entries.",
        source="ours",
    )
    held_out_bytes: int = Field(
        default=1_000_000,
        ge=0,
        unit="bytes",
        description="Text of the split `valid`, for each language, that compression is measured on.",
        source="ours",
    )


@files(reads=["text", "language", "weight", "split"], libraries=("tokenizers",))
def train_tokenizer(corpus: Corpus, params: TokenizerParams, work: Workspace) -> dict[str, float]:
    """Train a byte-level BPE tokenizer on selected documents, and measure its compression on held-out ones.

    Writes tokenizer.json, tokenizer_config.json and statistics.parquet (`STATISTICS`). Which documents are in the
    sample depends on their text alone, so neither parts nor workers matter. Memory: one part, and the distinct words
    of at most `max_bytes` of text (2.6 GB for 170 MB in 18 languages at 256,000 entries). Raises StageError where no
    selected document is in the split `train`.
    """
    sizes = _bytes_by_language(corpus)
    if not sizes:
        raise StageError(
            f"train_tokenizer: none of the documents in {len(corpus)} parts is selected for training: "
            "`polylm status` shows which gates rejected them"
        )
    rates = sampling_rates(sizes, params)
    tokenizer = new_tokenizer(params.max_word_chars)
    sampled: Counter[str] = Counter()
    tokenizer.train_from_iterator(_sample(corpus, rates, sampled), _trainer(params))
    tokenizer.save(str(work.out / "tokenizer.json"), pretty=False)
    _write_config(work.out / "tokenizer_config.json")
    counts = _count_held_out(corpus, load_tokenizer(work.out), params.held_out_bytes)
    statistics = _statistics(sizes, sampled, counts)
    pq.write_table(statistics, work.out / "statistics.parquet")
    measured, tokens = sum(count.bytes for count in counts.values()), sum(count.tokens for count in counts.values())
    return {
        "entries": tokenizer.get_vocab_size(),
        "sample_bytes": sampled.total(),
        "held_out_bytes": measured,
        "bytes_per_token": round(measured / tokens, 4) if tokens else 0.0,
    }


def sampling_rates(sizes: Mapping[str, int], params: TokenizerParams) -> dict[str, float]:
    """How often a document of each language is in the sample: p_l = n_l^alpha / sum, times the sample, over n_l."""
    sample = min(params.max_bytes, sum(sizes.values()))
    powers = {language: size**params.alpha for language, size in sizes.items()}
    total = sum(powers[language] for language in sorted(powers))
    return {
        language: min(params.max_repeats, sample * powers[language] / total / size) for language, size in sizes.items()
    }


def new_tokenizer(max_word_chars: int) -> Tokenizer:
    """An untrained tokenizer: how text is cut into words, and how tokens become text again."""
    tokenizer = Tokenizer(models.BPE())
    words = pre_tokenizers.Split(Regex(word_pattern(max_word_chars)), behavior="isolated")
    # use_regex: ByteLevel alone would cut by GPT-2's English pattern.
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([words, to_bytes])
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def word_pattern(max_word_chars: int) -> str:
    """The pattern of the words inside which entries are merged; its alternatives cover every text.

    In order: a word of a spaced script with the space or sign before it; a run of an unspaced script; one digit;
    signs; line ends; spaces. No rule for English contractions: it cuts 'textes' after a quote.
    """
    upto = f"{{1,{max_word_chars}}}"
    return "|".join(
        [
            rf"[^\r\n\p{{L}}\p{{M}}\p{{N}}]?(?:(?![{_UNSPACED}])[\p{{L}}\p{{M}}]){upto}",
            rf" ?[{_UNSPACED}]{upto}",
            r"\p{N}",
            rf" ?[^\s\p{{L}}\p{{M}}\p{{N}}]{upto}[\r\n]*",
            r"\s*[\r\n]+",
            r"\s+(?!\S)",
            r"\s+",
        ]
    )


@lru_cache(maxsize=2)
def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of a folder, loaded once a process; it reads `</s>` in a document as four characters, not as END.

    Raises StageError where the folder has no tokenizer.json.
    """
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise StageError(f"{folder}: no tokenizer.json; expected a folder that train_tokenizer or an export wrote")
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.encode_special_tokens = True
    return tokenizer


def separator_id(folder: Path) -> int:
    """The id of END; StageError for a tokenizer without it."""
    number = load_tokenizer(folder).token_to_id(END)
    if number is None:
        raise StageError(
            f"{folder}/tokenizer.json: no entry {END}, which separates documents; train it with this project"
        )
    return int(number)


def encode_texts(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of every text, with nothing added."""
    return [encoding.ids for encoding in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]


@dataclass
class _Count:
    """Held-out text of one language."""

    documents: int = 0
    bytes: int = 0
    characters: int = 0
    words: int = 0
    tokens: int = 0

    def add(self, text: str, size: int, tokens: int) -> None:
        self.documents += 1
        self.bytes += size
        self.characters += len(text)
        self.words += len(text.split())
        self.tokens += tokens


def _trainer(params: TokenizerParams) -> trainers.BpeTrainer:
    return trainers.BpeTrainer(
        vocab_size=params.vocabulary,
        min_frequency=2,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )


def _selected(rows: Rows, split: str) -> pa.Table:
    """Language, text, bytes and weight of the selected documents of a split."""
    chosen = pc.and_(pc.is_valid(rows["text"]), pc.is_valid(rows["weight"]))
    chosen = pc.and_(chosen, pc.fill_null(pc.equal(rows["split"].cast(pa.string()), split), False))
    table = pa.table(
        {
            "language": pc.fill_null(rows["language"].cast(pa.string()), "und"),
            "text": rows["text"],
            "bytes": pc.binary_length(rows["text"]).cast(pa.int64()),
            "weight": rows["weight"].cast(pa.int64()),
        }
    )
    return table.filter(chosen)


def _bytes_by_language(corpus: Corpus) -> dict[str, int]:
    """Bytes of training text by language, a document as often as its weight says; in the order of names."""
    sizes: Counter[str] = Counter()
    for rows in corpus:
        table = _selected(rows, "train")
        weighted = pa.table({"language": table["language"], "size": pc.multiply(table["bytes"], table["weight"])})
        for group in weighted.group_by("language").aggregate([("size", "sum")]).to_pylist():
            sizes[group["language"]] += group["size_sum"]
    return {language: sizes[language] for language in sorted(sizes) if sizes[language]}


def _sample(corpus: Corpus, rates: Mapping[str, float], sampled: Counter[str]) -> Iterator[list[str]]:
    """The training texts, part by part; `sampled` counts their bytes by language."""
    for rows in corpus:
        for batch in _selected(rows, "train").to_batches(max_chunksize=_BATCH_ROWS):
            texts: list[str] = []
            for row in batch.to_pylist():
                copies = _copies(row["text"], rates.get(row["language"], 0.0) * row["weight"])
                sampled[row["language"]] += copies * row["bytes"]
                texts += [row["text"]] * copies
            yield texts


def _copies(text: str, rate: float) -> int:
    """`rate` rounded up or down by the text's hash, so that the mean over documents is `rate`."""
    return int(rate + xxhash.xxh64_intdigest(text.encode()) / 2**64)


def _count_held_out(corpus: Corpus, tokenizer: Tokenizer, max_bytes: int) -> dict[str, _Count]:
    """Held-out text by language; a document that would pass `max_bytes` is not counted."""
    counts: dict[str, _Count] = {}
    for rows in corpus:
        for batch in _selected(rows, "valid").to_batches(max_chunksize=_BATCH_ROWS):
            for row in batch.to_pylist():
                count = counts.setdefault(row["language"], _Count())
                if count.bytes + row["bytes"] <= max_bytes:
                    count.add(row["text"], row["bytes"], len(encode_texts(tokenizer, [row["text"]])[0]))
    return counts


def _statistics(sizes: Mapping[str, int], sampled: Mapping[str, int], counts: Mapping[str, _Count]) -> pa.Table:
    rows: list[dict[str, Any]] = []
    for language in sorted({*sizes, *counts}):
        count = counts.get(language, _Count())
        row: dict[str, Any] = {field.name: getattr(count, field.name) for field in fields(count)}
        size, words = sizes.get(language, 0), count.words if _is_spaced(language) else None
        row |= {
            "language": language,
            "words": words,
            "sample_bytes": sampled.get(language, 0),
            "repeats": round(sampled.get(language, 0) / size, 4) if size else None,
            "bytes_per_token": round(count.bytes / count.tokens, 4) if count.tokens else None,
            "fertility": round(count.tokens / words, 4) if words else None,
        }
        rows.append(row)
    return pa.Table.from_pylist(rows, STATISTICS)


def _is_spaced(language: str) -> bool:
    return LANGUAGES[language].spaced if language in LANGUAGES else True


def _write_config(path: Path) -> None:
    """What `AutoTokenizer` needs beside tokenizer.json; PolyLM's own files named a wrong EOS (id 255999)."""
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": END,
        "eos_token": END,
        "pad_token": PAD,
        "additional_special_tokens": [USER, ASSISTANT],
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
    }
    path.write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
