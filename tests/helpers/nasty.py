"""Texts of what makes trouble in Unicode, for properties that any text must have."""

from hypothesis import strategies as st

# What makes trouble: white space, line ends, the invisible, joiners, tags, addresses, unspaced scripts, plane 2.
PIECES = [
    *"aZ9.-é ßقहย中カ한\t\n\r\v\0\x1f\x7f\x85\xa0\xad\u200b\u200c\u200d\u200e\u2028\u2029\u3000\ufeff\ufe0f\u180e\u3164",
    "\r\n", "\n\n", "  ", "👩", "🏴", "\U000e0067", "\U000e007f", "\U00020000", "\ufffe", "\u0600", "्", "http://a.b", "HTTPS://",
    "www.", "www.x", "<ftp://q>", "(http://", "longlonglong", "abc", "。", "，",
]  # fmt: skip
nasty_texts = st.lists(st.sampled_from(PIECES) | st.characters(codec="utf-8"), max_size=30).map("".join)
