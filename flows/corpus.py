"""From raw files to a corpus with a verdict on every document, one line a stage."""

from dataclasses import dataclass

from polylm.flows.recipes import Recipe
from polylm.tasks.corpus.language import fit_language_floors, identify_language, keep_sure, want_languages
from polylm.tasks.documents.clean import clean, drop_empty
from polylm.tasks.documents.ingest import ingest
from polylm.tasks.documents.sources import Sources
from polylm.tasks.run import Artifact, adopt, flow, run
from polylm.tasks.stage import NoParams


@dataclass(frozen=True)
class Corpus:
    """What later flows read of a corpus."""

    raw: Artifact
    docs: Artifact
    language: Artifact
    gates: tuple[Artifact, ...]


@flow
def build_corpus(recipe: Recipe) -> Corpus:
    """From raw files to a corpus with a verdict on every document."""
    raw = run(ingest, recipe.ingest, Sources(recipe.sources))
    docs = run(clean, recipe.clean, raw)
    language = run(identify_language, recipe.language, docs, adopt(recipe.language_model))
    wanted = (run(drop_empty, NoParams(), docs), run(want_languages, recipe.wanted, language))
    gates = (*wanted, run(keep_sure, NoParams(), language, run(fit_language_floors, recipe.floors, language)))
    return Corpus(raw, docs, language, gates)
