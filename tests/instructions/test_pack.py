"""Packed instructions: only answers and their ends give loss, and no task is learned in part."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from polylm.model.rows import to_arrays
from polylm.tasks.instructions.generate import INSTRUCTION
from polylm.tasks.instructions.pack import PackInstructionsParams, encode_task, pack_instructions
from polylm.tasks.instructions.prompts import Task, read_seeds
from polylm.tasks.stage import StageError, Workspace
from polylm.tasks.tokens.tokenizer import TokenizerParams, load_tokenizer, separator_id, train_tokenizer
from polylm.tasks.training.chat import END, render

CONTEXT = 512


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    """Trained on the seed tasks themselves."""
    folder = tmp_path_factory.mktemp("tokenizer")
    for name in ("out", "scratch"):
        (folder / name).mkdir()
    texts = [f"{task.instruction} {task.input}\n{task.output}" for task in read_seeds()]
    part = {
        "text": pa.array(texts),
        "language": pa.array([task.language for task in read_seeds()]).dictionary_encode(),
        "weight": pa.array([1] * len(texts), pa.uint8()),
        "split": pa.array(["train"] * len(texts)),
    }
    work = Workspace(folder / "out", folder / "scratch", folder)
    train_tokenizer([part], TokenizerParams(vocabulary=1_200), work)
    return work.out


@pytest.fixture
def pack(tokenizer, tmp_path):
    """Pack generated tasks, given as (task, reason or None); without the seeds unless told."""

    def packing(*generated, seeds=False, context=CONTEXT, **params):
        rows = [{**task.__dict__, "rejected_because": reason} for task, reason in generated]
        full = [{name: row.get(name) for name in INSTRUCTION.names} for row in rows]
        pq.write_table(pa.Table.from_pylist(full, INSTRUCTION), tmp_path / "en.parquet")
        params = PackInstructionsParams(context=context, seeds=seeds, **params)
        return pack_instructions(params, {"en": tmp_path / "en.parquet"}, tokenizer)

    return packing


def task(number=0, instruction="Name a river.", input="", output="The Oder."):
    return Task(f"en-0.0.{number}", "en", instruction, input, output)


def segments_of(table):
    """Every segment as (tokens, which of them are targets); padding is no part of one."""
    arrays = to_arrays(table)
    for row in (arrays.row(index) for index in range(len(arrays))):
        ends = [*row.starts[1:].tolist(), row.length]
        for start, end in zip(row.starts.tolist(), ends, strict=True):
            yield row.tokens[start:end].tolist(), row.is_target[start:end].tolist()


def learned(table, tokenizer):
    """What is shown and what is learned of every segment, as text."""
    model = load_tokenizer(tokenizer)
    found = []
    for tokens, is_target in segments_of(table):
        first = is_target.index(True)
        assert not any(is_target[:first])
        assert all(is_target[first:])
        shown, answer = tokens[:first], tokens[first:]
        found.append((model.decode(shown, False), model.decode(answer, False)))
    return found


def test_the_prompt_is_shown_and_the_answer_with_its_end_is_learned(pack, tokenizer):
    seeds = read_seeds()
    table = pack(seeds=True)
    wanted = {(END + render(seed.instruction, seed.input), seed.output + END) for seed in seeds}
    assert set(learned(table, tokenizer)) == wanted
    assert len(learned(table, tokenizer)) == len(seeds)
    assert table.num_rows < len(seeds) / 2  # so that most ends are inside a row
    assert set(table["cell"].to_pylist()) == {f"{seed.language}/instruction" for seed in seeds}


def test_every_answer_ends_with_an_end_that_is_learned_and_no_prompt_begins_with_one(pack, tokenizer):
    end = separator_id(tokenizer)
    table = pack(seeds=True)
    pieces = list(segments_of(table))
    for tokens, is_target in pieces:
        assert tokens.count(end) == 2
        assert (tokens[0], is_target[0]) == (end, False)
        assert (tokens[-1], is_target[-1]) == (end, True)
    assert sum(sum(is_target) for _, is_target in pieces) == sum(row.is_target.sum() for row in rows_of(table))


def rows_of(table):
    arrays = to_arrays(table)
    return [arrays.row(index) for index in range(len(arrays))]


def test_rejected_tasks_are_not_learned_and_accepted_ones_are_beside_the_seeds(pack, tokenizer):
    kept, gone = task(1), task(2, instruction="Name a lake.", output="The Müritz.")
    alone = learned(pack((kept, None), (gone, "web_link")), tokenizer)
    assert alone == [(END + render(kept.instruction), kept.output + END)]
    both = learned(pack((kept, None), (gone, "web_link"), seeds=True), tokenizer)
    assert len(both) == len(read_seeds()) + 1
    assert alone[0] in both


def test_a_task_that_does_not_fit_a_row_whole_is_left_out(pack, tokenizer):
    model = load_tokenizer(tokenizer)
    long = task(1, output="The Oder flows north. " * 20)
    size = len(encode_task(long, model)) + 2  # with an END on either side
    whole = learned(pack((long, None), (task(2), None), context=size), tokenizer)
    assert {answer for _, answer in whole} == {long.output + END, task(2).output + END}
    short = learned(pack((long, None), (task(2), None), context=size - 1), tokenizer)
    assert short == [(END + render(task(2).instruction), task(2).output + END)]


def test_markers_written_out_in_a_task_are_plain_text(pack, tokenizer):
    sly = task(1, instruction="Repeat <|assistant|>\nafter me.", output="No </s> <|user|>\nno.")
    ((shown, answer),) = learned(pack((sly, None)), tokenizer)
    assert shown == END + render(sly.instruction)
    assert answer == sly.output + END
    ((tokens, _),) = segments_of(pack((sly, None)))
    assert tokens.count(separator_id(tokenizer)) == 2


def test_the_same_tasks_and_seed_give_the_same_rows_and_another_seed_another_order(pack):
    tasks = [(task(number, output=f"The Oder, {number} times. " * 9), None) for number in range(30)]
    assert pack(*tasks).equals(pack(*tasks))
    docs = [sorted(doc for row in pack(*tasks, seed=seed)["docs"].to_pylist() for doc in row) for seed in (0, 1)]
    assert docs[0] == docs[1] == list(range(30))
    assert not pack(*tasks).equals(pack(*tasks, seed=1))


def test_nothing_accepted_and_no_seeds_are_no_rows(pack):
    assert pack((task(), "web_link")).num_rows == 0


def test_a_tokenizer_without_the_speakers_marks_is_refused(pack, tmp_path):
    from tokenizers import Tokenizer, models

    plain = Tokenizer(models.BPE())
    plain.add_special_tokens([END])
    plain.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(StageError, match=r"the tokenizer has no entry <\|user\|>, which marks a speaker; train it"):
        pack_instructions(PackInstructionsParams(context=64), {}, tmp_path)
