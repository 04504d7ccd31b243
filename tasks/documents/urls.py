"""Documents from addresses that nobody wants, or that do not want to be taken: lists of domains, words and opt-outs.

A list is an adopted file, known by its digest, so that a new edition of it re-runs this gate and what stands on its verdicts,
and nothing else: an opt-out works backwards. The reason of a rejected document names the list, its value the entry.
"""

import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Literal, TypeAlias
from urllib.parse import unquote, urlsplit

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, field_validator
from pydantic import Field as Plain

from polylm.tasks.rules import Rules, one_of
from polylm.tasks.run import File
from polylm.tasks.stage import Field, Params, Rows, StageError, gate

Match: TypeAlias = Callable[
    [str, str, str], str | None
]  # host in ASCII, path with query, whole address -> the entry that matches
_FREE = ""  # the value of an address that no entry matches
_WORD = re.compile(r"[^\W_]+")
_HOST = re.compile(r"[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*")
_HOST_CHARS = 253  # RFC 1035; a longer one is nobody's, and punycode takes the square of its length
_UNSEEN = re.compile("[\u00ad\u200b\u2060\ufeff]")  # UTS 46 drops them
_OCTET = re.compile(r"%[0-9A-Fa-f]{2}|[^!-~]|[\"$*<>\\^`{|}]")  # an encoded one, or what RFC 3986 has encoded
_UNRESERVED = re.compile(r"[A-Za-z0-9._~-]")
_PASSED_OVER = ("user-agent", "sitemap", "crawl-delay", "request-rate", "visit-time", "clean-param", "noindex")
_FIELD = re.compile(r"([A-Za-z-]+)\s*:\s*(.*)")


class UrlList(BaseModel):
    """One list of addresses."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Plain(pattern="^[a-z][a-z0-9_]*$", description="The reason of those that it rejects.")
    kind: Literal["domains", "words", "opt-out"] = Plain(
        description="Domains, one a line; words of addresses; or the rules of robots.txt under `Host:` lines."
    )
    file: File = Plain(description="The adopted file, by name and digest.")


class UrlParams(Params):
    lists: tuple[UrlList, ...] = Field(
        (), description="Lists of domains, words and opt-outs; the first that matches wins."
    )

    @field_validator("lists")
    @classmethod
    def _have_own_names(cls, lists: tuple[UrlList, ...]) -> tuple[UrlList, ...]:
        names = [one.name for one in lists]
        if len(set(names)) < len(names):
            raise ValueError(f"lists have the same name: {', '.join(sorted(names))}")
        return lists


@gate(reads=["url"], version=2)
def filter_urls(rows: Rows, params: UrlParams, *lists: Path) -> Rules:
    """Reject documents whose address is on a list; one without an address is not judged."""
    if len(lists) != len(params.lists):
        raise StageError(f"filter_urls: {len(params.lists)} lists in its params, {len(lists)} adopted files")
    urls = rows["url"]
    names = urls.dictionary.to_pylist()
    found = {}
    for one, path in zip(params.lists, lists, strict=True):
        match = load_list(str(path), one.kind)
        entries = pa.array([_entry(name, match) for name in names], pa.string())
        found[one.name] = one_of(entries.take(urls.indices).dictionary_encode(), (_FREE,))
    return found


@lru_cache(maxsize=8)  # once a process; a list of a million domains takes 100 MB
def load_list(path: str, kind: str) -> Match:
    """The function that finds an address's entry; ValueError names the line that is none of its kind."""
    readers: dict[str, Callable[[Path], Match]] = {
        "domains": _Domains.read,
        "words": _Words.read,
        "opt-out": _OptOuts.read,
    }
    return readers[kind](Path(path))


def list_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Number and content of the lines of an adopted list that say something; # begins a comment."""
    try:
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path.name}: a list is UTF-8 text, but byte {error.start} is none") from error
    for number, line in enumerate(text.splitlines(), 1):
        said = re.sub(r"(^|\s)#.*", "", line).strip()
        if said:
            yield number, said


def _entry(url: str, match: Match) -> str:
    """The entry that matches an address, or nothing."""
    try:
        parts = urlsplit(url)
        host = _ascii(parts.hostname or "").rstrip(".")
    except ValueError:
        return _FREE
    path = parts.path or "/"
    return match(host, f"{path}?{parts.query}" if parts.query else path, url) or _FREE


def _domain(text: str, path: Path, number: int) -> str:
    """A domain in the form in which hosts are compared."""
    name = _ascii(text.strip().lower()).removeprefix("*.").strip(".")
    if not _HOST.fullmatch(name):
        raise ValueError(f"{path.name}, line {number}: expected a domain such as example.org, found {text[:60]!r}")
    return name


def _ascii(host: str) -> str:
    """A host in lower case as resolvers get it: as browsers make it by UTS 46, ß and ς stay, other than in Python's `idna`."""
    if "%" in host:
        host = unquote(host).lower()
    if host.isascii() or len(host) > _HOST_CHARS:
        return host
    lower = "".join(map(str.lower, _UNSEEN.sub("", host)))  # one by one: Σ at the end of a word is σ here
    labels = unicodedata.normalize("NFKC", lower).replace("\u3002", ".").split(".")
    return ".".join(one if one.isascii() else f"xn--{one.encode('punycode').decode()}" for one in labels)


def _readable(host: str) -> str:
    """A host with its labels in their own script; one that is no punycode stays."""
    return ".".join(map(_readable_label, host.split("."))) if "xn--" in host else host


def _readable_label(label: str) -> str:
    try:
        return label[4:].encode().decode("punycode") if label.startswith("xn--") else label
    except UnicodeError:
        return label


@dataclass(frozen=True)
class _Domains:
    """A domain and all under it; lines of a hosts file (`0.0.0.0 example.org`) will do."""

    names: frozenset[str]

    @classmethod
    def read(cls, path: Path) -> "_Domains":
        return cls(frozenset(_domain(said.split()[-1], path, number) for number, said in list_lines(path)))

    def __call__(self, host: str, path: str, url: str) -> str | None:
        while host:
            if host in self.names:
                return host
            host = host.partition(".")[2]
        return None


@dataclass(frozen=True)
class _Words:
    """Words between punctuation, in any case; a line of several words is matched where they stand together."""

    phrases: Mapping[str, tuple[tuple[str, ...], ...]]  # by their first word

    @classmethod
    def read(cls, path: Path) -> "_Words":
        phrases: dict[str, list[tuple[str, ...]]] = {}
        for number, said in list_lines(path):
            words = tuple(_WORD.findall(said.lower()))
            if not words:
                raise ValueError(f"{path.name}, line {number}: expected words, found {said[:60]!r}")
            phrases.setdefault(words[0], []).append(words)
        return cls({first: tuple(several) for first, several in phrases.items()})

    def __call__(self, host: str, path: str, url: str) -> str | None:
        words = _WORD.findall(f"{_readable(host)} {unquote(path)}".lower())
        for at, word in enumerate(words):
            for phrase in self.phrases.get(word, ()):
                if tuple(words[at : at + len(phrase)]) == phrase:
                    return " ".join(phrase)
        return None


def _octets(path: str) -> str:
    """A path in the one form in which RFC 9309, 2.2.2, compares them; what is reserved stays as it is written.

    But for * and $, which a pattern writes as %2A and %24 where they are themselves.
    """
    return _OCTET.sub(_octet, path)


def _octet(found: re.Match[str]) -> str:
    character = found.group()
    if len(character) == 1:
        return "".join(f"%{byte:02X}" for byte in character.encode())
    meant = chr(int(character[1:], 16))
    return meant if _UNRESERVED.fullmatch(meant) else character.upper()


@dataclass
class _Rules:
    """What a host allows and does not: patterns with `*` and `$`, the longest that matches decides (RFC 9309)."""

    rules: list[tuple[int, bool, str, re.Pattern[str]]] = field(default_factory=list)

    def add(self, pattern: str, *, allowed: bool) -> None:
        """One line; an empty pattern says nothing."""
        if pattern:
            body = "*".join(map(_octets, pattern.removesuffix("$").split("*")))
            end = "$" if pattern.endswith("$") else ""
            compiled = re.compile(re.escape(body).replace(r"\*", ".*") + end)
            self.rules.append((len(body + end), allowed, pattern, compiled))

    def disallowed(self, path: str) -> str | None:
        """The pattern that forbids a path."""
        octets = _octets(path)
        found = [rule for rule in self.rules if rule[3].match(octets)]
        if not found:
            return None
        _, allowed, pattern, _ = max(found, key=lambda rule: rule[:2])
        return None if allowed else pattern


@dataclass(frozen=True)
class _OptOuts:
    """The rules of many hosts, as `Host: example.org`, then `Disallow: /private`, `Allow: /private/open`; for all agents."""

    hosts: Mapping[str, _Rules]

    @classmethod
    def read(cls, path: Path) -> "_OptOuts":
        hosts: dict[str, _Rules] = {}
        current: _Rules | None = None
        for number, said in list_lines(path):
            found = _FIELD.fullmatch(said)
            name = found.group(1).lower() if found else ""
            if found and name == "host":
                current = hosts.setdefault(_domain(found.group(2), path, number), _Rules())
            elif found and name in ("allow", "disallow") and current is not None:
                current.add(found.group(2).strip(), allowed=name == "allow")
            elif name not in _PASSED_OVER:
                raise ValueError(
                    f"{path.name}, line {number}: expected Host:, Allow: or Disallow:, found {said[:60]!r}"
                )
        return cls(hosts)

    def __call__(self, host: str, path: str, url: str) -> str | None:
        own = host
        while own:
            if (rules := self.hosts.get(own)) is not None:
                pattern = rules.disallowed(path)
                return f"{own} {pattern}" if pattern else None
            own = own.partition(".")[2]
        return None
