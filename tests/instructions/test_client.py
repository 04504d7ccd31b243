"""Any OpenAI-compatible server is asked, politely and with patience, and troubles are told in one line."""

import pytest

from polylm.tasks.instructions.client import ModelServer, ServerUnavailable
from polylm.tasks.instructions.prompts import Prompt

PROMPT = Prompt("Write tasks in English.", "###\n4. Instruction:", "\n21. Instruction:", "en", ("en-1",))


@pytest.fixture
def ask(scripted):
    """Ask one question of a scripted server with these faults; its server and the answer, or the error."""

    def asking(faults=None, *, retries=2, model="scripted", timeout=60.0, **options):
        with scripted.ScriptedServer(faults=faults, answers={PROMPT.sha256: "Hello."}) as server:
            client = ModelServer(
                server.base_url, model, retries=retries, timeout=timeout, api_key="secret-key", **options
            )
            try:
                return server, client.ask(PROMPT, 7)
            except (OSError, ValueError) as error:
                return server, error
            finally:
                client.close()

    return asking


def test_chat_sends_the_prompt_and_the_decoding_and_returns_the_answer(ask):
    server, answer = ask(max_tokens=99, temperature=0.5, top_p=0.9)
    assert (answer.text, answer.finish_reason, answer.prompt_tokens, answer.completion_tokens) == (
        "Hello.",
        "stop",
        4,
        1,
    )
    sent = server.bodies[0]
    assert sent["messages"] == [{"role": "user", "content": PROMPT.text}]
    assert [sent[name] for name in ("model", "max_tokens", "temperature", "top_p", "seed")] == [
        "scripted",
        99,
        0.5,
        0.9,
        7,
    ]


def test_completions_go_on_from_the_primer(ask):
    server, answer = ask(api="completions")
    assert server.prompts == [f"{PROMPT.text}\n{PROMPT.primer}"]
    assert server.bodies[0]["stop"] == "\n21. Instruction:"
    assert answer.text.startswith(PROMPT.primer)


def test_waits_as_long_as_retry_after_says(ask, scripted):
    server, answer = ask({0: scripted.TooMany(retry_after=0.9)})
    assert answer.text == "Hello."
    assert server.arrivals[1] - server.arrivals[0] >= 0.9  # without it the first pause is 0.5 s


def test_a_server_that_recovers_is_asked_again(ask, scripted):
    server, answer = ask({0: scripted.Status(500), 1: scripted.Reset()})
    assert (answer.text, len(server.prompts)) == ("Hello.", 3)


def test_an_answer_cut_by_length_says_so(ask, scripted):
    assert ask({0: scripted.Cut()})[1].finish_reason == "length"


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (lambda s: s.Status(503), "status 503 after all retries"),
        (lambda s: s.TooMany(), "status 429 after all retries"),
        (lambda s: s.Reset(), "no usable answer from the model server at http://127.0.0.1:"),
        (lambda s: s.NotJson(), "the reply"),
        (lambda s: s.Slow(3.0), "no usable answer .* [Tt]ime"),
    ],
)
def test_passing_troubles_end_in_an_oserror_that_names_the_server_and_the_way_out(ask, scripted, fault, said):
    _, error = ask(
        {"always": fault(scripted)}, retries=0, timeout=1.0 if fault(scripted) == scripted.Slow(3.0) else 60.0
    )
    assert isinstance(error, ServerUnavailable)
    assert isinstance(error, OSError)
    with pytest.raises(OSError, match=said):
        raise error
    assert "Start it or name another base URL; answers given so far are in the journal" in str(error)
    assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (401, "set OPENAI_API_KEY to a valid key"),
        (403, "use a key that may use"),
        (404, "check the model's name"),
        (400, "change the request"),
    ],
)
def test_refusals_for_good_are_value_errors_asked_once(ask, scripted, code, said):
    server, error = ask({"always": scripted.Status(code)})
    assert isinstance(error, ValueError)
    assert f"refused model 'scripted' with status {code} " in str(error)
    assert said in str(error)
    assert len(server.prompts) == 1
    assert "secret-key" not in str(error)


def test_an_unknown_model_is_the_users_to_mend(ask):
    _, error = ask(model="unheard-of")
    assert isinstance(error, ValueError)
    assert "refused model 'unheard-of' with status 404" in str(error)


def test_an_account_without_money_is_a_value_error(ask, scripted):
    _, error = ask({"always": scripted.TooMany(spent=True)}, retries=0)
    assert isinstance(error, ValueError)
    assert "no quota left" in str(error)


def test_nobody_at_the_address_is_an_oserror_that_names_it(scripted):
    with scripted.ScriptedServer() as gone:
        pass
    with pytest.raises(ServerUnavailable, match=f"{gone.base_url}: .*refused.*Start it or name another base URL"):
        ModelServer(gone.base_url, "scripted", retries=0).ask(PROMPT, 1)


def test_a_proxy_of_the_environment_is_not_asked_for_this_machine(scripted, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with scripted.ScriptedServer() as server:
        assert ModelServer(server.base_url, "scripted", retries=0).ask(PROMPT, 1).text


def test_the_identity_of_a_request_has_the_decoding_but_no_address_and_no_key(scripted):
    first = ModelServer("http://127.0.0.1:1/v1", "m", api_key="a", max_tokens=9)
    second = ModelServer("http://127.0.0.1:2/v1", "m", api_key="b", max_tokens=9)
    assert first.params == second.params == {"api": "chat", "max_tokens": 9, "temperature": 1.0, "top_p": 1.0}
