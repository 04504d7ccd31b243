"""Bytes that no client library would send to a server of HTTP, by what they try."""

import re
import socket

from attacks import EVIL

METHODS = ("POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "GETS")
LONG = 10_000_000


def request(line, *headers, host="127.0.0.1", connection="close"):
    own = [f"Host: {host}"] if host is not None else []
    return "\r\n".join([f"{line} HTTP/1.1", *own, f"Connection: {connection}", *headers, "", ""]).encode("latin-1")


def spoken(address, words, patience=2.0):
    """All that the server says to some bytes until it hangs up or waits for more."""
    said = b""
    with socket.create_connection(address, timeout=10) as connection:
        try:
            connection.sendall(words)
            connection.settimeout(patience)
            while piece := connection.recv(1 << 16):
                said += piece
        except (ConnectionError, TimeoutError):
            pass
    return said


def answers(said):
    """Status, headers and body of every answer in some bytes."""
    for one in re.split(rb"(?=HTTP/1\.1 \d{3} )", said)[1:]:
        head, _, body = one.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        pairs = [line.partition(":") for line in lines]
        yield int(first.split()[1]), {name.lower(): value.strip() for name, _, value in pairs}, body


def _gets(*ways):
    return [request(f"GET {way}") for way in ways]


def _hosts(*hosts):
    return [request("GET /", host=host) for host in hosts]


WEBSOCKET = ("Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")
CHUNKED = "Transfer-Encoding: chunked"
SECOND = f"GET / HTTP/1.1\r\nHost: {EVIL}\r\n\r\n".encode()

REFUSED = {  # nothing but a refusal may come of these
    "absolute form": [request(f"GET http://{EVIL}/", host=EVIL), request("GET http://127.0.0.1/", host=EVIL)],
    "authority form": [request(f"CONNECT {EVIL}:443"), request("CONNECT 127.0.0.1:22"), request("OPTIONS *")],
    "several hosts": [
        request("GET /", f"Host: {EVIL}"),
        request("GET /", "Host: 127.0.0.1", host=EVIL),
        request("GET /", "Host: 127.0.0.1"),
    ],
    "no host": [request("GET /", host=None), b"GET / HTTP/1.0\r\n\r\n", b"GET /\r\n\r\n", request("GET /", host="")],
    "odd hosts": [
        *_hosts(f"127.0.0.1\r\n {EVIL}", f"127.0.0.1\x00{EVIL}", f"127.0.0.1 {EVIL}", f"{EVIL}\x0b127.0.0.1", "\xff"),
        request("GET /", "Host : 127.0.0.1", host=EVIL),
        request("GET /", f"X-Forwarded-Host: {EVIL}", host=None),
    ],
    "other methods": [request(f"{method} /", "Content-Length: 3") + b"a=b" for method in METHODS],
    "upgrades": [request("GET /run/x/live", *WEBSOCKET, host=EVIL, connection="Upgrade")],
    "any length": [
        *_gets("/" + "A" * LONG, "/?q=" + "A" * LONG),
        request("GET /", "X: " + "A" * LONG),
        request("GET /", "Cookie: " + "a=b; " * (LONG // 5)),
        request("GET /", *(f"X-{number}: {number}" for number in range(20_000))),
        b"A" * LONG,
    ],
    "no requests": [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 500,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x00" * 100_000,
    ],
}
HARMLESS = {  # these may have an answer, with nothing in it
    "absolute form": _gets(
        f"http://{EVIL}/", "http://127.0.0.1/static/../../../canary.txt", f"//{EVIL}/x", "file:///etc/passwd"
    ),
    "climbing": _gets(
        "/../../../../etc/passwd",
        "/static/../../../../../../../etc/passwd",
        "/static//etc/passwd",
        "/static/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "/static/..%252f..%252fetc/passwd",
        "/static/..\\..\\..\\etc\\passwd",
        "/./static/./../",
        "/static/%c0%ae%c0%ae/",
        "/;/../static/..;/",
        "/static",
        "/static/",
    ),
    "bytes that are no text": _gets("/\x00", "/\xff\xfe<pwned>", "/run/%00%ff?q=%ff%fe", "/a b c", "/run/\u00e9"),
    "split answers": [
        *_gets("/run/x%0d%0aSet-Cookie:%20pwned=1", "/?q=a\rSet-Cookie: pwned=1"),
        request("GET /", "X: a\nSet-Cookie: pwned=1"),
    ],
    "smuggled requests": [
        request("GET /", "Content-Length: 6", CHUNKED) + b"0\r\n\r\n" + SECOND,
        request("GET /", f"Content-Length: {len(SECOND)}") + SECOND,
        request("GET /", "Transfer-Encoding: \x0bchunked") + b"0\r\n\r\n" + SECOND,
        request("GET /", "Content-Length: -1"),
        request("GET /", "Content-Length: 1", "Content-Length: 2"),
        request("GET /", CHUNKED) + b"FFFFFFFFFFFFFFFFFF\r\n",
    ],
    "pipelined": [request("GET /static/style.css", connection="keep-alive") * 50 + SECOND],
    "one half": [
        b"GET / HTTP/9.9\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: 127",
        b"\r\n" * 50_000,
    ],
    "upgrades": [
        request("GET /", *WEBSOCKET, f"Origin: http://{EVIL}", connection="Upgrade")
    ],  # answered, not upgraded
    "h2c": [
        request(
            "GET /", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA", connection="Upgrade, HTTP2-Settings"
        )
    ],
}
