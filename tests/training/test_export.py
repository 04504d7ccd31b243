import json

import pyarrow as pa
import pytest

from polylm.model.config import ModelConfig
from polylm.tasks.evaluation.table import make_rows
from polylm.tasks.stage import NoParams, Workspace
from polylm.tasks.training.chat import END, render
from polylm.tasks.training.export import (
    SHARES,
    ExportError,
    ExportParams,
    Source,
    count_shares,
    export,
    render_card,
)

TEXTS = [
    "All human beings are born free and equal in dignity and rights. 1948",
    "人人生而自由,在尊严和权利上一律平等。",
    "มนุษย์ทั้งหลายเกิดมามีอิสระและเสมอภาคกัน",
    "يولد جميع الناس أحرارا متساوين 👍🏽",
    "Tất cả mọi người sinh ra đều được tự do\n\nvà bình đẳng",
]
CONFIG = ModelConfig(layers=3, width=48, heads=3, feed_forward=100, vocabulary=420, context=64)
SHARE_ROWS = pa.Table.from_pylist(
    [
        {"language": "en", "licence": "MPL-2.0", "documents": 3, "bytes": 600},
        {"language": "th", "licence": "MPL-2.0", "documents": 1, "bytes": 300},
        {"language": "th", "licence": "CC0", "documents": 1, "bytes": 100},
    ],
    SHARES,
)


def workspace(folder):
    out, scratch = folder / "out", folder / "scratch"
    out.mkdir(parents=True)
    scratch.mkdir()
    return Workspace(out, scratch, folder)


@pytest.fixture(scope="module")
def tokenizer_folder(tmp_path_factory):
    from polylm.tasks.tokens.tokenizer import TokenizerParams, train_tokenizer

    count = len(TEXTS)
    part = {
        "text": pa.array(TEXTS),
        "language": pa.array(["en", "zh", "th", "ar", "vi"]).dictionary_encode(),
        "weight": pa.array([1] * count, pa.int32()),
        "split": pa.array(["train"] * count),
    }
    work = workspace(tmp_path_factory.mktemp("tokenizer"))
    train_tokenizer([part], TokenizerParams(vocabulary=CONFIG.vocabulary), work=work)
    return work.out


@pytest.fixture(scope="module")
def network():
    """Weights large enough that layers, heads and biases all matter."""
    import torch

    from polylm.model.network import Network

    torch.manual_seed(5)
    network = Network(CONFIG)
    for name, parameter in network.named_parameters():
        scale = "norm" in name and name.endswith("weight")
        torch.nn.init.normal_(parameter, 1.0 if scale else 0.0, 0.2)
    return network.eval()


@pytest.fixture(scope="module")
def model_folder(network, tmp_path_factory):
    from polylm.model.checkpoint import save_weights

    folder = tmp_path_factory.mktemp("model")
    save_weights(folder, {k: v for k, v in network.state_dict().items() if k != "lm_head.weight"}, CONFIG)
    return folder


@pytest.fixture(scope="module")
def exported(model_folder, tokenizer_folder, tmp_path_factory):
    work = workspace(tmp_path_factory.mktemp("export"))
    export(ExportParams(tuned=True), model_folder, tokenizer_folder, SHARE_ROWS, work=work)
    return work.out


@pytest.fixture(scope="module")
def loaded(exported):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(exported, trust_remote_code=False).eval()


@pytest.fixture(scope="module")
def tokenizer(exported):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(exported, trust_remote_code=False)


def our_logits(network, ids):
    import torch

    with torch.no_grad():
        hidden, _ = network.hidden_states(ids, torch.arange(ids.shape[1])[None], None)
        return network.logits(hidden)


def test_logits_equal_ours(network, loaded):
    import torch

    ids = torch.randint(0, CONFIG.vocabulary, (2, CONFIG.context), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        theirs = loaded(ids).logits
    ours = our_logits(network, ids)
    assert ours.std() > 0.5  # so that 1e-4 means something
    assert (theirs - ours).abs().max() < 1e-4


def test_greedy_text_equals_ours(network, loaded, tokenizer):
    import torch

    ids = tokenizer(TEXTS[0], return_tensors="pt")["input_ids"][:, :20]
    theirs = loaded.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=20, min_new_tokens=20)
    ours = ids
    for _ in range(20):
        logits = our_logits(network, ours)[:, -1]
        logits[:, tokenizer.eos_token_id] = -torch.inf  # as min_new_tokens does
        ours = torch.cat([ours, logits.argmax(-1, keepdim=True)], 1)
    assert torch.equal(theirs, ours)
    assert len(set(ours[0, 20:].tolist())) > 1


def test_the_weights_are_written_once(exported, loaded):
    from safetensors import safe_open

    with safe_open(exported / "model.safetensors", "pt") as weights:
        names = set(weights.keys())
        count = sum(weights.get_tensor(name).numel() for name in names)
    assert "lm_head.weight" not in names
    assert count == CONFIG.parameters()
    assert loaded.lm_head.weight is loaded.transformer.wte.weight


def test_special_ids_are_those_of_the_tokenizer(exported, tokenizer):
    end = tokenizer.convert_tokens_to_ids(END)
    for name in ("config.json", "generation_config.json"):
        config = json.loads((exported / name).read_text())
        assert config["bos_token_id"] == config["eos_token_id"] == end
        assert config["pad_token_id"] == tokenizer.pad_token_id != end
    assert (tokenizer.bos_token, tokenizer.eos_token) == (END, END)


def test_tokens_are_the_pipelines_with_the_separator_in_front(tokenizer, tokenizer_folder):
    from polylm.tasks.tokens.tokenizer import encode_texts, load_tokenizer

    ours = encode_texts(load_tokenizer(tokenizer_folder), TEXTS)
    assert tokenizer(TEXTS, add_special_tokens=False)["input_ids"] == ours
    assert tokenizer(TEXTS)["input_ids"] == [[tokenizer.bos_token_id, *ids] for ids in ours]


def test_text_comes_back_as_it_was(tokenizer):
    assert [tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in TEXTS] == TEXTS


def test_the_chat_template_is_the_form_of_fine_tuning(tokenizer):
    talk = [
        {"role": "user", "content": "Translate.\nBonjour"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "Why?"},
    ]
    expected = END + render("Translate.", "Bonjour") + "Hello" + END + render("Why?")
    assert tokenizer.apply_chat_template(talk, tokenize=False) == expected
    ids = tokenizer.apply_chat_template(talk, return_dict=True)["input_ids"]
    assert ids == tokenizer(expected, add_special_tokens=False)["input_ids"]
    assert ids[0] == tokenizer.bos_token_id


def test_an_unknown_role_is_an_error(tokenizer):
    with pytest.raises(Exception, match="roles are user and assistant, found system"):
        tokenizer.apply_chat_template([{"role": "system", "content": "x"}], tokenize=False)


def test_runs_of_newlines_in_a_prompt_become_one():
    assert render("Do\n\n\nthis. ", " \n") == "<|user|>\nDo\nthis.\n<|assistant|>\n"
    with pytest.raises(ValueError, match="empty instruction"):
        render("  ")


def test_the_same_export_has_the_same_bytes(exported, model_folder, tokenizer_folder, tmp_path):
    work = workspace(tmp_path / "again")
    export(ExportParams(tuned=True), model_folder, tokenizer_folder, SHARE_ROWS, work=work)
    names = sorted(path.name for path in exported.iterdir())
    assert names == sorted(path.name for path in work.out.iterdir())
    assert [(exported / name).read_bytes() == (work.out / name).read_bytes() for name in names] == [True] * len(names)


def test_bfloat16_halves_the_file(model_folder, tokenizer_folder, exported, tmp_path):
    work = workspace(tmp_path / "half")
    export(ExportParams(dtype="bfloat16"), model_folder, tokenizer_folder, SHARE_ROWS, work=work)
    small, large = ((folder / "model.safetensors").stat().st_size for folder in (work.out, exported))
    assert small < 0.55 * large


def test_the_folder_of_a_training_job_will_do(model_folder, tokenizer_folder, tmp_path):
    job = tmp_path / "job"
    job.mkdir()
    (job / "final").symlink_to(model_folder)
    assert export(ExportParams(), job, tokenizer_folder, SHARE_ROWS, work=workspace(tmp_path / "x"))["parameters"]


def test_a_folder_without_weights_is_refused(tokenizer_folder, tmp_path):
    with pytest.raises(
        ExportError, match=r"no config.json and model.safetensors; expected a model that training wrote"
    ):
        export(ExportParams(), tmp_path, tokenizer_folder, SHARE_ROWS, work=workspace(tmp_path / "x"))


def test_a_tokenizer_of_another_training_is_refused(model_folder, tokenizer_folder, tmp_path):
    from tokenizers import Tokenizer

    other = Tokenizer.from_file(str(tokenizer_folder / "tokenizer.json"))
    other.add_tokens([f"extra{number}" for number in range(CONFIG.vocabulary)])
    other.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(ExportError, match=r"entries, but the model has 420; they are not of one training"):
        export(ExportParams(), model_folder, tmp_path, SHARE_ROWS, work=workspace(tmp_path / "x"))


def test_a_tokenizer_without_separator_is_refused(model_folder, tmp_path):
    from tokenizers import Tokenizer, models

    Tokenizer(models.BPE()).save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(ExportError, match=r"no </s> in its vocabulary"):
        export(ExportParams(), model_folder, tmp_path, SHARE_ROWS, work=workspace(tmp_path / "x"))


def test_weights_that_are_not_the_networks_are_refused(network, tokenizer_folder, tmp_path):
    from polylm.model.checkpoint import save_weights

    weights = {k: v for k, v in network.state_dict().items() if k not in ("lm_head.weight", "norm.bias")}
    save_weights(tmp_path / "model", weights, CONFIG)
    with pytest.raises(ExportError, match=r"model.safetensors: no weight norm.bias; "):
        export(ExportParams(), tmp_path / "model", tokenizer_folder, SHARE_ROWS, work=workspace(tmp_path / "x"))


def test_the_card_states_data_languages_limits_and_results():
    sources = (Source(name="Firefox help", licence="MPL-2.0", note="help pages"),)
    params = ExportParams(title="Tiny", sources=sources, note="Trained for a test.")
    figure = {"model": "base", "category": "understanding", "task": "XCOPA", "language": "mean", "metric": "acc"}
    figures = make_rows([figure | {"value": 0.5, "stderr": 0.02, "chance": 0.5, "n": 600, "note": "zero-shot"}])
    card = render_card(params, CONFIG, SHARE_ROWS, figures)
    assert "| Firefox help | MPL-2.0 | help pages |" in card
    assert "| Thai | 2 | 400 | 40.00 % |" in card
    assert "| MPL-2.0 | 4 | 900 |" in card
    assert "| XCOPA | acc | mean | 0.500 | 600 | 0.500 ± 0.020 |" in card
    assert all(word in card for word in ("hallucination", "toxic", "research", "Trained for a test."))
    assert card.startswith("---\nlicense: apache-2.0\nlibrary_name: transformers\npipeline_tag: text-generation\n")
    assert '- "en"\n- "th"\n---' in card


def test_only_selected_documents_are_counted():
    part = {
        "text": pa.array(["aé", "b", None, "ccc", "dd"]),
        "language": pa.array(["fr", "fr", "fr", "en", "fr"]).dictionary_encode(),
        "licence": pa.array(["MIT", None, "MIT", "MIT", "MIT"]),
        "weight": pa.array([1, 1, None, None, 2], pa.int32()),
    }
    assert count_shares([part, part], NoParams()).to_pylist() == [
        {"language": "fr", "licence": "MIT", "documents": 4, "bytes": 10},
        {"language": "fr", "licence": "not stated", "documents": 2, "bytes": 2},
    ]
    assert count_shares([], NoParams()) == SHARES.empty_table()
