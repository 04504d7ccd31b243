"""The network, against properties and against GPT-2 itself."""

import numpy as np
import pytest
import torch

from polylm.model.network import Batch, Network, document_mask, initialize


@pytest.fixture
def network(tiny):
    network = Network(tiny, languages=3)
    initialize(network, kind="normal", std=0.2, seed=3)
    return network


def ids_of(tiny, rows=3, length=20, seed=0):
    return torch.randint(0, tiny.vocabulary, (rows, length), generator=torch.Generator().manual_seed(seed))


def hidden_of(network, ids, mask=None):
    with torch.no_grad():
        return network.hidden_states(ids, torch.arange(ids.shape[1]).expand_as(ids), mask)[0]


def batch_of(tiny, ids, *, segments=None):
    generator = torch.Generator().manual_seed(1)
    inputs = ids[:, :-1]
    return Batch(
        ids=inputs,
        targets=ids[:, 1:],
        weights=(torch.rand(inputs.shape, generator=generator) > 0.2).float(),
        buckets=torch.randint(0, 3, inputs.shape, generator=generator),
        segments=torch.zeros_like(inputs) if segments is None else segments,
        positions=torch.arange(inputs.shape[1]).expand_as(inputs),
        total=torch.tensor(40.0),
    )


def test_no_token_sees_a_later_one(tiny, network):
    ids = ids_of(tiny)
    changed = ids.clone()
    changed[:, 12:] = (changed[:, 12:] + 1) % tiny.vocabulary
    before, after = hidden_of(network, ids), hidden_of(network, changed)
    assert torch.equal(before[:, :12], after[:, :12])
    assert (before[:, 12:] != after[:, 12:]).any(dim=-1).all()


def test_a_row_does_not_depend_on_what_it_is_batched_with(tiny, network):
    ids = ids_of(tiny)
    together = hidden_of(network, ids)
    for row in range(3):
        torch.testing.assert_close(hidden_of(network, ids[row : row + 1])[0], together[row], rtol=1e-5, atol=1e-5)


def test_with_the_document_mask_a_document_sees_only_itself(tiny, network):
    ids = ids_of(tiny)
    segments = (torch.arange(20) >= 8).long().expand_as(ids)
    changed = ids.clone()
    changed[:, :8] = (changed[:, :8] + 1) % tiny.vocabulary
    masked = [hidden_of(network, rows, document_mask(segments)) for rows in (ids, changed)]
    assert torch.equal(masked[0][:, 8:], masked[1][:, 8:])
    open_rows = [hidden_of(network, rows) for rows in (ids, changed)]
    assert (open_rows[0][:, 8:] != open_rows[1][:, 8:]).any(dim=-1).all()


def test_one_document_under_the_mask_is_plain_causal_attention(tiny, network):
    ids = ids_of(tiny)
    torch.testing.assert_close(
        hidden_of(network, ids, document_mask(torch.zeros_like(ids))), hidden_of(network, ids), rtol=1e-5, atol=1e-5
    )


def test_the_losses_of_the_languages_add_up_to_the_loss(tiny, network):
    batch = batch_of(tiny, ids_of(tiny))
    losses = network(*batch)
    assert losses.nll.sum().item() / 40 == pytest.approx(losses.loss.item(), rel=1e-6)
    assert losses.counts.sum().item() == batch.weights.sum().item()


def test_all_weights_learn_and_recompute_changes_nothing(tiny, network):
    batch = batch_of(tiny, ids_of(tiny))
    gradients = []
    for recompute in (False, True):
        network.recompute = recompute
        network.zero_grad()
        network(*batch).loss.backward()
        gradients.append({name: value.grad.clone() for name, value in network.named_parameters()})
    assert all(value.any() for value in gradients[0].values())
    torch.testing.assert_close(gradients[0], gradients[1])


def test_a_cache_gives_what_the_whole_text_gives(tiny, network):
    ids = ids_of(tiny, rows=2)
    whole = hidden_of(network, ids)
    places = torch.arange(20).expand_as(ids)
    with torch.no_grad():
        _, past = network.hidden_states(ids[:, :19], places[:, :19], None)
        mask = torch.ones(1, 1, 1, 20, dtype=torch.bool)
        last, _ = network.hidden_states(ids[:, 19:], places[:, 19:], mask, past)
    torch.testing.assert_close(last[:, 0], whole[:, 19], rtol=1e-5, atol=1e-5)


def test_the_residual_stream_is_fp32_in_a_bf16_network(tiny, network):
    network.bfloat16()
    seen = []
    network.blocks[1].register_forward_hook(
        lambda module, inputs, outputs: seen.append((inputs[0].dtype, outputs[0].dtype))
    )
    hidden = hidden_of(network, ids_of(tiny))
    assert seen == [(torch.float32, torch.float32)]
    assert hidden.dtype == torch.bfloat16


def test_initial_weights_are_xavier_normal_and_the_seed_decides_them(tiny):
    networks = [Network(tiny), Network(tiny), Network(tiny)]
    for network, seed in zip(networks, (1, 1, 2), strict=True):
        initialize(network, kind="xavier_normal", std=0.0, seed=seed)
    first, same, other = (dict(network.named_parameters()) for network in networks)
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not torch.equal(first["tokens.weight"], other["tokens.weight"])
    up = first["blocks.0.feed_forward.up.weight"]
    assert up.std().item() == pytest.approx(np.sqrt(2 / sum(up.shape)), rel=0.05)
    assert not first["blocks.0.attention.query.bias"].any()
    assert (first["norm.weight"] == 1).all()


def gpt2_weights(weights, layers):
    """Lay our weights out as GPT-2 does: fused and transposed."""
    out = {"transformer.wte.weight": weights["tokens.weight"], "transformer.wpe.weight": weights["positions.weight"]}
    for kind in ("weight", "bias"):
        out[f"transformer.ln_f.{kind}"] = weights[f"norm.{kind}"]
        for number in range(layers):
            ours, theirs = f"blocks.{number}", f"transformer.h.{number}"
            parts = [weights[f"{ours}.attention.{part}.{kind}"] for part in ("query", "key", "value")]
            out[f"{theirs}.attn.c_attn.{kind}"] = torch.cat(parts).t()
            out[f"{theirs}.attn.c_proj.{kind}"] = weights[f"{ours}.attention.output.{kind}"].t()
            out[f"{theirs}.mlp.c_fc.{kind}"] = weights[f"{ours}.feed_forward.up.{kind}"].t()
            out[f"{theirs}.mlp.c_proj.{kind}"] = weights[f"{ours}.feed_forward.down.{kind}"].t()
            out[f"{theirs}.ln_1.{kind}"] = weights[f"{ours}.norm_attention.{kind}"]
            out[f"{theirs}.ln_2.{kind}"] = weights[f"{ours}.norm_feed_forward.{kind}"]
    return out


def test_is_gpt2(tiny, network):
    from transformers import GPT2Config, GPT2LMHeadModel  # takes seconds to import; for this test only

    config = GPT2Config(
        vocab_size=tiny.vocabulary,
        n_positions=tiny.context,
        n_embd=tiny.width,
        n_layer=tiny.layers,
        n_head=tiny.heads,
        n_inner=tiny.feed_forward,
    )
    theirs = GPT2LMHeadModel(config).eval()
    weights = gpt2_weights({name: value.detach() for name, value in network.named_parameters()}, tiny.layers)
    theirs.load_state_dict({**weights, "lm_head.weight": weights["transformer.wte.weight"]})
    ids = ids_of(tiny)
    with torch.no_grad():
        torch.testing.assert_close(network.logits(hidden_of(network, ids)), theirs(ids).logits, rtol=1e-4, atol=1e-4)
