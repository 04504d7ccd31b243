"""Russian in an encoding of one byte that was read as Western European, and written so: `Ïðèâåò` for `Привет`."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

_LETTERS = "абвгдежзийклмнопрстуфхцчшщъыьэюя"
# How much likelier than any letter the next one is in Russian, in half bits from A (-6 bits) to W (+5 bits): a row for what
# stands before it, a column for it; the first of both is the border of a word. Counted in the embedded sample.
_PAIRS = (
    "AKNQKOKHMPAOJMPOQLPNMJIELGEAAALAH", "RALOKLNKNBLOOMQAMNNPGFJLKKKAAAAJK", "KOAABEQBJLAKPGNQAQIDPAJIABKMSAADI",
    "RRAJAFQAGOAMMFMQHMNKKAEAAKACPEAAH", "MNCAAPKAAOAHNCKUAQCAPAAACEAAAAAAA", "ORALAKRFDQAKPFMRHNKHNAAGBCAEKIAAH",
    "SBIKLNKJKELMONRHIPOQBAIGJHIAAAADA", "JQIAANUAARAKEJQFADGAHAAAEAAAAAAAA", "PTHPINMJAMAJGNPQAKFANBAABEADMBAAJ",
    "SIJNIKOFMLMMOOOHJMOPAJKLKIEAAAAKN", "VAAEAMCAAAANOIKAAARPAAAAIIAAAAAAA", "QSAEAALHIQAANAMSAOLNPACHAAAAAACAA",
    "OPGAEAQKARAKDALRAAKCMAAAJAAAJRAMQ", "SQFJAASAAPAEGHLRKAFANAAAAAAAMAAAM", "NRADEJQAARAIAAORAAJNMIDHEAAAPJAGJ",
    "RAOPNOKNLJNMPNMGLOOOBAHEKIFAAAFHG", "JOAAAAPAANAJLAITBTFIMAAHCABAJEAAG", "MSBIGGRLAQAHCLKRDFKLOCFCCICANHAAJ",
    "OLFMAGOCANAPOKKPOGKSJAIAFFAAINAFP", "QPANACQAAPALEEKRFPMALDAAHAAALQAAG", "RELJNPNOMAMMLOKAMMPOAFIANJMAAAAOG",
    "DSDDDDNDDSDDLDDSDODGNHDDDDDDGDDDH", "UMBIBBIBBKBBJGKTBOIBIFBBBBBEBBBBB", "PQCLCCRCCUCHCCCKCCCCNCCCCCCCPCCCC",
    "JRAAAATAARAMAAPIAIARJAAAAHAAAGAAA", "MPBGBBSBBTBOMBNMBFBJLBBBBBBBBMBBB", "FSCCCCUCCSCCCCCCCFCCNCCCCCCCCNCCC",
    "HHHHHHVHHHHHHHHHHHHHHHHHHHHHHHHLP", "SANNEIPBMAPKPOGAKKJQAAPAJJDAAAAAB", "UAEBAAHAPAAOAKQAAAOKAAAFELAAAAAKJ",
    "GDDDDDDDDDDRQJDDDGIVDGDDDIDDDDDDD", "UBMBBLBEBBBEGHGBBKHPBGBBREQBBBBHB", "VAEMFKNILGGJKLMAHKHNAAIGHAIAAAAIF",
)  # fmt: skip
_LIKE = str.maketrans("ёіїєґўј", "еииегуй")  # what Russian does not have, and Ukrainian, Belarusian and Serbian do
_PLACES = {letter: place + 1 for place, letter in enumerate(_LETTERS)}
_ZERO = ord("M")

SUSPECT = "[À-ÿ¸£]{4}"  # four letters in a row, none of them of ASCII: no language written so has such words
_WORD = re.compile(r"[^\W\d_]+")
_CONTROL = re.compile("[\x80-\x9f]")  # bytes of another encoding
_CYRILLIC = re.compile("[\u0400-\u045fҐґ]+")

_SURE, _SURE_PER_LETTER = 12.0, 0.6  # bits that speak for a line, in all and for each of its letters
_SURE_OF_TEXT = 40.0  # and for a text, of whose other lines nothing more is asked than not to speak against it
_LONG = 4  # letters that one word of a sure line has at least
_DISTINCT = 5  # and the line different ones: éé ééé éééé is none
_STRANGE = -4.0  # bits: a letter that is not in the table, a capital after a small letter
_MOST_MIXED = (
    0.1  # share of words with Latin letters too, as a slip writes them; of an accented language it is nearly all
)


@dataclass(frozen=True)
class _Judged:
    """What speaks for a line's being Russian, once its letters are Cyrillic."""

    better: str
    bits: float
    letters: int
    longest: int  # word, in letters
    distinct: int  # letters
    is_mixed: bool  # there is more Latin in it than slips

    @property
    def is_sure(self) -> bool:
        enough = max(_SURE, _SURE_PER_LETTER * self.letters)
        is_text = self.longest >= _LONG and self.distinct >= _DISTINCT
        return not self.is_mixed and is_text and self.bits >= enough

    @property
    def is_likely(self) -> bool:
        return not self.is_mixed and self.letters > 0 and self.bits >= 0


def repaired(lines: Sequence[str]) -> dict[int, str]:
    """The lines that are sure to be Russian, as they should be, and beside many of them those that look like it.

    A line is judged by the pairs of letters of its words once they are Cyrillic: right text of another language has words with
    letters of ASCII beside the others, or pairs that Russian has not (`ÄÖÜäöüß`, lists of letters).
    """
    best: dict[int, _Judged] = {}
    for table in _TABLES.values():
        judged = {number: _judge(line, table) for number, line in enumerate(lines) if not line.isascii()}
        sure = {number: found for number, found in judged.items() if found.is_sure}
        if _bits(sure) >= _SURE_OF_TEXT:
            sure |= {number: found for number, found in judged.items() if found.is_likely}
        if _bits(sure) > _bits(best):
            best = sure
    return {number: found.better for number, found in best.items()}


def _bits(judged: Mapping[int, _Judged]) -> float:
    return sum(found.bits for found in judged.values())


def _judge(line: str, table: Mapping[int, str]) -> _Judged:
    better = line.translate(table)
    words = _WORD.findall(better)
    cyrillic = [word for word in words if _CYRILLIC.search(word)]
    mixed = [word for word in cyrillic if not _CYRILLIC.fullmatch(word)]
    is_mixed = len(mixed) > _MOST_MIXED * len(cyrillic) or bool(_CYRILLIC.search(line) or _CONTROL.search(better))
    whole = [word for word in cyrillic if word not in mixed]
    letters = sum(map(len, whole))
    longest, distinct = max(map(len, whole), default=0), len(set("".join(whole).lower()))
    return _Judged(better, sum(map(_word_bits, whole)), letters, longest, distinct, is_mixed)


@lru_cache(maxsize=10_000)
def _word_bits(word: str) -> float:
    """How much likelier a word is in Russian than any letters: log2 of the ratio."""
    places = [0, *(_PLACES.get(letter, -1) for letter in word.lower().translate(_LIKE)), 0]
    if len(places) == 3:
        return (
            min(0.0, (ord(_PAIRS[0][places[1]]) - _ZERO) / 2) if places[1] > 0 else _STRANGE
        )  # too little to speak for it
    known = sum((ord(_PAIRS[a][b]) - _ZERO) / 2 for a, b in pairwise(places) if a >= 0 and b >= 0)
    capitals = sum(a.islower() and b.isupper() for a, b in pairwise(word))
    return known + _STRANGE * (places.count(-1) + capitals)


def _table(encoding: str, first: int) -> dict[int, str]:
    """What characters should have been: of bytes from `first` up, as Windows-1252 and as ISO 8859-1 read them."""
    table: dict[int, str] = {}
    for byte in range(first, 256):
        meant = bytes([byte]).decode(encoding, "ignore")
        read = bytes([byte]).decode("cp1252", "ignore")
        table |= {ord(character): meant for character in (read, chr(byte)) if meant and character}
    return table


_TABLES = {
    "cp1251": _table("cp1251", 0x80),
    "koi8-r": _table("koi8-r", 0xC0) | {ord("£"): "ё", ord("³"): "Ё"},  # its other bytes are no letters
}
