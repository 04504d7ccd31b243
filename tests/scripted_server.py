"""A deterministic stand-in for an OpenAI-compatible server, with the faults of real ones.

    with ScriptedServer(answers={sha256_of_prompt: "..."}, faults={0: TooMany(retry_after=0.2)}) as server:
        ModelServer(server.base_url, server.model)

A prompt that `answers` does not name is answered by `scripted_tasks`: numbered tasks whose words, languages and defects follow from the
prompt's hash, so that the same prompt always gets the same answer, in any process.
"""

import hashlib
import json
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

VERBS = [
    "Describe",
    "Compare",
    "Explain",
    "Summarise",
    "List",
    "Invent",
    "Rewrite",
    "Translate",
    "Correct",
    "Classify",
    "Discuss",
    "Estimate",
]
THINGS = [
    "a lighthouse",
    "an old bicycle",
    "the tide",
    "a village bakery",
    "the number seven",
    "a broken clock",
    "winter birds",
    "a long letter",
    "the smell of rain",
    "a chess opening",
    "an orchard",
    "the night train",
    "a paper map",
    "two rivers",
    "a quiet library",
    "the harbour",
]
PURPOSES = [
    "for a curious child",
    "in three short steps",
    "as a weather report",
    "without using adjectives",
    "for a museum leaflet",
    "to someone who disagrees",
    "like a sports commentator",
    "with one surprising fact",
    "for a letter to a friend",
    "as a riddle",
]
DEFECTS = ("good", "good", "good", "good", "good", "url", "malformed", "wrong language", "duplicate", "none")


@dataclass(frozen=True)
class TooMany:
    """429, with `Retry-After` in seconds if given, and the error code of an account without money if `spent`."""

    retry_after: float | None = None
    spent: bool = False


@dataclass(frozen=True)
class Status:
    """Any other status, such as 500, 401 or 404."""

    code: int


@dataclass(frozen=True)
class Slow:
    """A right answer, `seconds` late."""

    seconds: float


@dataclass(frozen=True)
class Reset:
    """The connection is dropped without an answer."""


@dataclass(frozen=True)
class NotJson:
    """Status 200 and a page for people, as gateways send it."""


@dataclass(frozen=True)
class Cut:
    """An answer cut in the middle of its last task, with finish_reason "length"."""


Fault = TooMany | Status | Slow | Reset | NotJson | Cut


class ScriptedServer:
    """Serves /v1/chat/completions and /v1/completions on 127.0.0.1 for as long as a `with` block lasts.

    Args:
        answers: answer by sha256 of the prompt, hexadecimal.
        faults: what goes wrong, by the request's number from 0, retries counted; "always" for all requests.
        model: the only model known; another name is answered by 404.

    Attributes:
        prompts, arrivals: what was asked, and when (monotonic seconds), in order of arrival.
        bodies: the requests' JSON.
    """

    def __init__(
        self,
        *,
        answers: Mapping[str, str] | None = None,
        faults: Mapping[int | str, Fault] | None = None,
        model: str = "scripted",
    ) -> None:
        self.answers, self.faults, self.model = dict(answers or {}), dict(faults or {}), model
        self.prompts: list[str] = []
        self.arrivals: list[float] = []
        self.bodies: list[dict[str, Any]] = []
        self._lock = threading.Lock()
        self._http = _Http(("127.0.0.1", 0), _Handler)
        self._http.script = self
        self.base_url = f"http://127.0.0.1:{self._http.server_port}/v1"

    def __enter__(self) -> "ScriptedServer":
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    def note(self, prompt: str, body: dict[str, Any]) -> Fault | None:
        """Remember a request; what goes wrong with it."""
        with self._lock:
            number = len(self.prompts)
            self.prompts.append(prompt)
            self.arrivals.append(time.monotonic())
            self.bodies.append(body)
        return self.faults.get(number, self.faults.get("always"))

    def answer(self, prompt: str) -> str:
        """The scripted answer to a prompt."""
        return self.answers.get(hashlib.sha256(prompt.encode()).hexdigest()) or scripted_tasks(prompt)


def scripted_tasks(prompt: str, *, count: int = 5, first: int = 4) -> str:
    """`count` English tasks in the asked format, about half of them good, chosen by the prompt's hash."""
    return "\n".join(_block(prompt, number) for number in range(first, first + count))


def _block(prompt: str, number: int) -> str:
    digest = hashlib.sha256(f"{prompt} {number}".encode()).digest()
    verb, thing, purpose = (
        words[byte % len(words)] for words, byte in zip((VERBS, THINGS, PURPOSES), digest, strict=False)
    )
    instruction, output = (
        f"{verb} {thing} {purpose}.",
        f"Here is what one can say of {thing} {purpose}: it takes patience.",
    )
    match DEFECTS[digest[3] % len(DEFECTS)]:
        case "url":
            output += " See https://example.org for more."
        case "malformed":
            return f"###\n{number}. Instruction: {instruction}\n{number}. Output:\n{output}"
        case "wrong language":
            output = "Das lässt sich in wenigen Worten sagen: Es braucht vor allem viel Geduld und ein wenig Glück."
        case "duplicate":
            instruction = "Name the three things that every traveller should carry in winter."
        case "none":
            output = "None"
    return f"###\n{number}. Instruction: {instruction}\n{number}. Input:\n<noinput>\n{number}. Output:\n{output}"


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    script: ScriptedServer

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of clients that went away, as those that lose patience with a slow answer do."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: _Http
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the tests look at `prompts`."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        chat = "messages" in body
        prompt = body["messages"][-1]["content"] if chat else body["prompt"]
        fault = self.server.script.note(prompt, body)
        if isinstance(fault, Slow):
            time.sleep(fault.seconds)
        if isinstance(fault, Reset):
            self.close_connection = True
            self.connection.close()
        elif isinstance(fault, NotJson):
            self._send(200, b"<html>Welcome to the gateway</html>", "text/html")
        elif isinstance(fault, (TooMany, Status)):
            self._refuse(fault)
        elif body["model"] != self.server.script.model:
            self._refuse(Status(404))
        else:
            self._answer(prompt, chat=chat, cut=isinstance(fault, Cut))

    def _answer(self, prompt: str, *, chat: bool, cut: bool) -> None:
        text = self.server.script.answer(prompt)
        reason = "stop"
        if cut:
            text, reason = text[: int(len(text) * 0.9)], "length"
        content = {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
        usage = {"prompt_tokens": len(prompt.split()), "completion_tokens": len(text.split())}
        reply = {
            "id": "scripted",
            "object": "chat.completion" if chat else "text_completion",
            "created": 0,
            "model": self.server.script.model,
            "choices": [{"index": 0, "finish_reason": reason, **content}],
            "usage": {**usage, "total_tokens": sum(usage.values())},
        }
        self._send(200, json.dumps(reply).encode(), "application/json")

    def _refuse(self, fault: TooMany | Status) -> None:
        code = fault.code if isinstance(fault, Status) else 429
        spent = isinstance(fault, TooMany) and fault.spent
        error = {"message": f"scripted refusal {code}", "code": "insufficient_quota" if spent else None}
        wait = fault.retry_after if isinstance(fault, TooMany) else None
        headers = {} if wait is None else {"Retry-After": f"{wait:g}"}
        self._send(code, json.dumps({"error": error}).encode(), "application/json", headers)

    def _send(self, code: int, content: bytes, kind: str, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)
