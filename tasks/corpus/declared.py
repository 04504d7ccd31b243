"""What a document's source says of its language, and whether the text bears it out."""

import functools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from polylm.tasks.corpus.identify import load_model
from polylm.tasks.corpus.labels import parse_label
from polylm.tasks.rules import Floats, Rules, at_most
from polylm.tasks.stage import Columns, Field, Params, Rows, gate, measure

DICTIONARY = pa.dictionary(pa.int16(), pa.string())

MEMBERS = {"zh": ("wuu", "yue"), "ar": ("arz",), "az": ("azb",), "no": ("nn",), "sh": ("bs", "hr", "sr")}
"""Labels that do not contradict a declared macrolanguage (ISO 639-3)."""


class ReadDeclaredParams(Params):
    fields: tuple[str, ...] = Field(
        ("lang_declared", "language", "lang"),
        min_length=1,
        description="Fields of a source that declare a language; the first that a document has counts.",
    )


class CheckDeclaredParams(Params):
    doubt: float = Field(
        0.5,
        ge=0,
        le=1,
        description="How much likelier than the declared language another may be.",
        source="the highest that finds 99 % of swapped ones, docs/benchmarks.md",
    )


@measure(reads=["extra"], writes={"declared": DICTIONARY}, version=2)
def read_declared(rows: Rows, params: ReadDeclaredParams, model: Path) -> Columns:
    """Read which language a document's source declares: `pt-BR`, `por_Latn` and `por` are pt.

    Null where nothing is declared, or something that is no code of a language, or a language that the model does not know:
    its labels could not but contradict.
    """
    known = _languages(str(model))
    declared = [_declared(extra, params.fields) for extra in rows["extra"].to_pylist()]
    return {"declared": _column([language if language in known else None for language in declared])}


@gate(reads=["declared", "language", "confidence", "runner_up", "runner_up_confidence"])
def check_declared(rows: Rows, params: CheckDeclaredParams) -> Rules:
    """Reject documents whose text is in another language than the declared one."""
    return {"declared_otherwise": at_most(_contradiction(rows), params.doubt)}


_WITHDRAWN = {"in": "id", "iw": "he", "ji": "yi", "jw": "jv", "mo": "ro"}  # codes of ISO 639-1 that are still met


def language_of(tag: str) -> str | None:
    """The language of a tag such as `en-GB`, `zh_TW`, `deu` or `eng_Latn`; None for anything else."""
    match = _TAG.fullmatch(tag.strip())
    if not match:
        return None
    code = match[1].lower()
    return parse_label(_WITHDRAWN.get(code, code)).language


def _contradiction(rows: Rows) -> Floats:
    """How much likelier the label is than the declared language: 0 where they agree, NaN where nothing is declared."""
    declared, labels, seconds = (_names(rows[name]) for name in ("declared", "language", "runner_up"))
    own = np.where(seconds == declared, np.nan_to_num(rows["runner_up_confidence"]), 0.0)
    agree = (labels == declared) | _is_member(labels, declared)
    found = np.where(agree, 0.0, np.maximum(rows["confidence"] - own, 0.0))
    return np.where((declared == "") | (labels == ""), np.nan, found)


def _is_member(labels: Any, declared: Any) -> Any:
    found = np.zeros(len(labels), np.bool_)
    for whole, members in MEMBERS.items():
        found |= (declared == whole) & np.isin(labels, members)
    return found


def _names(column: pa.DictionaryArray) -> Any:
    """Labels as an array of strings, empty where null."""
    names = np.array([*column.dictionary.to_pylist(), ""], np.str_)
    return names[column.indices.fill_null(len(names) - 1).to_numpy(zero_copy_only=False)]


def _declared(extra: str | None, fields: Sequence[str]) -> str | None:
    if extra is None:
        return None
    record = orjson.loads(extra)
    value = next((record[name] for name in fields if name in record), None)
    return language_of(value) if isinstance(value, str) else None


@functools.lru_cache(maxsize=2)
def _languages(model: str) -> frozenset[str]:
    return frozenset(parse_label(label).language for label in load_model(model).get_labels())


def _column(values: Sequence[str | None]) -> pa.DictionaryArray:
    return pa.array(values, pa.string()).dictionary_encode().cast(DICTIONARY)


_TAG = re.compile(r"([A-Za-z]{2,3})(?:[_-][A-Za-z0-9]{2,8})*")
