"""From a corpus to tokens, and from tokens to trained weights."""

from dataclasses import dataclass

from polylm.flows.corpus import Corpus
from polylm.flows.recipes import Recipe
from polylm.tasks.run import run
from polylm.tasks.session import flow
from polylm.tasks.stage import NoParams
from polylm.tasks.store import Artifact
from polylm.tasks.tokens.curriculum import plan_curriculum
from polylm.tasks.tokens.encode import encode
from polylm.tasks.tokens.pack import pack
from polylm.tasks.tokens.pairs import cut_pairs, pack_pairs
from polylm.tasks.tokens.tokenizer import train_tokenizer
from polylm.tasks.training.train import finetune, initialize, pretrain


@dataclass(frozen=True)
class Tokens:
    """The tokenizer, packed rows, and what is dealt from them."""

    tokenizer: Artifact
    packed: Artifact
    pairs: Artifact
    curriculum: Artifact


@dataclass(frozen=True)
class Models:
    """Weights before the first step and after each stage of the curriculum."""

    untrained: Artifact
    base: Artifact


@flow
def build_tokens(recipe: Recipe, corpus: Corpus) -> Tokens:
    """From a corpus to packed rows of tokens and a curriculum."""
    docs, language, split, selected = corpus.docs, corpus.language, corpus.split, corpus.selected
    tokenizer = run(train_tokenizer, recipe.tokenizer, docs, language, split, selected)
    tokens = run(encode, NoParams(), docs, selected, tokenizer)
    packed = run(pack, recipe.pack, tokens, language, split, selected, tokenizer)
    lines = run(cut_pairs, recipe.pairs, corpus.about, docs, language, split, where=corpus.wanted)
    pairs = run(pack_pairs, recipe.pack_pairs, lines, tokenizer)
    return Tokens(tokenizer, packed, pairs, run(plan_curriculum, recipe.curriculum, packed, pairs))


@flow
def train_base(recipe: Recipe, tokens: Tokens) -> Models:
    """Pretrain through the curriculum, each segment from the weights of the one before."""
    untrained = run(initialize, recipe.model, tokens.tokenizer)
    rows = (tokens.curriculum, tokens.packed, tokens.pairs)
    stage1 = run(pretrain, recipe.stage1, *rows, untrained)
    return Models(untrained, run(pretrain, recipe.stage2, *rows, stage1))


@flow
def tune(recipe: Recipe, instructions: Artifact, base: Artifact) -> Artifact:
    """Fine-tune a base model on packed instructions."""
    return run(finetune, recipe.finetune, instructions, base)
