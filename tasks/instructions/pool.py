"""The rounds of MultiAlpaca for one language: prompts from the pool, answers into the pool (PolyLM section 4).

A round is a pure function of (pool, seed, answers): which examples stand in a prompt depends on the pool and the seed alone, and
candidates are judged in the order of their prompts, however many were asked at once. With the same journal the outcome is the same.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from polylm.tasks.instructions import prompts
from polylm.tasks.instructions.journal import Answer, Journal, request_key
from polylm.tasks.instructions.judge import Identify, KeptInstructions, Limits, judge, judge_similarity
from polylm.tasks.instructions.parse import Candidate, split_tasks
from polylm.tasks.instructions.prompts import Prompt, Task, build_prompt

Ask = Callable[[Prompt, int], Answer]
"""Ask a model: (prompt, seed of its sampling) -> answer; `ModelServer.ask` is one."""


@dataclass(frozen=True)
class Plan:
    """How much is asked for in one language; the defaults are the paper's.

    `max_requests` ends it early, and so does `max_completion_tokens`, by the server's own count: no request is sent once it is
    reached, so it is passed by at most the requests in flight.
    """

    rounds: int = prompts.ROUNDS
    first_round_prompts: int = prompts.FIRST_ROUND_PROMPTS
    prompts_per_round: int = prompts.PROMPTS_PER_ROUND
    tasks_asked: int = prompts.TASKS_ASKED
    example_seeds: int = prompts.EXAMPLE_SEEDS
    example_generated: int = prompts.EXAMPLE_GENERATED
    max_requests: int | None = None
    max_completion_tokens: int | None = None

    def prompts_in(self, round: int) -> int:
        """Prompts of a round, the first being 0."""
        return self.first_round_prompts if round == 0 else self.prompts_per_round

    @property
    def most_requests(self) -> int:
        """Requests of a language, if no budget ends it."""
        most = sum(map(self.prompts_in, range(self.rounds)))
        return most if self.max_requests is None else min(most, self.max_requests)


@dataclass(frozen=True)
class Request:
    """One prompt of a round, the seed of its sampling, and the key of its answer in the journal."""

    round: int
    number: int
    prompt: Prompt
    seed: int
    key: str


@dataclass(frozen=True)
class Provenance:
    """Where a task comes from: enough to ask for it again."""

    model: str
    round: int
    request: int
    prompt_sha256: str
    request_key: str
    example_ids: tuple[str, ...]


@dataclass(frozen=True)
class Generated:
    """A task that a model wrote. `rejected_because` is None if it was kept; `evidence` says what a gate found.

    `text` is the block as the model wrote it; a block that is not in the format has only the fields that were found.
    """

    task: Task
    text: str
    provenance: Provenance
    rejected_because: str | None
    evidence: str


@dataclass
class Outcome:
    """All that was generated in one language, and what it took.

    Attributes:
        generated: every block of every answer, in order of prompts and of places in the answer.
        asked: requests sent to the server in this run; replayed: answers taken from the journal.
        completion_tokens, prompt_tokens: as counted by the server, replayed answers included.
    """

    language: str
    generated: list[Generated] = field(default_factory=list)
    asked: int = 0
    replayed: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    @property
    def accepted(self) -> list[Generated]:
        """The tasks that joined the pool, in order."""
        return [one for one in self.generated if one.rejected_because is None]

    @property
    def rejected(self) -> list[Generated]:
        """The blocks that did not, each with its reason."""
        return [one for one in self.generated if one.rejected_because is not None]

    def reasons(self) -> dict[str, int]:
        """Rejected blocks by reason, the most frequent first."""
        return dict(Counter(one.rejected_because or "" for one in self.rejected).most_common())

    def summary(self) -> str:
        """One line for people: how many survived, and why the others did not."""
        total, kept = len(self.generated), len(self.accepted)
        share = f" ({kept / total:.0%})" if total else ""
        reasons = ", ".join(f"{reason} {count}" for reason, count in self.reasons().items())
        requests = self.asked + self.replayed
        return f"{self.language}: {kept} of {total} blocks kept{share} from {requests} answers; rejected: {reasons or 'none'}"


class Pool:
    """Seeds and kept tasks of one language; a task joins if no instruction in it is too similar."""

    def __init__(self, language: str, seeds: Sequence[Task]) -> None:
        self.language = language
        self.seeds = [task for task in seeds if task.language == language]
        if len({task.instruction for task in self.seeds}) < prompts.EXAMPLE_SEEDS + prompts.EXAMPLE_GENERATED:
            raise ValueError(
                f"language {language!r} has {len(self.seeds)} seed tasks, expected at least 3 different ones: add seeds"
            )
        self.generated: list[Task] = []
        self.kept = KeptInstructions(self.seeds)

    def examples(self, plan: Plan, *, draw: str) -> list[Task]:
        """Seeds and generated tasks for one prompt; seeds stand in for generated tasks that are not there yet."""
        generated = _draw(self.generated, plan.example_generated, draw)
        seeds = _draw(self.seeds, plan.example_seeds + plan.example_generated - len(generated), draw)
        return [*seeds, *generated]

    def add(self, task: Task) -> None:
        """Keep a generated task."""
        self.generated.append(task)
        self.kept.add(task)


def generate(
    language: str,
    seeds: Sequence[Task],
    *,
    ask: Ask,
    identify: Identify,
    journal: Journal,
    model: str,
    decoding: Mapping[str, object],
    seed: int,
    plan: Plan | None = None,
    limits: Limits | None = None,
    name: str = "",
    concurrency: int = 1,
    tell: Callable[[int, int], None] = lambda _done, _of: None,
) -> Outcome:
    """Run all rounds of one language.

    Args:
        language: code; `seeds` of other languages are left aside.
        ask: sends a prompt; its OSError ends the run, and the next run goes on from the journal.
        identify: language identifier, with labels in the codes used here.
        model, decoding: what answers, and how; with round, prompt and sampling seed the key of a request.
        seed: of the draws of examples and of the sampling of each request.
        name: the language's English name, where `LANGUAGE_NAMES` has none.
        concurrency: requests in flight at once; it does not change the outcome, except of a token budget.
        tell: is told after each answer how many there are, and how many there can be.
    """
    plan, limits = plan or Plan(), limits or Limits.of(language)
    pool, outcome = Pool(language, seeds), Outcome(language)
    for round in range(plan.rounds):
        requests = round_requests(pool, plan, round=round, seed=seed, model=model, decoding=decoding, name=name)
        if plan.max_requests is not None:
            requests = requests[: plan.max_requests - outcome.asked - outcome.replayed]
        if not requests:
            break
        answered = []
        for one in _answers(requests, ask, journal, plan, outcome, concurrency):
            answered.append(one)
            tell(outcome.asked + outcome.replayed, plan.most_requests)
        outcome.generated += judge_round(pool, answered, model=model, identify=identify, limits=limits)
        if len(answered) < len(requests):
            break
    return outcome


def round_requests(
    pool: Pool, plan: Plan, *, round: int, seed: int, model: str, decoding: Mapping[str, object], name: str = ""
) -> list[Request]:
    """The prompts of one round: a pure function of pool, plan and seed."""
    requests = []
    for number in range(plan.prompts_in(round)):
        draw = f"{seed} {pool.language} {round} {number}"
        prompt = build_prompt(pool.language, pool.examples(plan, draw=draw), tasks_asked=plan.tasks_asked, name=name)
        sampling = (
            int(_digest(draw)[:8], 16) >> 1
        )  # 31 bits: servers read the seed as a signed or unsigned 32-bit number
        key = request_key(round=round, prompt=prompt.text, model=model, params={**decoding, "seed": sampling})
        requests.append(Request(round, number, prompt, sampling, key))
    return requests


def judge_round(
    pool: Pool, answered: Sequence[tuple[Request, Answer]], *, model: str, identify: Identify, limits: Limits
) -> list[Generated]:
    """Split, judge and keep the answers of one round, in order; kept tasks join the pool at once."""
    first_peer = len(pool.kept)
    generated = []
    for request, answer in answered:
        provenance = Provenance(
            model, request.round, request.number, request.prompt.sha256, request.key, request.prompt.example_ids
        )
        for place, candidate in enumerate(split_tasks(answer.text, finish_reason=answer.finish_reason)):
            id = f"{pool.language}-{request.round}.{request.number}.{place}"
            generated.append(_judge_candidate(pool, candidate, id, provenance, identify, limits, first_peer))
    return generated


def _judge_candidate(
    pool: Pool,
    candidate: Candidate,
    id: str,
    provenance: Provenance,
    identify: Identify,
    limits: Limits,
    first_peer: int,
) -> Generated:
    task = Task(id, pool.language, candidate.instruction, candidate.input, candidate.output)
    if candidate.rejected_because:
        return Generated(task, candidate.text, provenance, candidate.rejected_because, "")
    verdict = judge(task, identify, limits)
    if verdict.rejected_because is None:
        verdict = judge_similarity(verdict.task, pool.kept, limits.max_similarity, first_peer=first_peer)
    if verdict.rejected_because is None:
        pool.add(verdict.task)
    return Generated(verdict.task, candidate.text, provenance, verdict.rejected_because, verdict.evidence)


def _answers(
    requests: Sequence[Request], ask: Ask, journal: Journal, plan: Plan, outcome: Outcome, concurrency: int
) -> Iterator[tuple[Request, Answer]]:
    """Answers in the order of the requests, from the journal or from the server; ends at the budget."""

    def fetch(request: Request) -> Answer:
        answer = ask(request.prompt, request.seed)
        journal.append(request.key, request.prompt.text, answer)
        return answer

    with ThreadPoolExecutor(max_workers=concurrency) as threads:
        for start in range(0, len(requests), concurrency):
            if plan.max_completion_tokens is not None and outcome.completion_tokens >= plan.max_completion_tokens:
                return
            batch = requests[start : start + concurrency]
            known = [journal.find(request.key) for request in batch]
            futures = [
                None if answer else threads.submit(fetch, request) for request, answer in zip(batch, known, strict=True)
            ]
            for request, answer, future in zip(batch, known, futures, strict=True):
                given = answer if future is None else future.result()
                assert given is not None
                outcome.replayed += future is None
                outcome.asked += future is not None
                outcome.prompt_tokens += given.prompt_tokens
                outcome.completion_tokens += given.completion_tokens
                yield request, given


def _draw(tasks: Sequence[Task], count: int, draw: str) -> list[Task]:
    """The `count` tasks whose digests with this draw are smallest: a sample that no library or platform changes."""
    return sorted(tasks, key=lambda task: _digest(f"{draw} {task.id}"))[:count]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
