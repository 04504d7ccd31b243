"""From a language model and seed tasks to packed instructions."""

from polylm.flows.recipes import Recipe
from polylm.tasks.instructions.generate import generate_instructions
from polylm.tasks.instructions.pack import pack_instructions
from polylm.tasks.run import adopt, run
from polylm.tasks.session import flow
from polylm.tasks.store import Artifact


@flow
def build_instructions(recipe: Recipe, tokenizer: Artifact) -> Artifact:
    """From seed tasks and a language model to packed instructions."""
    models = (adopt(recipe.language_model), adopt(recipe.instruct_model))
    generated = run(generate_instructions, recipe.instructions, *models)
    return run(pack_instructions, recipe.pack_instructions, generated, tokenizer)
