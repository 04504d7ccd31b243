"""Instructions as packed rows: the prompt gives no loss, the answer and its end do."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tokenizers import Tokenizer

from polylm.tasks.instructions.prompts import Task, read_seeds
from polylm.tasks.stage import Field, Params, StageError, files
from polylm.tasks.store import read_columns
from polylm.tasks.tokens.pack import PACKED, Documents, pack_documents
from polylm.tasks.tokens.tokenizer import load_tokenizer, separator_id
from polylm.tasks.training.chat import ASSISTANT, USER, user_content

ASKED = ["id", "language", "instruction", "input", "output"]


class PackInstructionsParams(Params):
    context: int = Field(2_048, ge=8, description="Inputs of the model.", unit="tokens", source="PolyLM table 3")
    seeds: bool = Field(True, description="Seed tasks are learned from too.", source="PolyLM section 4")
    seed: int = Field(0, ge=0, description="Of the order of rows.")

    def jobs(self) -> Sequence[str]:
        return ("instructions",)


@files(writes=PACKED, each="task", version=2, libraries=["tokenizers"])
def pack_instructions(params: PackInstructionsParams, generated: Mapping[str, Path], tokenizer: Path) -> pa.Table:
    """Pack seed tasks and accepted tasks in the chat form; `loss_starts` is where each answer begins.

    A segment is END, the prompt, the answer and an END of its own, which is learned: the one that begins a segment lies
    before its answer and gives no loss. A task that does not fit a row whole is left out, since half an answer teaches
    to stop in the middle.
    """
    tables = [read_columns(path, [*ASKED, "rejected_because"]) for path in generated.values()]
    accepted = [
        row for table in tables for row in table.filter(pc.is_null(table["rejected_because"])).select(ASKED).to_pylist()
    ]
    tasks = [*(read_seeds() if params.seeds else []), *(Task(**row) for row in accepted)]
    model, end = load_tokenizer(tokenizer), separator_id(tokenizer)
    encoded = [(task, tokens) for task in tasks if len(tokens := [*encode_task(task, model), end]) < params.context]
    packed = pack_documents(_documents(encoded), context=params.context, separator=end, seed=params.seed)
    return _from_answers(packed, len(_ids(model, "\n")), _marker(model, ASSISTANT))


def encode_task(task: Task, tokenizer: Tokenizer) -> list[int]:
    """The ids of `chat.render(...)` and the answer, cut where the answer begins, so that no token spans the border."""
    user = [_marker(tokenizer, USER), *_ids(tokenizer, f"\n{user_content(task.instruction, task.input)}\n")]
    return [*user, _marker(tokenizer, ASSISTANT), *_ids(tokenizer, "\n"), *_ids(tokenizer, task.output)]


def _ids(tokenizer: Tokenizer, text: str) -> list[int]:
    return list(tokenizer.encode(text, add_special_tokens=False).ids)


def _marker(tokenizer: Tokenizer, token: str) -> int:
    number = tokenizer.token_to_id(token)
    if number is None:
        raise StageError(f"the tokenizer has no entry {token}, which marks a speaker; train it with this project")
    return int(number)


def _documents(encoded: Sequence[tuple[Task, list[int]]]) -> Documents:
    lengths = np.array([len(tokens) for _, tokens in encoded], np.int64)
    languages = pa.array([task.language for task, _ in encoded], pa.string())
    return Documents(
        values=np.array([token for _, tokens in encoded for token in tokens], np.int32),
        starts=np.cumsum(lengths) - lengths,
        lengths=lengths,
        docs=np.arange(len(encoded), dtype=np.int64),
        languages=languages,
        cells=pc.binary_join_element_wise(languages, "instruction", "/"),
    )


def _from_answers(packed: pa.Table, newline: int, assistant: int) -> pa.Table:
    """Move every segment's `loss_starts` behind its assistant marker and the line end after it.

    The separator that packing puts at the end of a row would be a second END in a row there: it becomes padding.
    """
    width = packed.schema.field("tokens").type.byte_width // 4
    tokens = np.frombuffer(b"".join(packed["tokens"].to_pylist()), np.int32).reshape(-1, width)
    answers = []
    for row, starts in zip(tokens, packed["starts"].to_pylist(), strict=True):
        markers = np.flatnonzero(row == assistant)
        answers.append([int(markers[np.searchsorted(markers, start)]) + 1 + newline for start in starts])
    lengths = pc.subtract(packed["length"], pa.scalar(1, pa.int32()))
    for name, values in (("loss_starts", pa.array(answers, pa.list_(pa.int32()))), ("length", lengths)):
        place = packed.schema.get_field_index(name)
        packed = packed.set_column(place, packed.schema.field(place), values)
    return packed
