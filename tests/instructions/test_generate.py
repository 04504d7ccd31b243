"""The stage that generates instructions: every block has its verdict, every answer is paid for once."""

import json
from collections import Counter

import pytest

from polylm.deployments.settings import cache_folder
from polylm.tasks.instructions.generate import INSTRUCTION, GenerateParams, generate_instructions
from polylm.tasks.instructions.judge import REASONS
from polylm.tasks.instructions.parse import split_tasks
from polylm.tasks.stage import Workspace

IDENTIFIER = cache_folder() / "lid.176.ftz"
REQUESTS = 8
pytestmark = pytest.mark.skipif(not IDENTIFIER.exists(), reason=f"{IDENTIFIER} is not there: `make install` fetches it")


@pytest.fixture
def generate(tmp_path, scripted):
    """Run the stage against a scripted server; its table and the prompts that reached the server."""

    def generating(job="en", *, faults=None, place="shared", **params):
        (tmp_path / place).mkdir(exist_ok=True)
        work = Workspace(tmp_path / "out", tmp_path / "scratch", tmp_path / place)
        work.scratch.mkdir(exist_ok=True)
        with scripted.ScriptedServer(faults=faults) as server:
            fields = {"server": server.base_url, "model": "scripted", "max_requests": REQUESTS, "languages": (job,)}
            given = GenerateParams(**(fields | params))
            # No local model is opened where a server is named.
            table = generate_instructions(given, IDENTIFIER, tmp_path / "no.gguf", work=work, job=job)
            return table, server

    return generating


def test_every_block_is_accepted_or_has_its_reason(generate):
    table, server = generate()
    assert table.schema == INSTRUCTION
    assert len(server.prompts) == REQUESTS
    assert table.num_rows == 5 * REQUESTS
    reasons = Counter(table["rejected_because"].to_pylist())
    assert reasons.pop(None) > 5
    assert {"web_link", "empty_output"} <= set(reasons) <= {*REASONS, "missing_input"}
    for row in table.to_pylist():
        assert row["text"].strip()
        assert row["model"] == "scripted"
        assert row["language"] == "en"
        assert len(row["prompt_sha256"]) == 64
        assert len(row["example_ids"]) == 3
        if row["rejected_because"] is None:
            assert row["text"].count(row["instruction"]) == 1
            assert row["output"]
    assert len(set(table["id"].to_pylist())) == table.num_rows


def test_the_blocks_are_those_of_the_answers_in_order(generate):
    table, server = generate()
    blocks = [block.text for prompt in server.prompts for block in split_tasks(server.answer(prompt))]
    assert table["text"].to_pylist() == blocks


def test_english_answers_are_no_german_tasks(generate):
    table, _ = generate("de")
    reasons = Counter(table["rejected_because"].to_pylist())
    assert reasons[None] == 0
    assert reasons["instruction_in_other_language"] >= table.num_rows / 2


def test_a_second_run_asks_nothing_and_makes_the_same_table_at_another_address(generate):
    first, _ = generate()
    again, server = generate()
    assert server.prompts == []
    assert again.equals(first)


def test_the_journal_is_written_before_anything_is_judged(generate, tmp_path):
    table, server = generate()
    lines = [json.loads(line) for line in (tmp_path / "shared" / "en.jsonl").read_text().splitlines()]
    assert [line["prompt"] for line in lines] == server.prompts
    assert table.num_rows == sum(len(split_tasks(line["answer"]["text"])) for line in lines)


def test_a_server_that_goes_away_is_an_oserror_and_only_the_rest_is_asked_later(generate, scripted):
    whole, _ = generate(place="undisturbed")
    away = {"always": scripted.TooMany(retry_after=0.01)} | dict.fromkeys(range(3), scripted.Slow(0))
    with pytest.raises(
        OSError,
        match=r"^no usable answer from the model server at http://127\.0\.0\.1:\d+/v1: status 429 after all retries "
        r".*Start it or name another base URL; answers given so far are in the journal and are not asked for again$",
    ):
        generate(faults=away)
    table, server = generate()
    assert len(server.prompts) == REQUESTS - 3
    assert table.equals(whole)


def test_a_model_that_the_server_does_not_know_is_the_users_to_mend(generate):
    with pytest.raises(ValueError, match=r"refused model 'other' with status 404 .*check the model's name"):
        generate(model="other")


def test_decoding_and_seed_reach_the_server_and_shape_the_prompts(generate):
    _, first = generate(place="a", max_requests=1, temperature=0.5, max_tokens=77)
    _, other = generate(place="b", max_requests=1, seed=1)
    body = first.bodies[0]
    assert (body["temperature"], body["max_tokens"], body["model"]) == (0.5, 77, "scripted")
    assert body["seed"] != other.bodies[0]["seed"]
    assert first.prompts != other.prompts


def test_requests_in_flight_do_not_change_the_table(generate):
    assert generate(place="one")[0].equals(generate(place="four", concurrency=4)[0])


def test_the_fixed_number_of_requests_is_a_language(generate):
    assert [len(generate(place=str(most), max_requests=most)[1].prompts) for most in (1, 3)] == [1, 3]


def test_jobs_are_languages():
    assert GenerateParams(languages=("th", "de")).jobs() == ("th", "de")
    with pytest.raises(ValueError, match="max_requests"):
        GenerateParams(max_requests=0)
