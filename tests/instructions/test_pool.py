"""Rounds are a pure function of pool, seed and answers, and every block of every answer is accounted for."""

import pytest

from polylm.tasks.instructions.client import ModelServer
from polylm.tasks.instructions.journal import Answer, Journal
from polylm.tasks.instructions.judge import REASONS, Limits
from polylm.tasks.instructions.pool import Plan, Pool, generate, judge_round, round_requests
from polylm.tasks.instructions.prompts import build_prompt

PLAN = Plan(rounds=3, first_round_prompts=3, prompts_per_round=5)
ASKING = {"model": "scripted", "decoding": {"max_tokens": 100}}


@pytest.fixture
def run(tmp_path, seeds, identify, scripted):
    """Generate in English; the outcome and the prompts that reached the server."""

    def running(journal="answers.jsonl", *, ask=None, faults=None, plan=PLAN, seed=1, **options):
        with scripted.ScriptedServer(faults=faults) as server, Journal(tmp_path / journal) as paper:
            client = ModelServer(server.base_url, "scripted", retries=0)
            outcome = generate(
                "en",
                seeds,
                ask=ask or client.ask,
                identify=identify,
                journal=paper,
                seed=seed,
                plan=plan,
                **ASKING,
                **options,
            )
            return outcome, server.prompts

    return running


def test_the_default_plan_is_the_papers():
    plan = Plan()
    assert (plan.rounds, plan.prompts_in(0), plan.prompts_in(1), plan.tasks_asked) == (10, 10, 100, 17)
    assert sum(plan.prompts_in(round) for round in range(plan.rounds)) * plan.tasks_asked == 15_470


def test_every_block_is_kept_or_has_a_reason(run):
    outcome, asked = run()
    assert len(asked) == outcome.asked == 13
    assert len(outcome.generated) == 13 * 5 == len(outcome.accepted) + sum(outcome.reasons().values())
    assert outcome.accepted
    assert {"web_link", "missing_input", "output_in_other_language", "empty_output"} <= set(outcome.reasons())
    assert set(outcome.reasons()) <= {*REASONS, "missing_input"}
    assert {"similar_to_kept", "similar_to_peer"} & set(outcome.reasons())
    assert outcome.summary().startswith(f"en: {len(outcome.accepted)} of 65 blocks kept (")


def test_the_last_task_of_a_cut_answer_is_dropped_and_counted(run, scripted):
    outcome, _ = run(faults={0: scripted.Cut()})
    assert outcome.reasons()["cut_by_length"] == 1
    assert outcome.generated[4].rejected_because == "cut_by_length"


def test_the_same_seed_gives_the_same_outcome_and_another_seed_asks_otherwise(run):
    first, asked = run("a.jsonl")
    again, asked_again = run("b.jsonl")
    assert (first.generated, asked) == (again.generated, asked_again)
    assert run("c.jsonl", seed=2)[1] != asked


def test_a_second_run_asks_nothing(run):
    first, _ = run()

    def never(prompt, seed):
        raise AssertionError("asked again")

    again, asked = run(ask=never)
    assert (again.generated, again.asked, again.replayed, asked) == (first.generated, 0, 13, [])
    assert again.completion_tokens == first.completion_tokens > 0


def test_many_requests_at_once_do_not_change_the_outcome(run):
    assert run("a.jsonl")[0].generated == run("b.jsonl", concurrency=4)[0].generated


def test_a_server_that_fails_in_the_middle_loses_no_answer(run, scripted):
    whole, _ = run("whole.jsonl")
    with pytest.raises(OSError, match="status 500 after all retries"):
        run(faults={7: scripted.Status(500)})
    outcome, asked = run()
    assert (outcome.replayed, outcome.asked, len(asked)) == (7, 6, 6)
    assert outcome.generated == whole.generated


@pytest.mark.parametrize("most", [0, 2, 3, 7, 13, 99])
def test_asks_no_more_than_the_fixed_number_of_requests(run, most):
    assert len(run(plan=Plan(rounds=3, first_round_prompts=3, prompts_per_round=5, max_requests=most))[1]) == min(
        most, 13
    )


def test_ends_when_the_tokens_are_spent(run):
    outcome, asked = run(plan=Plan(rounds=3, first_round_prompts=3, prompts_per_round=5, max_completion_tokens=300))
    assert outcome.completion_tokens >= 300 > outcome.completion_tokens * (len(asked) - 1) / len(asked) * 0.9
    assert len(asked) < 13


def test_shows_seeds_alone_at_first_and_a_generated_task_as_the_last_example_later(run):
    outcome, _ = run()
    ids = [one.provenance.example_ids for one in outcome.generated]
    assert all(id.startswith("en-") and "." not in id for id in ids[0])
    last = ids[-1]
    assert [("." in id) for id in last] == [False, False, True]
    assert last[2] in {one.task.id for one in outcome.accepted}


def test_provenance_is_enough_to_ask_again(run, seeds):
    outcome, asked = run()
    one = outcome.accepted[0]
    known = {task.id: task for task in seeds} | {each.task.id: each.task for each in outcome.accepted}
    prompt = build_prompt("en", [known[id] for id in one.provenance.example_ids])
    assert prompt.sha256 == one.provenance.prompt_sha256
    assert prompt.text in asked
    assert (one.provenance.model, one.provenance.round) == ("scripted", 0)
    assert one.task.id.startswith(f"en-0.{one.provenance.request}.")


def test_draws_do_not_depend_on_the_order_of_the_seeds(seeds):
    first = round_requests(Pool("en", seeds), PLAN, round=0, seed=1, **ASKING)
    assert first == round_requests(Pool("en", seeds[::-1]), PLAN, round=0, seed=1, **ASKING)
    assert len({request.key for request in first}) == len(first)


def test_kept_tasks_of_a_round_are_seen_by_their_peers_and_by_later_rounds(seeds, identify):
    pool = Pool("en", seeds)
    block = "1. Instruction: Name {} rivers that flow into the sea.\n1. Input:\n<noinput>\n1. Output:\nThe Oder."
    answer = Answer("\n".join(block.format(word) for word in ("two", "three")), "stop")
    request = round_requests(pool, PLAN, round=0, seed=1, **ASKING)[0]
    judged = [judge_round(pool, [(request, answer)], model="m", identify=identify, limits=Limits()) for _ in range(2)]
    assert [one.rejected_because for one in judged[0]] == [None, "similar_to_peer"]
    assert [one.rejected_because for one in judged[1]] == ["similar_to_kept"] * 2
    assert judged[0][1].evidence == "0.8750 to en-0.0.0"


def test_a_language_without_enough_seeds_is_refused(seeds):
    with pytest.raises(
        ValueError, match="language 'sw' has 0 seed tasks, expected at least 3 different ones: add seeds"
    ):
        Pool("sw", seeds)
