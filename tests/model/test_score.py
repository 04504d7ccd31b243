"""Bits per byte and continuations from a model folder."""

import math

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import torch.nn.functional as functional

from polylm.model.checkpoint import save_weights
from polylm.model.config import GenerateJob, ScoreJob
from polylm.model.generate import generate
from polylm.model.network import Network, initialize
from polylm.model.score import SCORES, load_network, score, windows, write_aside


@pytest.fixture(scope="module")
def model(tmp_path_factory, tiny):
    folder = tmp_path_factory.mktemp("model")
    network = Network(tiny)
    initialize(network, kind="normal", std=0.3, seed=5)
    save_weights(folder, {name: value.detach() for name, value in network.named_parameters()}, tiny)
    return str(folder)


def random_tokens(length, seed):
    return torch.randint(0, 259, (length,), generator=torch.Generator().manual_seed(seed)).tolist()


def score_texts(model, tmp_path, texts, **options):
    table = pa.table(
        {
            "tokens": pa.array(texts, pa.list_(pa.int32())),
            "bytes": pa.array([3 * len(text) for text in texts], pa.int64()),
            "language": ["th"] * len(texts),
        }
    )
    pq.write_table(table, tmp_path / "rows.parquet")
    job = ScoreJob(model=model, rows=str(tmp_path / "rows.parquet"), output=str(tmp_path / "out.parquet"), **options)
    write_aside(score(job), job.output)
    return pq.read_table(job.output)


def nll_of(model, tokens):
    _, network = load_network(model)
    ids = torch.tensor([tokens])
    with torch.no_grad():
        hidden, _ = network.hidden_states(ids[:, :-1], torch.arange(len(tokens) - 1)[None], None)
        return float(functional.cross_entropy(network.logits(hidden)[0], ids[0, 1:], reduction="sum"))


def test_short_texts_get_the_nll_of_all_but_their_first_token(model, tmp_path):
    texts = [random_tokens(length, seed=length) for length in (33, 2, 17, 1, 9)]
    table = score_texts(model, tmp_path, texts, batch=2)
    assert table.schema == SCORES
    assert table["tokens"].to_pylist() == [32, 1, 16, 0, 8]
    wanted = [nll_of(model, text) if len(text) > 1 else 0.0 for text in texts]
    assert table["nll"].to_pylist() == pytest.approx(wanted, rel=1e-5)
    assert table["bits_per_byte"][0].as_py() == pytest.approx(wanted[0] / math.log(2) / 99, rel=1e-5)


@pytest.mark.parametrize("stride", [1, 7, 16, 32])
def test_windows_of_a_long_text_score_every_token_once_with_as_much_context_as_the_stride_leaves(stride):
    pieces = list(windows(0, list(range(101)), context=32, stride=stride))
    scored = [token for piece in pieces for token in piece.tokens[piece.first :]]
    assert scored == list(range(1, 101))
    assert all(len(piece.tokens) <= 33 for piece in pieces)
    assert all(piece.first > 32 - stride for piece in pieces[1:])


def test_more_context_is_used_where_windows_overlap(model, tmp_path):
    text = random_tokens(90, seed=1)
    table = score_texts(model, tmp_path, [text], stride=8)
    by_hand = nll_of(model, text[:33]) + sum(
        nll_of(model, text[start : start + 33]) - nll_of(model, text[start : start + 25]) for start in range(8, 57, 8)
    )
    last = nll_of(model, text[64:90]) - nll_of(model, text[64:89])
    assert table["nll"][0].as_py() == pytest.approx(by_hand + last, rel=1e-5)


def test_tokens_that_the_model_does_not_know_are_named(model, tmp_path):
    with pytest.raises(ValueError, match=r"row 1: tokens from 3 to 259, the model of .* knows 0 to 258"):
        score_texts(model, tmp_path, [[1, 2], [3, 259]])


def continue_prompts(model, tmp_path, prompts, **options):
    pq.write_table(pa.table({"tokens": pa.array(prompts, pa.list_(pa.int32()))}), tmp_path / "prompts.parquet")
    fields = {"end": 258, "max_new": 8} | options
    job = GenerateJob(model=model, prompts=str(tmp_path / "prompts.parquet"), output=str(tmp_path / "o"), **fields)
    return generate(job).to_pylist()


def greedy(model, prompt, count):
    """Recompute everything for every token."""
    _, network = load_network(model)
    tokens = list(prompt)
    for _ in range(count):
        with torch.no_grad():
            hidden, _ = network.hidden_states(torch.tensor([tokens]), torch.arange(len(tokens))[None], None)
            tokens.append(int(network.logits(hidden[:, -1]).argmax()))
    return tokens[len(prompt) :]


PROMPTS = [random_tokens(length, seed=length) for length in (5, 3, 5, 9)]


def test_greedy_text_is_that_of_full_recomputation_for_any_batch(model, tmp_path):
    wanted = [greedy(model, prompt, 8) for prompt in PROMPTS]
    for batch in (1, 8):
        found = continue_prompts(model, tmp_path, PROMPTS, batch=batch)
        assert [row["tokens"] for row in found] == wanted
        assert {row["stopped"] for row in found} == {"length"}


def test_stops_at_the_end_token_and_at_the_context(model, tmp_path):
    text = greedy(model, PROMPTS[0], 8)
    place = next(number for number in range(1, 8) if text[number] not in text[:number])
    (row,) = continue_prompts(model, tmp_path, PROMPTS[:1], end=text[place])
    assert row == {"tokens": text[:place], "stopped": "end"}
    (row,) = continue_prompts(model, tmp_path, [random_tokens(30, seed=3)])
    assert (len(row["tokens"]), row["stopped"]) == (3, "context")


def test_sampling_depends_on_seed_and_row_and_not_on_the_batch(model, tmp_path):
    same = [PROMPTS[0]] * 3
    first = continue_prompts(model, tmp_path, same, temperature=1.5, seed=1, batch=1)
    assert first == continue_prompts(model, tmp_path, same, temperature=1.5, seed=1, batch=8)
    assert first != continue_prompts(model, tmp_path, same, temperature=1.5, seed=2)
    assert first[0] != first[1]


def test_a_tiny_top_p_is_greedy(model, tmp_path):
    found = continue_prompts(model, tmp_path, PROMPTS, temperature=5.0, top_p=1e-9)
    assert found == continue_prompts(model, tmp_path, PROMPTS)


@pytest.mark.parametrize(("prompt", "message"), [([], "0 tokens, expected 1 to 32"), ([300], "outside 0 to 258")])
def test_a_prompt_that_cannot_be_continued_is_named(model, tmp_path, prompt, message):
    with pytest.raises(ValueError, match=f"row 1: .*{message}"):
        continue_prompts(model, tmp_path, [[1], prompt])
