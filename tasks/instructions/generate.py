"""MultiAlpaca's self-instruct as a stage: a language a job, accepted and rejected tasks in one table (PolyLM section 4)."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import pyarrow as pa
from pydantic import field_validator

from polylm.tasks.corpus.language import load_model, two_likeliest
from polylm.tasks.instructions.client import ModelServer
from polylm.tasks.instructions.journal import Journal
from polylm.tasks.instructions.local_server import LocalServer
from polylm.tasks.instructions.pool import Generated, Plan, generate
from polylm.tasks.instructions.prompts import read_seeds
from polylm.tasks.stage import Field, Params, Workspace, files

LOCAL = "local"
INSTRUCTION = pa.schema(
    [
        ("id", pa.string()),
        ("language", pa.string()),
        ("instruction", pa.string()),
        ("input", pa.string()),
        ("output", pa.string()),
        ("rejected_because", pa.string()),  # null: accepted
        ("evidence", pa.string()),
        ("text", pa.string()),  # the block as the model wrote it
        ("model", pa.string()),
        ("round", pa.int32()),
        ("prompt_sha256", pa.string()),
        ("example_ids", pa.list_(pa.string())),
    ]
)


class GenerateParams(Params):
    languages: tuple[str, ...] = Field(
        ("ar", "de", "es", "fr", "id", "ja", "ko", "pt", "ru", "th", "vi"),
        description="Languages.",
        source="PolyLM section 4",
    )
    server: str = Field(
        LOCAL, description="`local`, or the address of an OpenAI-compatible server, http://HOST:PORT/v1."
    )
    model: str = Field("", description="The model's name at that server.")
    api: Literal["chat", "completions"] = Field("chat", description="How it is asked.")
    rounds: int = Field(10, ge=1, description="Rounds a language.", source="PolyLM section 4")
    max_requests: int | None = Field(None, description="Ends a language early.", ge=1)
    tasks_asked: int = Field(17, ge=1, description="Tasks that a prompt asks for.", source="PolyLM section 4")
    max_tokens: int = Field(3_072, ge=16, description="Longest answer.", unit="tokens", source="Alpaca")
    temperature: float = Field(1.0, ge=0, description="Of the sampling.", source="Alpaca; the paper gives none")
    concurrency: int = Field(1, ge=1, description="Requests in flight.")
    seed: int = Field(0, ge=0, description="Of the draws of examples and of the sampling.")

    def jobs(self) -> Sequence[str]:
        return self.languages

    @field_validator("server")
    @classmethod
    def _is_an_address(cls, server: str) -> str:
        """Told before the trainings that come first."""
        address = urlsplit(server)
        if server != LOCAL and not (address.scheme in ("http", "https") and address.hostname):
            raise ValueError(f"found {server!r}; expected `local`, or an address such as http://HOST:PORT/v1")
        return server


@files(writes=INSTRUCTION, each="language", reproducible=False, version=1, libraries=["fasttext-modern"])
def generate_instructions(
    params: GenerateParams, identifier: Path, instruct_model: Path, work: Workspace, job: str
) -> pa.Table:
    """Generate tasks in a language by rounds of prompts, and judge every one; a rejected task keeps its reason.

    Every answer is journalled before it is parsed, so a run that goes on asks nothing again.
    """
    plan = Plan(rounds=params.rounds, max_requests=params.max_requests, tasks_asked=params.tasks_asked)
    with _server(params, instruct_model) as server, Journal(work.shared / f"{job}.jsonl") as journal:
        outcome = generate(
            job,
            read_seeds(),
            ask=server.ask,
            identify=_identify(identifier),
            journal=journal,
            model=server.model,
            decoding=server.params,
            seed=params.seed,
            plan=plan,
            concurrency=params.concurrency,
            tell=lambda done, of: work.tell(done, of, "requests"),
        )
    return pa.Table.from_pylist([_row(one) for one in outcome.generated], INSTRUCTION)


@contextlib.contextmanager
def _server(params: GenerateParams, instruct_model: Path) -> Iterator[ModelServer]:
    """The server that answers: the one named, or llama.cpp with the adopted model on 127.0.0.1 for as long as this takes."""
    decoding: dict[str, Any] = {"api": params.api, "max_tokens": params.max_tokens, "temperature": params.temperature}
    with contextlib.ExitStack() as stack:
        base_url, model = params.server, params.model
        if base_url == LOCAL:
            local = stack.enter_context(LocalServer(instruct_model, threads=1))
            base_url, model = local.base_url, local.model
        server = ModelServer(base_url, model, **decoding)
        stack.callback(server.close)
        yield server


def _identify(model: Path) -> Any:
    predict = load_model(str(model)).f.predict

    def identify(text: str) -> tuple[str, float]:
        label, score, _, _ = two_likeliest(predict, text, 1_000)
        return label or "", score or 0.0

    return identify


def _row(one: Generated) -> dict[str, Any]:
    task = one.task
    return {
        "id": task.id,
        "language": task.language,
        "instruction": task.instruction,
        "input": task.input,
        "output": task.output,
        "rejected_because": one.rejected_because,
        "evidence": one.evidence,
        "text": one.text,
        "model": one.provenance.model,
        "round": one.provenance.round,
        "prompt_sha256": one.provenance.prompt_sha256,
        "example_ids": list(one.provenance.example_ids),
    }
