"""Fits `tasks/corpus/data/close_languages.json`: python -P benchmarks/language_fit.py FOLDER MODEL

FOLDER holds `LANG.jsonl.gz` files of documents (text, lang_declared, id), the medium corpus; MODEL is a fastText model. Only
passages (lines of 10 to 600 characters, each once) of documents that the model itself calls as declared are used; every
fourth document is held out, and what the tables do there is printed. Writes the tables beside the stage, whose version
(`identify_language`) must be raised where they changed. 40 s of CPU on the medium corpus.
"""

import gzip
import hashlib
import json
import math
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from polylm.kernels.scripts import SCRIPTS, count_letters
from polylm.tasks.corpus import close_languages as close
from polylm.tasks.corpus.identify import fasttext_line, load_model
from polylm.tasks.corpus.labels import parse_label
from polylm.tasks.corpus.language import LANGUAGES

MOST = 20_000  # passages of a language
MOST_GRAMS = 2_000
QUANTILE = 0.995  # of passages that a lean brings home
SCRIPT_QUANTILE = 0.001
WEIGHT = math.log(20)  # of a word that only one of Malay and Indonesian has
OUT = Path(close.__file__).with_name("data") / "close_languages.json"
Passages = dict[str, list[tuple[str, bool, list[tuple[str, float]]]]]  # language: text, held out, the model's guesses

# Spellings by which Malay and Indonesian differ where they have the same word, and names that only one uses; the common
# knowledge of dictionaries. The fit drops those that its Indonesian text contradicts.
MALAY = """aktiviti awak bahawa berbeza berjaya bersaiz cawangan disember ditubuhkan elektrik fail fesyen filem hospital iaitu
identiti isnin jadual jumaat jurulatih kapasiti kaunter kelab kemudiannya kempen kenderaan kerana kesihatan kewangan khamis
komuniti kualiti mahu maklumat manakala membolehkan mengandungi mesyuarat motosikal muzik nombor ogos pelbagai peratus
perisian perkhidmatan perlawanan perniagaan pesakit projek ringgit sahaja sebarang sekiranya selepas seterusnya syarikat
telefon televisyen terutamanya tetingkap universiti wang julai jun"""
INDONESIAN = """agustus aktivitas bahwa berbeda berkas bioskop bisa butuh desember dokter februari gampang gratis
identitas jumat juli juni kalian kamis kantor kapasitas karena kesehatan komunitas koneksi kualitas laki-laki layanan listrik
maret menit mobil musik nomor peramban persen polisi ponsel proyek rusak senin sepeda setelah silakan surel tanggal tautan
telepon televisi uang unduh universitas yaitu"""


def main() -> None:
    folder, model = Path(sys.argv[1]), load_model(sys.argv[2]).f.predict
    found: Passages = {
        language: list(passages(folder / f"{language}.jsonl.gz", language, model)) for language in LANGUAGES
    }
    train = {language: [one for one in own if not one[1]] for language, own in found.items()}
    malay = fit_malay([text for text, _, _ in train["id"]])
    tables: dict[str, Any] = {
        "made_by": "benchmarks/language_fit.py on the medium corpus with lid.176.ftz",
        "passages": {language: len(own) for language, own in train.items()},
        "script_share": fit_script_share(train),
        "kana": fit_kana(train),
        "cantonese_share": fit_cantonese([text for text, _, _ in train["zh"]]),
        "malay": malay,
        "leans": fit_leans(train, set(malay["words"])),
        "spanish_portuguese": fit_grams(train),
    }
    OUT.write_text(json.dumps(tables, ensure_ascii=False, indent=1) + "\n", "utf-8")
    close.fitted.cache_clear()
    for first, second in (("es", "pt"), ("id", "ms"), ("zh", "ja"), ("zh", "wuu"), ("zh", "yue"), ("pt", "gl")):
        print(first, second, report(found, first, second))


def passages(path: Path, language: str, predict: Any) -> Iterator[tuple[str, bool, list[tuple[str, float]]]]:
    seen: set[str] = set()
    with gzip.open(path, "rt") as lines:
        for record in map(json.loads, lines):
            ours = {language, *(rival for own, rival in close.LEANINGS if own == language), *_KIN.get(language, ())}
            if guess(predict, record["text"][:1_000])[0][0] not in ours:
                continue
            held = hashlib.sha256((record["align"] or record["id"]).encode()).digest()[0] % 4 == 0
            fresh = [line.strip() for line in record["text"].split("\n") if 10 <= len(line.strip()) <= 600]
            for text in [text for text in dict.fromkeys(fresh) if text not in seen][:8]:
                seen.add(text)
                yield text, held, guess(predict, text)
                if len(seen) >= MOST:
                    return


_KIN = {"zh": ("ja",), "es": ("pt",), "pt": ("es",), "ar": ("fa", "mzn", "arz")}


def guess(predict: Any, text: str) -> list[tuple[str, float]]:
    return [
        (parse_label(label).language, float(score)) for score, label in predict(fasttext_line(text), 6, 0.0, "strict")
    ]


def fit_script_share(train: Passages) -> float:
    """The share of a label's own letters that nearly all passages have that the model is sure of."""
    shares = []
    for language, own in train.items():
        sure = [text for text, _, guesses in own if guesses[0][0] == language and guesses[0][1] > 0.9]
        letters = count_letters(pa.array(sure), 1_000).scripts
        columns = [SCRIPTS.index(name) for name in parse_label(language).scripts]
        share = letters[:, columns].sum(1) / np.maximum(1, letters.sum(1))
        shares.append(float(np.quantile(share[letters.sum(1) >= 10], SCRIPT_QUANTILE)))
        print("own letters", language, round(shares[-1], 3), file=sys.stderr)
    return round(min(shares), 3)


def fit_kana(train: Passages) -> list[list[float]]:
    """Log odds of Japanese over Chinese by share of kana and number of letters; one is added to every count."""
    counts = np.ones((2, 3, len(close.KANA_BUCKETS)))
    for place, language in enumerate(("ja", "zh")):
        for text, _, guesses in train[language]:
            if {name for name, _ in guesses[:2]} & {"ja", "zh"}:
                counts[place][close.kana_class(evidence(text))] += 1
    odds = np.log(counts / counts.sum(axis=1, keepdims=True))
    return [[round(float(value), 2) for value in row] for row in odds[0] - odds[1]]


def fit_cantonese(texts: Sequence[str]) -> float:
    """A share of Cantonese characters among Han that next to no Mandarin passage reaches."""
    shares = [len(close._CANTONESE.findall(text)) / max(1, evidence(text).han) for text in texts if len(text) >= 20]
    return round(max(0.02, float(np.quantile(shares, 0.999))), 3)


def fit_malay(texts: Sequence[str]) -> dict[str, Any]:
    """The listed spellings that Indonesian text bears out: the Malay ones at most once in 2,000 passages."""
    counts = Counter(word for text in texts for word in set(close.words(text)))
    malay = [word for word in dict.fromkeys(MALAY.split()) if counts[word] <= len(texts) / 2_000]
    own = [word for word in dict.fromkeys(INDONESIAN.split()) if counts[word] >= 3]
    table = {
        **{word: round(WEIGHT, 2) for word in malay},
        **{word: -round(WEIGHT, 2) for word in own if word not in malay},
    }
    return {"words": table, "dropped": sorted(set(MALAY.split()) - set(malay))}


def fit_leans(train: Passages, malay: set[str]) -> dict[str, float]:
    """How far the model leans to a rival on nearly all passages that are not in it, where it takes either first."""
    leans = {}
    for own, rival in close.LEANINGS:
        odds = []
        for text, _, guesses in train[own]:
            score = dict(guesses)
            a, b = score.get(own, 1e-5), score.get(rival, 1e-5)
            if len(text) >= 20 and {name for name, _ in guesses[:2]} == {own, rival} and a + b > 0.5:
                if own == "id" and set(close.words(text)) & malay:
                    continue
                odds.append(math.log(b / a))
        if len(odds) >= 200:
            leans[f"{own} {rival}"] = round(max(0.0, float(np.quantile(odds, QUANTILE))), 2)
        print("lean", own, rival, len(odds), leans.get(f"{own} {rival}"), file=sys.stderr)
    return leans


def fit_grams(train: Passages) -> dict[str, Any]:
    """The 2,000 four-grams that tell most, Spanish over Portuguese, in log odds; and the weight of their sum."""
    counts = {own: Counter(gram for text, _, _ in train[own] for gram in close.grams(text)) for own in ("es", "pt")}
    es, pt = counts["es"], counts["pt"]
    all_es, all_pt = es.total(), pt.total()
    odds = {
        gram: math.log((es[gram] + 1) / all_es) - math.log((pt[gram] + 1) / all_pt) for gram in es.keys() | pt.keys()
    }
    told = {gram: abs(value) * (es[gram] / all_es + pt[gram] / all_pt) for gram, value in odds.items()}
    table = {
        gram: round(odds[gram], 1) for gram in sorted(sorted(told, key=lambda gram: (-told[gram], gram))[:MOST_GRAMS])
    }
    weight = min((0.1, 0.2, 0.3, 0.5, 0.7, 1.0), key=lambda weight: _loss(train, table, weight))
    return {"weight": weight, "grams": table}


def _loss(train: Passages, table: dict[str, float], weight: float) -> float:
    total = 0.0
    for language, sign in (("es", 1), ("pt", -1)):
        for text, _, guesses in train[language][:5_000]:
            score = dict(guesses)
            if {name for name, _ in guesses[:2]} == {"es", "pt"}:
                odds = math.log(score["es"] / score["pt"]) + weight * sum(
                    table.get(gram, 0) for gram in close.grams(text)
                )
                total += math.log1p(math.exp(-sign * odds))
    return total


def report(found: Passages, first: str, second: str) -> dict[str, Any]:
    """Held-out passages where the model takes one of the two first: right before and after the evidence."""
    rows: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for language in (first, second):
        for text, held, guesses in found.get(language, []):
            if held and len(text) >= 20 and {name for name, _ in guesses[:2]} == {first, second}:
                (a, score_a), (b, score_b) = guesses[:2]
                odds = math.log(score_a / max(score_b, 1e-6)) + close.log_odds(a, b, evidence(text))
                rows[language][0] += 1
                rows[language][1] += a == language
                rows[language][2] += (a if odds > 0 else b) == language
    return {language: {"passages": n, "before": was, "after": now} for language, (n, was, now) in rows.items()}


def evidence(text: str) -> close.Evidence:
    letters = count_letters(pa.array([text]), 1_000).scripts[0]
    return close.Evidence(
        text, int(letters[SCRIPTS.index("Hani")]), int(letters[SCRIPTS.index("Hira")] + letters[SCRIPTS.index("Kana")])
    )


if __name__ == "__main__":
    main()
