"""A small tokenizer in eight languages and six scripts, trained once a session by the stage itself."""

from pathlib import Path

import pyarrow as pa
import pytest

from polylm.tasks.stage import Workspace
from polylm.tasks.tokens.tokenizer import TokenizerParams, train_tokenizer

SENTENCES = {
    "en": "The committee published {n} reports about the water of the river, and nobody's answer was shorter than that.",
    "de": "Der Ausschuss veröffentlichte {n} Berichte über das Wasser des Flusses, und niemand antwortete kürzer.",
    "fr": "Le comité a publié {n} rapports sur l'eau du fleuve, et personne n'a répondu plus brièvement que cela.",
    "ru": "Комитет опубликовал {n} докладов о воде реки, и никто не ответил короче, чем это было сделано.",
    "ar": "نشرت اللجنة {n} تقارير عن مياه النهر، ولم يكن جواب أحد أقصر من ذلك.",
    "ja": "委員会は川の水について{n}件の報告書を発表し、それより短い答えはなかった。",
    "th": "คณะกรรมการเผยแพร่รายงาน{n}ฉบับเกี่ยวกับน้ำในแม่น้ำ และไม่มีใครตอบสั้นกว่านั้น",
    "ko": "위원회는 강의 물에 관한 보고서 {n}건을 발표했고, 그보다 짧은 대답은 없었다.",
}


def corpus_of(texts, *, valid=(), weight=1):
    """One part for each language: its texts in the split train, those at the indices `valid` in the split valid."""
    return [
        {
            "text": pa.array(lines, pa.string()),
            "language": pa.array([language] * len(lines)).dictionary_encode(),
            "weight": pa.array([weight] * len(lines), pa.uint8()),
            "split": pa.array(["valid" if i in valid else "train" for i in range(len(lines))]),
        }
        for language, lines in texts.items()
    ]


def sentences(count=40):
    return {
        language: [" ".join(form.format(n=n * k + k) for k in range(1, 4)) for n in range(count)]
        for language, form in SENTENCES.items()
    }


def workspace(folder: Path) -> Workspace:
    for name in ("out", "scratch", "shared"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    return Workspace(folder / "out", folder / "scratch", folder / "shared")


@pytest.fixture(scope="session")
def corpus():
    return corpus_of(sentences(), valid={3, 17})


@pytest.fixture(scope="session")
def tokenizer(corpus, tmp_path_factory) -> Path:
    work = workspace(tmp_path_factory.mktemp("tokenizer"))
    train_tokenizer(corpus, TokenizerParams(vocabulary=900), work)
    return work.out
