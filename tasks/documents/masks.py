"""Addresses of mail and machines, phone numbers and bank accounts: found, checked by their own rules, replaced.

What stands in for them is reserved for examples, so that nobody is reached by it and that masking twice changes nothing.
"""

import ipaddress
import re
from bisect import bisect_left, insort
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

Kind: TypeAlias = Literal["email", "iban", "ip", "phone"]
KINDS: tuple[Kind, ...] = ("email", "iban", "ip", "phone")  # where two overlap, the first of these is masked
STAND_INS: dict[Kind, str] = {
    "email": "email@example.com",  # RFC 2606
    "iban": "XX00 0000 0000 0000 00",
    "ip": "192.0.2.1",  # RFC 5737
    "phone": "000-000-0000",
}
# Names of RFC 6531 in scripts with spaces; in the others the words before an address would count as part of it.
_NAME = "A-Za-z0-9\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f\u0370-\u03ff\u0400-\u052f"
# Top domains that are no ASCII, of IANA's root zone: any word would let `a@b.Слово` be one. A word of theirs ends one; in
# scripts without spaces the text runs on after it.
_TOPS = "рф рус срб бел укр мкд мон бг ею қаз москва дети онлайн сайт орг ком католик ελ ευ հայ ישראל"
_TOPS += " امارات السعودية مصر ایران پاکستان قطر تونس المغرب الجزائر الاردن عمان فلسطين سورية عراق موقع شبكة كوم عرب"
_TOPS_RUN_ON = (
    "中国 中國 公司 网络 网址 网站 在线 中文网 世界 香港 台湾 台灣 澳門 新加坡 みんな コム 한국 닷컴 닷넷 ไทย คอม"
)
_TOP = f"(?:{'|'.join([*_TOPS.split(), *_TOPS.upper().split()])})(?![\\w-])|(?:{'|'.join(_TOPS_RUN_ON.split())})"
_EMAIL = re.compile(
    rf"(?<![{_NAME}._%+-])(?<![{_NAME}]')[{_NAME}_%+-](?:[{_NAME}._%+'-]{{0,62}}[{_NAME}_%+-])?[@\uff20]"
    rf"(?:(?:[{_NAME}](?:[{_NAME}-]{{0,62}})\.){{1,8}}(?:[A-Za-z]{{2,24}}|[Xx][Nn]--[A-Za-z0-9-]{{2,59}})(?![{_NAME}-])"
    rf"|(?:[^\W_][\w-]{{0,62}}\.){{1,8}}(?:{_TOP}))"
)
_RESERVED = re.compile(
    r"[@\uff20](?:[a-z0-9-]+\.)*(?:example\.(?:com|net|org)|[a-z0-9-]+\.(?:example|invalid|test))$", re.IGNORECASE
)
_IPV4 = re.compile(r"(?<![\d.])\d{1,3}(?:\.\d{1,3}){3}(?!\.?\d)", re.ASCII)
# Public ones are 2000::/3; `a::b` is C++.
_IPV6 = re.compile(r"(?<![0-9A-Za-z:.])[23][0-9A-Fa-f]{3}(?::[0-9A-Fa-f]{0,4}){2,7}(?![0-9A-Za-z:])")
_IBAN = re.compile(r"(?<![A-Z0-9])[A-Z]{2}\d{2}(?:[ ]?[A-Z0-9]){11,30}(?![a-z0-9])", re.ASCII)
# What phonenumbers takes for punctuation within a number, but for the x of extensions.
_BETWEEN = " ()./~\u00a0\u00ad\u200b\u2010-\u2015\u2053\u2060\u2212\u223c\u3000\u30fc\uff08\uff09\uff0d-\uff0f\uff3b\uff3d\uff5e\\[\\]\\-"
_PHONE_LINE = re.compile(rf"\d[\d{_BETWEEN}]{{5,}}\d")  # digits of any script
_TO = re.compile("[\u2012-\u2015]")
_DIGITS_OF_A_PERSON = 5  # that a rest of a number still has to be masked for
_EDGES = " ().-/\u00a0\u2010\u2011\u2012\u2013\u2014\u2015\u2212\u3000\uff08\uff09\uff0d\uff0e\uff0f"
# What a text must hold for one of a kind to be in it, for Arrow, which is 50 times faster than Python's loop.
_FIRST_LOOK: dict[Kind, str] = {
    "email": rf"[{_NAME}_%+-][@\x{{ff20}}][\pL\pN]",
    "iban": r"[A-Z]{2}\d\d[ ]?[A-Z0-9]{4}",
    "ip": r"\d\.\d{1,3}\.\d{1,3}\.\d|[23][0-9A-Fa-f]{3}:[0-9A-Fa-f]{0,4}:",
    "phone": rf"\p{{Nd}}[\p{{Nd}}{_BETWEEN}]{{5,}}\p{{Nd}}",
}


@dataclass(frozen=True)
class Span:
    """One thing that was masked: where its stand-in is in the new text, and how many characters it had itself."""

    kind: Kind
    start: int
    end: int
    was: int


def maybe(texts: pa.Array, kinds: Sequence[Kind]) -> list[int]:
    """The rows that may hold something of these kinds."""
    if not kinds or not len(texts):
        return []
    look = "|".join(_FIRST_LOOK[kind] for kind in kinds)
    found = pc.fill_null(pc.match_substring_regex(texts, look), False)
    return [row for row, holds in enumerate(found.to_pylist()) if holds]


def mask(text: str, kinds: Sequence[Kind], regions: Sequence[str] = ()) -> tuple[str, list[Span]]:
    """A text with everything of these kinds replaced, and the exact spans.

    Mail: but for addresses under the names reserved for examples. IP: public ones. IBAN: of a country's length, with right
    check digits. Phone: valid numbers with a country code, and of `regions` (`DE`) those without one.
    """
    pieces: list[str] = []
    spans: list[Span] = []
    at = length = 0
    for start, end, kind in _chosen(text, kinds, regions):
        pieces += [text[at:start], STAND_INS[kind]]
        length += start - at
        spans.append(Span(kind, length, length + len(STAND_INS[kind]), end - start))
        length += len(STAND_INS[kind])
        at = end
    return ("".join([*pieces, text[at:]]), spans) if spans else (text, spans)


def mask_part(text: str, start: int, end: int, kinds: Sequence[Kind], regions: Sequence[str] = ()) -> str:
    """A part of a text; whatever of these kinds reaches into it, judged in the whole text, is replaced."""
    pieces, at = [], start
    for first, last, kind in _chosen(text, kinds, regions):
        if last > start and first < end:
            pieces += [text[at:first], STAND_INS[kind]]
            at = last
    return "".join([*pieces, text[at:end]])


def _chosen(text: str, kinds: Sequence[Kind], regions: Sequence[str]) -> list[tuple[int, int, Kind]]:
    """What is masked, in order, without overlaps: of two that overlap, what the second has to itself."""
    taken: list[tuple[int, int, Kind]] = []
    for kind in (kind for kind in KINDS if kind in kinds):
        for start, end in _found(text, kind, regions):
            for first, last in list(_free(taken, start, end)):
                rest = text[first:last]
                if last - first == end - start or sum(map(str.isdigit, rest)) >= _DIGITS_OF_A_PERSON:
                    first, last = (
                        first + len(rest) - len(rest.lstrip(_EDGES)),
                        last - len(rest) + len(rest.rstrip(_EDGES)),
                    )
                    insort(taken, (first, last, kind))
    return taken


def _free(taken: Sequence[tuple[int, int, Kind]], start: int, end: int) -> Iterator[tuple[int, int]]:
    """The stretches from start to end that nothing is taken of."""
    place = max(0, bisect_left(taken, (start,)) - 1)
    while place < len(taken) and taken[place][0] < end:
        first, last, _ = taken[place]
        if last > start:
            if first > start:
                yield start, first
            start = last
        place += 1
    if start < end:
        yield start, end


def _found(text: str, kind: Kind, regions: Sequence[str]) -> Iterator[tuple[int, int]]:
    match kind:
        case "email":
            return (m.span() for m in _EMAIL.finditer(text) if not _RESERVED.search(m.group()))
        case "iban":
            return _ibans(text)
        case "ip":
            return (m.span() for pattern in (_IPV4, _IPV6) for m in pattern.finditer(text) if _is_public(m.group()))
        case "phone":
            return _phones(text, regions)


def _is_public(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_global
    except ValueError:
        return False


def _ibans(text: str) -> Iterator[tuple[int, int]]:
    """Account numbers; words in capitals, or the next number, may follow one, so its end is where its check digits are right."""
    at = 0
    while found := _IBAN.search(text, at):
        at = found.start() + 1
        for end in range(len(found.group()), 14, -1):
            candidate = found.group()[:end]
            if candidate[-1] != " " and _is_iban(candidate.replace(" ", "")):
                yield found.start(), found.start() + end
                at = found.start() + end
                break


@lru_cache(maxsize=10_000)
def _is_iban(number: str) -> bool:
    from stdnum import iban  # only workers that mask need it

    return bool(iban.is_valid(number))


def _phones(text: str, regions: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Valid numbers, looked for in the lines that have enough digits."""
    import phonenumbers  # 0.3 s

    at = 0
    for line in text.split("\n"):
        if ("+" in line or "\uff0b" in line or regions) and _PHONE_LINE.search(line):
            for region in regions or (None,):
                found = list(phonenumbers.PhoneNumberMatcher(line, region, leniency=phonenumbers.Leniency.VALID))
                yield from ((at + one.start, at + one.end) for one in found if not _is_range(one.raw_string))
        at += len(line) + 1


def _is_range(found: str) -> bool:
    """Whether it is from one number to a greater one, such as 1914–1918: with such a dash, and as long or a digit longer."""
    bounds = ["".join(filter(str.isdigit, bound)) for bound in _TO.split(found)]
    if len(bounds) != 2 or not all(bounds) or found.startswith(("+", "\uff0b")) or int(bounds[0][0]) == 0:
        return False
    return len(bounds[1]) - len(bounds[0]) in (0, 1) and int(bounds[0]) < int(bounds[1])
