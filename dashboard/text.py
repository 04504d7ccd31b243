"""Text of others, made safe to look at: escaped, isolated from its surroundings, with what cannot be seen made visible."""

import re
import unicodedata

import regex
from markupsafe import Markup, escape

# Controls but tab and newline, overrides and isolates of direction, marks without width that join nothing, tags,
# the byte order mark, separators of lines, and what is no character. Joiners stay: emoji and Persian need them.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ufffe\uffff"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)


_CLUSTER = regex.compile(r"\X")  # what a reader sees as one character (UAX 29): a cut within one shows another
_LONG_CLUSTER = 64  # characters looked at around a cut: a longer heap of marks may be cut anywhere


def shortened(text: object, limit: int) -> str:
    """The first `limit` characters of a text at most, ending with a whole cluster and "…"; all of a text that fits."""
    told = "" if text is None else str(text)
    if len(told) <= limit:
        return told
    return f"{told[: cluster_boundary(told, limit)]}…"


def cluster_boundary(text: str, at: int) -> int:
    """The last place up to `at` where a text can be cut between two clusters; `at` itself within a long heap of marks."""
    begin = max(0, at - _LONG_CLUSTER)
    ends = [found.end() for found in _CLUSTER.finditer(text, begin, at + _LONG_CLUSTER) if found.end() <= at]
    return ends[-1] if ends else at


def visible(text: object) -> Markup:
    """Escaped text in which characters that cannot be seen, or turn the direction of others, are named: `U+202E`."""
    told = str(text)
    pieces, end = [], 0
    for found in _UNSEEN.finditer(told):
        pieces += [escape(told[end : found.start()]), _mark(found[0])]
        end = found.end()
    return Markup("").join([*pieces, escape(told[end:])])


def plain(text: object) -> str:
    """The same for places that take no markup, such as titles and labels of charts: `⟨U+202E⟩`."""
    return _UNSEEN.sub(lambda found: f"⟨{_code(found[0])}⟩", str(text))


def foreign(text: object, limit: int = 0) -> Markup:
    """A piece of text within a line of ours: cut to `limit` characters, and unable to turn the line around."""
    told = "" if text is None else str(text)
    cut = shortened(told, limit) if limit else told
    return Markup("<bdi>{}</bdi>").format(visible(cut))


def prose(text: object, limit: int = 0) -> Markup:
    """A document's text as a block: every line in its own direction, white space kept."""
    told = "" if text is None else str(text)
    cut = shortened(told, limit) if limit else told
    return Markup('<div class="prose" dir="auto">{}</div>').format(visible(cut))


def _mark(character: str) -> Markup:
    return Markup('<span class="unseen" title="{}">{}</span>').format(
        unicodedata.name(character, "control character"), _code(character)
    )


def _code(character: str) -> str:
    return f"U+{ord(character):04X}"
