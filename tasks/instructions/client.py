"""Ask any OpenAI-compatible server: a hosted one, vLLM, llama.cpp, or the local model of `local_server`."""

import ipaddress
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from polylm.tasks.instructions.journal import Answer
from polylm.tasks.instructions.prompts import Prompt

if TYPE_CHECKING:  # openai costs a second, which every command and flow run that looks for stages would pay
    import openai
    from openai.types import CompletionUsage

Api = Literal["chat", "completions"]


class ServerUnavailable(OSError):
    """The server did not answer, or refuses for now: worth another try later."""


class ModelServer:
    """One model behind one address.

    Args:
        base_url: address up to the version, such as "http://127.0.0.1:8080/v1".
        model: name that the server knows the model by.
        api: "chat" for instruct models; "completions" for base models, which then go on from the prompt's primer.
        max_tokens: longest answer, in tokens.
        temperature, top_p: decoding. The paper gives none; Alpaca used 1.0 and 1.0 for this prompt.
        timeout: seconds for one answer, sending and waiting.
        retries: further tries after a refused connection, a timeout, 408, 409, 429 or 5xx. The pause is what
            `Retry-After` asks for (at most 2 minutes), else 0.5 to 8 s, doubling.
        api_key: never stored or printed; by default `OPENAI_API_KEY`, and a dummy for servers that want none.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        api: Api = "chat",
        max_tokens: int = 3_072,
        temperature: float = 1.0,
        top_p: float = 1.0,
        timeout: float = 600.0,
        retries: int = 6,
        api_key: str | None = None,
    ) -> None:
        from openai import DefaultHttpxClient, OpenAI

        self.base_url = base_url
        self.model = model
        self.api = api
        self._decoding: dict[str, float] = {"max_tokens": max_tokens, "temperature": temperature, "top_p": top_p}
        self._client = OpenAI(
            base_url=base_url,
            api_key=api_key or os.environ.get("OPENAI_API_KEY") or "none",
            timeout=timeout,
            max_retries=retries,
            # A proxy of the environment cannot reach this machine's own loopback address.
            http_client=DefaultHttpxClient(trust_env=not _is_loopback(base_url)),
        )

    @property
    def params(self) -> Mapping[str, object]:
        """What shapes an answer besides prompt, model and seed; part of the request's identity."""
        return {"api": self.api, **self._decoding}

    def ask(self, prompt: Prompt, seed: int) -> Answer:
        """One answer.

        Raises:
            ServerUnavailable: no answer after all retries (an OSError).
            ValueError: the server refuses this request for good: wrong key, unknown model or address, prompt too long.
        """
        import openai

        try:
            return self._chat(prompt, seed) if self.api == "chat" else self._complete(prompt, seed)
        except openai.APIConnectionError as error:
            raise ServerUnavailable(self._no_answer(_root_cause(error))) from error
        except openai.APIStatusError as error:
            raise self._translate(error) from error
        except openai.APIResponseValidationError as error:
            raise ServerUnavailable(self._no_answer("the reply is not JSON")) from error

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _chat(self, prompt: Prompt, seed: int) -> Answer:
        from openai.types.chat import ChatCompletion

        reply = self._client.chat.completions.create(
            model=self.model,
            messages=[{"role": "user", "content": prompt.text}],
            max_tokens=int(self._decoding["max_tokens"]),
            temperature=self._decoding["temperature"],
            top_p=self._decoding["top_p"],
            seed=seed,
        )
        if not isinstance(reply, ChatCompletion) or not reply.choices:
            raise ServerUnavailable(self._no_answer("the reply has no choices"))
        choice = reply.choices[0]
        return _answer(choice.message.content or "", choice.finish_reason, reply.usage)

    def _complete(self, prompt: Prompt, seed: int) -> Answer:
        from openai.types import Completion

        reply = self._client.completions.create(
            model=self.model,
            prompt=f"{prompt.text}\n{prompt.primer}",
            stop=prompt.stop or None,
            max_tokens=int(self._decoding["max_tokens"]),
            temperature=self._decoding["temperature"],
            top_p=self._decoding["top_p"],
            seed=seed,
        )
        if not isinstance(reply, Completion) or not reply.choices:
            raise ServerUnavailable(self._no_answer("the reply has no choices"))
        choice = reply.choices[0]
        return _answer(prompt.primer + choice.text, choice.finish_reason, reply.usage)

    def _no_answer(self, cause: str) -> str:
        return (
            f"no usable answer from the model server at {self.base_url}: {cause}. Start it or name another base URL; "
            "answers given so far are in the journal and are not asked for again"
        )

    def _translate(self, error: "openai.APIStatusError") -> Exception:
        """A passing trouble is an OSError, a refusal for good a ValueError; both in one line."""
        said = " ".join(str(error.message).split())[:300]
        status = error.status_code
        spent = error.code == "insufficient_quota"
        if status >= 500 or (status in (408, 409, 429) and not spent):
            return ServerUnavailable(self._no_answer(f"status {status} after all retries ({said})"))
        way_out = "the account has no quota left" if spent else _WAY_OUT.get(status, "change the request")
        return ValueError(f"{self.base_url} refused model {self.model!r} with status {status} ({said}): {way_out}")


_WAY_OUT = {
    401: "set OPENAI_API_KEY to a valid key",
    403: "use a key that may use this model",
    404: "check the model's name, and that the base URL ends with the version, as in /v1",
}


def _answer(text: str, finish_reason: str | None, usage: "CompletionUsage | None") -> Answer:
    counted = (usage.prompt_tokens, usage.completion_tokens) if usage else (0, 0)
    return Answer(text, finish_reason or "unknown", *counted)


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _root_cause(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
