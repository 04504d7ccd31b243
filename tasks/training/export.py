"""From our weights and tokenizer to a folder that `transformers`, vLLM and llama.cpp's converter read without our code."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from polylm.model.config import ModelConfig
from polylm.tasks.evaluation.languages import LANGUAGES
from polylm.tasks.evaluation.table import render_table
from polylm.tasks.stage import Corpus, Field, NoParams, Params, Rows, Workspace, files
from polylm.tasks.tokens.tokenizer import PAD
from polylm.tasks.training.chat import ASSISTANT, END, TEMPLATE, USER

SHARES = pa.schema(
    [
        pa.field("language", pa.string()),
        pa.field("licence", pa.string()),
        pa.field("documents", pa.int64()),
        pa.field("bytes", pa.int64()),
    ]
)
_NORM_EPS = 1e-5  # of the network; GPT-2's default too
_SPECIALS = {"bos_token": END, "eos_token": END}


class ExportError(ValueError):
    """The model and the tokenizer do not make a loadable folder."""


class Source(Params):
    """Where training text came from, for the model card."""

    name: str = Field(description="The source's name.")
    licence: str = Field(description="Its licence, in words.")
    note: str = Field(default="", description="What it is.")


class ExportParams(Params):
    """How the weights are written, and what the model card says that no table knows."""

    title: str = Field(default="A polylm model", min_length=1, description="The model card's heading.")
    licence: str = Field(default="apache-2.0", description="Licence of the weights, as the Hugging Face hub names it.")
    tuned: bool = Field(default=False, description="Follows instructions: the card shows the chat form.")
    sources: tuple[Source, ...] = Field(default=(), description="Sources of the training text, for the model card.")
    note: str = Field(default="", description="What else a reader of the card must know.")
    dtype: Literal["float32", "bfloat16"] = Field(
        default="float32", description="Precision of the weights; bfloat16 halves the files and moves logits by 1e-2."
    )
    max_shard_gigabytes: int = Field(default=5, ge=1, unit="GB", description="Largest file of weights.")


@files(reads=["text", "language", "licence", "weight"], writes=SHARES)
def count_shares(corpus: Corpus, params: NoParams) -> pa.Table:
    """Count the selected documents and bytes of each language and licence, for the model card."""
    totals = pa.concat_tables([SHARES.empty_table(), *(_count_part(rows) for rows in corpus)])
    return _grouped(totals).sort_by([("language", "ascending"), ("licence", "ascending")])


@files(libraries=("transformers", "tokenizers", "safetensors"), version=1)
def export(
    params: ExportParams,
    model: Path,
    tokenizer: Path,
    shares: pa.Table,
    evaluation: pa.Table | None = None,
    *,
    work: Workspace,
) -> dict[str, Any]:
    """Write the model as a GPT-2 that `transformers` loads with no remote code, with tokenizer and model card.

    `model` holds model.safetensors (consolidated) and config.json, `tokenizer` a tokenizer.json with `</s>`; `shares`
    is of SHARES and `evaluation`, if there, of EVALUATION. Holds the weights twice. Raises ExportError.
    """
    folder = _model_folder(model)
    config = ModelConfig.model_validate_json((folder / "config.json").read_text(encoding="utf-8"))
    ids = write_tokenizer(tokenizer, work.out, config)
    write_weights(folder, work.out, config, ids, params)
    card = render_card(params, config, shares, evaluation)
    (work.out / "README.md").write_text(card, encoding="utf-8")
    return {"parameters": config.parameters(), **ids}


def write_weights(model: Path, out: Path, config: ModelConfig, ids: Mapping[str, int], params: ExportParams) -> None:
    """Write config.json, generation_config.json and the weights under GPT-2's names, transposed for its Conv1D."""
    import torch  # 5 s with transformers: only in the job that exports
    from transformers import GenerationConfig, GPT2LMHeadModel
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    with torch.device("meta"):
        network = GPT2LMHeadModel(_gpt2_config(config, ids))
    found = network.load_state_dict(_read_weights(model, config), strict=False, assign=True)
    assert not found.unexpected_keys, found.unexpected_keys
    assert found.missing_keys == ["lm_head.weight"], found.missing_keys
    network.tie_weights()
    # No max_new_tokens: it would win over the max_length that lm-eval passes, and run past the last position.
    network.generation_config = GenerationConfig(do_sample=False, **ids)
    network.to(getattr(torch, params.dtype)).save_pretrained(out, max_shard_size=f"{params.max_shard_gigabytes}GB")


def _read_weights(model: Path, config: ModelConfig) -> dict[str, Any]:
    from safetensors.torch import load_file

    path = model / "model.safetensors"
    try:
        return to_gpt2(load_file(path), config)
    except KeyError as error:
        raise ExportError(f"{path}: no weight {error.args[0]}; {model}/config.json is of another network") from error


def to_gpt2(weights: Mapping[str, Any], config: ModelConfig) -> dict[str, Any]:
    """Our state dict under GPT-2's names: linear weights transposed to [in, out], query, key and value side by side.

    The head is tied and has no entry; the paper's 13B was 30.7 GB for 27.8 GB of weights because it had one.
    """
    import torch

    named = {f"transformer.{theirs}": weights[ours] for ours, theirs in _OUTSIDE.items()}
    for layer in range(config.layers):
        ours, theirs = f"blocks.{layer}", f"transformer.h.{layer}"
        for kind in ("weight", "bias"):
            for mine, other in _NORMS.items():
                named[f"{theirs}.{other}.{kind}"] = weights[f"{ours}.{mine}.{kind}"]
            heads = [weights[f"{ours}.attention.{name}.{kind}"] for name in ("query", "key", "value")]
            linear = {"attn.c_attn": torch.cat(heads)} | {
                other: weights[f"{ours}.{mine}.{kind}"] for mine, other in _LINEAR.items()
            }
            named |= {f"{theirs}.{name}.{kind}": _conv1d(value) for name, value in linear.items()}
    return named


_OUTSIDE = {
    "tokens.weight": "wte.weight",
    "positions.weight": "wpe.weight",
    "norm.weight": "ln_f.weight",
    "norm.bias": "ln_f.bias",
}
_NORMS = {"norm_attention": "ln_1", "norm_feed_forward": "ln_2"}
_LINEAR = {"attention.output": "attn.c_proj", "feed_forward.up": "mlp.c_fc", "feed_forward.down": "mlp.c_proj"}


def write_tokenizer(tokenizer: Path, out: Path, config: ModelConfig) -> dict[str, int]:
    """Write the fast tokenizer with its special tokens and chat template; give the ids for the configs.

    Encoding starts with the separator, as every document did in training. Padding is `<pad>` if the vocabulary has
    one, else the separator. Raises ExportError.
    """
    from tokenizers import Tokenizer  # only in the job that exports

    path = tokenizer / "tokenizer.json"
    if not path.is_file():
        raise ExportError(f"{tokenizer}: no tokenizer.json in it; expected the folder of the tokenizer stage")
    fast = Tokenizer.from_file(str(path))
    end, size = fast.token_to_id(END), fast.get_vocab_size()
    if end is None:
        raise ExportError(f"{path}: no {END} in its vocabulary; it separates documents and ends answers")
    if size > config.vocabulary:
        raise ExportError(
            f"{path}: {size} entries, but the model has {config.vocabulary}; they are not of one training"
        )
    pad = fast.token_to_id(PAD)
    fast.post_processor = _starts_with_end(fast.post_processor, end)
    fast.no_padding()
    fast.no_truncation()
    fast.save(str(out / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **_SPECIALS,
        "pad_token": END if pad is None else PAD,
        "additional_special_tokens": [mark for mark in (USER, ASSISTANT) if fast.token_to_id(mark) is not None],
        "add_prefix_space": False,
        "model_max_length": config.context,
        "padding_side": "left",  # so that a batch of prompts can be continued
        "clean_up_tokenization_spaces": False,
        "chat_template": TEMPLATE,
    }
    _write_json(out / "tokenizer_config.json", settings)
    # vLLM and llama.cpp look here.
    (out / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
    _write_json(out / "special_tokens_map.json", {key: settings[key] for key in (*_SPECIALS, "pad_token")})
    return {"bos_token_id": end, "eos_token_id": end, "pad_token_id": end if pad is None else pad}


def render_card(params: ExportParams, config: ModelConfig, shares: pa.Table, evaluation: pa.Table | None = None) -> str:
    """The model card: what it is, from which text, in which languages, its results and its limits."""
    sections = [
        _front_matter(params, shares),
        f"# {params.title}\n\n{_describe(params, config)}",
        f"## Training data\n\n{_data(params, shares)}",
        f"## Languages\n\n{_languages(shares)}",
        "## Limits\n\n" + _LIMITS,
        f"## Use\n\n{_use(params)}",
    ]
    if evaluation is not None:
        sections.append("## Evaluation\n\n" + render_table(evaluation, per_language=False).replace("\n## ", "\n### "))
    return "\n\n".join(section.strip() for section in sections) + "\n"


_LIMITS = """\
- It states false things fluently (hallucination). Nothing it says is checked.
- Its training text was written by people and was not screened for toxic, biased or hateful content, and it was not
  taught to refuse. Toxicity was not measured.
- Fine-tuning data written by another model carries that model's mistakes.
- It knows the languages above in very different amounts; in those with little text it is much weaker.
- It is for research. Do not use it where people rely on its answers without a study of its errors for that use."""


def _describe(params: ExportParams, config: ModelConfig) -> str:
    kind = "An instruction-tuned" if params.tuned else "A base"
    shape = f"{config.layers} layers x {config.width}, {config.heads} heads, {config.vocabulary:,} tokens"
    lines = [
        f"{kind} multilingual language model made by `polylm`, after *PolyLM* (arXiv 2307.06018).",
        f"GPT-2 architecture, {config.parameters():,} parameters ({shape}), context {config.context} tokens, tied"
        f" embeddings. `{END}` separates documents, starts every context and ends every answer.",
        params.note,
    ]
    return "\n\n".join(filter(None, lines))


def _front_matter(params: ExportParams, shares: pa.Table) -> str:
    codes = [code for code, _, _ in _by(shares, "language") if code in LANGUAGES]
    known = "\n".join(f"- {json.dumps(code)}" for code in codes)  # quoted: a bare `no` would be read as false
    heading = f"---\nlicense: {params.licence}\nlibrary_name: transformers\npipeline_tag: text-generation\n"
    return heading + (f"language:\n{known}\n" if known else "") + "---"


def _data(params: ExportParams, shares: pa.Table) -> str:
    sources = [f"| {item.name} | {item.licence} | {item.note} |" for item in params.sources]
    head = ["| source | licence | what |", "|---|---|---|", *sources, ""] if sources else []
    licences = [f"| {name} | {count:,} | {size:,} |" for name, count, size in _by(shares, "licence")]
    return "\n".join([*head, "| licence of the document | documents | bytes |", "|---|---:|---:|", *licences])


def _languages(shares: pa.Table) -> str:
    total = max(1, pc.sum(shares["bytes"]).as_py() or 0)
    rows = [
        f"| {LANGUAGES[code].name if code in LANGUAGES else code} | {count:,} | {size:,} | {100 * size / total:.2f} % |"
        for code, count, size in _by(shares, "language")
    ]
    return "\n".join(["| language | documents | bytes | share of bytes |", "|---|---:|---:|---:|", *rows])


def _by(shares: pa.Table, column: str) -> list[tuple[str, int, int]]:
    """Documents and bytes by language or licence, the largest first."""
    totals = shares.group_by(column).aggregate([("documents", "sum"), ("bytes", "sum")])
    rows = [(row[column] or "unknown", row["documents_sum"], row["bytes_sum"]) for row in totals.to_pylist()]
    return sorted(rows, key=lambda row: (-row[2], row[0]))


def _use(params: ExportParams) -> str:
    ask = (
        'text = tokenizer.apply_chat_template([{"role": "user", "content": "..."}], tokenize=False)\n'
        'ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")'
        if params.tuned
        else 'ids = tokenizer("...", return_tensors="pt")'
    )
    return (
        "```python\nfrom transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
        'tokenizer = AutoTokenizer.from_pretrained("FOLDER")\nmodel = AutoModelForCausalLM.from_pretrained("FOLDER")\n'
        f"{ask}\nprint(tokenizer.decode(model.generate(**ids)[0]))\n```"
    )


def _gpt2_config(config: ModelConfig, ids: Mapping[str, int]) -> Any:
    from transformers import GPT2Config

    return GPT2Config(
        vocab_size=config.vocabulary,
        n_positions=config.context,
        n_embd=config.width,
        n_layer=config.layers,
        n_head=config.heads,
        n_inner=config.feed_forward,
        activation_function="gelu_new",  # the tanh form
        layer_norm_epsilon=_NORM_EPS,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        tie_word_embeddings=True,
        **ids,
    )


def _conv1d(value: Any) -> Any:
    """GPT-2 keeps linear weights as [in, out]; biases stay."""
    return value.t().contiguous() if value.dim() == 2 else value


def _model_folder(model: Path) -> Path:
    """The folder with the weights: itself, or `final` in the folder of a training job."""
    for folder in (model, model / "final"):
        if (folder / "config.json").is_file() and (folder / "model.safetensors").is_file():
            return folder
    raise ExportError(f"{model}: no config.json and model.safetensors; expected a model that training wrote")


def _starts_with_end(before: Any, end: int) -> Any:
    """A post-processor that puts the separator first, after whatever the tokenizer did before."""
    from tokenizers.processors import Sequence as Steps
    from tokenizers.processors import TemplateProcessing

    first = TemplateProcessing(single=f"{END} $A", pair=f"{END} $A {END} $B", special_tokens=[(END, end)])
    return first if before is None else Steps([before, first])


def _count_part(rows: Rows) -> pa.Table:
    chosen = pc.and_(pc.is_valid(rows["text"]), pc.is_valid(rows["weight"]))
    sizes = pc.binary_length(rows["text"]).cast(pa.int64())
    licences = pc.fill_null(rows["licence"].cast(pa.string()), "not stated")
    columns = [rows["language"].cast(pa.string()), licences, pa.array([1] * len(sizes), pa.int64()), sizes]
    return _grouped(pa.table(dict(zip(SHARES.names, columns, strict=True))).filter(chosen))


def _grouped(table: pa.Table) -> pa.Table:
    totals = table.group_by(["language", "licence"]).aggregate([("documents", "sum"), ("bytes", "sum")])
    return (
        totals.select(["language", "licence", "documents_sum", "bytes_sum"]).rename_columns(SHARES.names).cast(SHARES)
    )


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=2, sort_keys=True) + "\n", encoding="utf-8")
