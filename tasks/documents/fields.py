"""One way to write dates, addresses and licences; what cannot be read as one is left to the caller."""

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from urllib.parse import urlsplit, urlunsplit

_ISO = re.compile(r"\d{4}(-\d\d(-\d\d(T\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)?)?)?)?")
_STAMP = re.compile(r"(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)")  # as web archives write it
_NUMBERS = re.compile(r"(\d{4})[/.](\d{1,2})[/.](\d{1,2})")  # the year first: no other order is sure
_WORDS = ("%d %B %Y", "%B %d, %Y", "%B %d %Y", "%d %b %Y", "%b %d, %Y", "%b %d %Y")
_FIRST_SECOND, _LAST_SECOND = 86_400 * 365, 4_102_444_800  # 1971 to 2100: other numbers are no times
_PORTS = {"http": 80, "https": 443, "ftp": 21}
_NORMAL = re.compile(  # nothing to do: most of a crawl, and of what has a scheme of its own
    r"(?:https?|ftp|deb)://[a-z0-9-]+(?:\.[a-z0-9-]+)*/\S*"
    r"|(?!https?:|ftp:|deb:)[a-z][a-z0-9+.-]*://[a-z0-9-]+(?:\.[a-z0-9-]+)*/(?:\S*[^\s>])?"
)
_SCHEME = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*:\S")
_CREATIVE = re.compile(
    r"(?:https?://)?(?:www\.)?creativecommons\.org/(?:licenses/)?(?P<page>[a-z-]+|publicdomain/zero)/(?P<at>\d\.\d)"
    r"|(?:creative commons|cc)[ -]*(?P<name>by(?:[ -]?(?:nc|nd|sa))*)[ -]*v?(?P<version>\d\.\d)?", re.IGNORECASE
)  # fmt: skip
_SPDX = {
    re.sub(r"[^a-z0-9+]", "", name.lower()): name
    for name in (
        "AGPL-3.0", "Apache-2.0", "Artistic-2.0", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0", "EPL-2.0", "EUPL-1.2",
        "GFDL-1.2", "GFDL-1.3", "GPL-2.0", "GPL-3.0", "ISC", "LGPL-2.1", "LGPL-3.0", "MIT", "MPL-2.0", "ODbL-1.0", "Unlicense",
        "WTFPL", "Zlib",
    )
} | {
    "apache2": "Apache-2.0", "apachelicense20": "Apache-2.0", "apachelicenseversion20": "Apache-2.0", "cc0": "CC0-1.0",
    "cczero": "CC0-1.0", "mitlicense": "MIT", "themitlicense": "MIT", "odbl": "ODbL-1.0", "odcby": "ODC-BY", "odcby10": "ODC-BY",
    "mozillapubliclicense20": "MPL-2.0", "gnugplv3": "GPL-3.0", "gplv3": "GPL-3.0", "gplv2": "GPL-2.0", "gpl3": "GPL-3.0",
    "gpl2": "GPL-2.0", "isclicense": "ISC", "theunlicense": "Unlicense",
}  # fmt: skip


def date(value: object) -> str | None:
    """A date or time as ISO 8601, as exact as it was; None for what is none.

    ISO 8601 in the usual form stays as it is. Understood are its other forms, dates of mails and web servers, the 14 digits
    of web archives, `2024/5/1`, English month names, and seconds or milliseconds since 1970. Not understood is `5/6/2024`,
    because nobody knows which of the two is the month.
    """
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    if isinstance(value, int):
        seconds = value // 1000 if value > _LAST_SECOND else value
        return _written(datetime.fromtimestamp(seconds, UTC)) if _FIRST_SECOND <= seconds <= _LAST_SECOND else None
    text = value.strip()
    if _ISO.fullmatch(text):
        return text if _exists(text) else None
    return _of_iso(text) or _of_stamp(text) or _of_numbers(text) or _of_mail(text) or _of_words(text)


def url(value: str) -> str | None:
    """An address of the web with scheme and host in lower case, without a user's name, a port that goes without saying, brackets.

    Of other schemes (`urn:`, `npm://`) only the scheme is. None for what has no scheme, or white space in it.
    """
    if _NORMAL.fullmatch(value):
        return value
    text = value.strip().removeprefix("<").removesuffix(">")
    if not _SCHEME.match(text) or any(character.isspace() for character in text):
        return None
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:  # a port that is no number, brackets without an end
        return None
    scheme = parts.scheme.lower()
    if not host or scheme not in _PORTS:
        return scheme + text[len(scheme) :]
    place = f"[{host}]" if ":" in host else host
    if port is not None and port != _PORTS.get(scheme):
        place += f":{port}"
    return urlunsplit((scheme, place, parts.path or "/", parts.query, parts.fragment))


@lru_cache(maxsize=1_000)  # a source has few
def licence(value: str) -> str | None:
    """A licence by its SPDX identifier where it is one of the usual ones, else as it was written; None for a blank one."""
    text = " ".join(value.split())
    known = _SPDX.get(re.sub(r"[^a-z0-9+]", "", text.lower()))
    if known:
        return known
    found = _CREATIVE.fullmatch(
        text.removesuffix("/").removesuffix("/deed.en").removesuffix(" license").removesuffix("/legalcode")
    )
    if found is None:
        return text or None
    if found["page"]:
        zero = found["page"].lower() == "publicdomain/zero"
        return f"CC0-{found['at']}" if zero else f"CC-{found['page'].upper()}-{found['at']}"
    name = re.sub(r"[ -]+", "-", found["name"].upper())
    return f"CC-{name}-{found['version']}" if found["version"] else f"CC-{name}"


def _exists(text: str) -> bool:
    """Is there such a day and hour?"""
    padded = text + "-01" * (2 - text.count("-")) if len(text) < 10 else text
    try:
        datetime.fromisoformat(padded)
    except ValueError:
        return False
    return True


def _written(when: datetime, *, with_time: bool = True) -> str:
    if not with_time:
        return when.date().isoformat()
    return when.isoformat().replace("+00:00", "Z")


def _of_iso(text: str) -> str | None:
    """The rarer forms of ISO 8601: with a space, without separators, by week."""
    if text.isdigit() and len(text) != 8:
        return None
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        return None
    return _written(when, with_time=len(text) > 10)


def _of_stamp(text: str) -> str | None:
    found = _STAMP.fullmatch(text)
    return _day(*found.groups(), utc=True) if found else None


def _of_numbers(text: str) -> str | None:
    found = _NUMBERS.fullmatch(text)
    return _day(*found.groups()) if found else None


def _day(*numbers: str, utc: bool = False) -> str | None:
    try:
        when = datetime(*map(int, numbers), tzinfo=UTC if utc else None)  # type: ignore[arg-type, misc]  # three numbers or six
    except ValueError:
        return None
    return _written(when, with_time=len(numbers) > 3)


def _of_mail(text: str) -> str | None:
    """`Tue, 15 Nov 1994 08:12:31 GMT`."""
    if not re.search(r"\d:\d\d", text):
        return None
    try:
        return _written(parsedate_to_datetime(text))
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _of_words(text: str) -> str | None:
    if not text.isascii() or len(text) > 30 or not any(character.isalpha() for character in text):
        return None
    for form in _WORDS:
        try:
            return _written(datetime.strptime(text, form), with_time=False)
        except ValueError:
            continue
    return None
