"""From weights to folders that others load, and to one table of what the models can do."""

from polylm.flows.corpus import Corpus
from polylm.flows.recipes import Recipe
from polylm.flows.training import Models
from polylm.tasks.evaluation.byte_models import train_byte_models
from polylm.tasks.evaluation.evaluate import evaluate
from polylm.tasks.evaluation.samples import write_samples
from polylm.tasks.evaluation.table import report_evaluation, tabulate
from polylm.tasks.run import adopt, run
from polylm.tasks.session import flow
from polylm.tasks.stage import NoParams
from polylm.tasks.store import Artifact
from polylm.tasks.training.export import count_shares, export


@flow
def export_and_evaluate(
    recipe: Recipe, corpus: Corpus, tokenizer: Artifact, models: Models, tuned: Artifact
) -> Artifact:
    """Export the models, measure them, and lay the results side by side."""
    docs, language, selected = corpus.docs, corpus.language, corpus.selected
    shares = run(count_shares, NoParams(), corpus.about, docs, language, selected)
    untrained = run(export, recipe.export, models.untrained, tokenizer, shares)
    base = run(export, recipe.export, models.base, tokenizer, shares)
    chat = run(export, recipe.export_tuned, tuned, tokenizer, shares)
    run(write_samples, recipe.samples, models.base, tokenizer)
    by_bytes = run(train_byte_models, recipe.byte_models, docs, language, corpus.split, selected)
    identifier = adopt(recipe.language_model)
    before = run(evaluate, recipe.evaluate_untrained, by_bytes, identifier, untrained)
    after = run(evaluate, recipe.evaluate, by_bytes, identifier, base, chat)
    table = run(tabulate, recipe.table, before, after)
    return run(report_evaluation, recipe.table, table)
