"""What a run says beside its stages: languages that nobody writes in, and those that a rule cannot judge as it could."""

from polylm.flows.history import read_counts
from polylm.flows.recipes import Recipe
from polylm.tasks.corpus.language import LANGUAGES
from polylm.tasks.corpus.rule_sets import DERIVING
from polylm.tasks.corpus.text import thresholds_of
from polylm.tasks.session import current
from polylm.tasks.store import Artifact, read_columns


def tell_absent(recipe: Recipe, labels: Artifact) -> None:
    """A language that somebody named and that no document is in may be misspelt; of the 18, some may just be absent."""
    here = current()
    thresholds = recipe.text.thresholds.keys() - thresholds_of(recipe.text.rules).keys()
    named = {*recipe.wanted.languages, *recipe.floors.own, *thresholds} - {*LANGUAGES}
    if labels.built and (absent := sorted(named - read_counts(here.store, labels).keys())):
        here.observer.notice(f"no document is in {', '.join(absent)}, which wanted, text.thresholds or floors.own name")


def tell_without_model(recipe: Recipe, labels: Artifact, models: Artifact) -> None:
    """Languages whose documents no 5-gram model can judge, with how much text each has of what it needs."""
    here = current()
    if not (labels.built and models.built):
        return
    there = _wanted(recipe, labels)
    without = {
        part.label: min(part.record.metrics["reference_bytes"])
        for part in models.parts
        if part.label in there and part.record is not None and not part.record.metrics.get("has_model")
    }
    if without:
        sizes = ", ".join(f"{language} ({size:,})" for language, size in sorted(without.items()))
        here.observer.notice(
            f"no 5-gram model, so no perplexity: {sizes}; of {recipe.quality_models.min_reference_bytes:,} bytes of "
            "reference a fold (quality_models.min_reference_bytes; --source of role reference, or kinds doc and book)"
        )


def tell_without_thresholds(recipe: Recipe, labels: Artifact, thresholds: Artifact) -> None:
    """Languages that have neither published thresholds nor text enough to derive any."""
    here = current()
    derives = recipe.text.derive and set(recipe.text.rules) & set(DERIVING)
    if not (derives and labels.built and thresholds.built):
        return
    table = read_columns(here.store.part_path(thresholds.stage, str(thresholds.parts[0].key)), ["language"])
    own = {*recipe.text.thresholds, *table["language"].to_pylist()}
    if without := sorted(_wanted(recipe, labels) - own):
        here.observer.notice(
            f"no thresholds of their own, so those of all other languages: {', '.join(without)}; "
            f"{recipe.derived.min_references:,} clean documents derive them (derived.min_references)"
        )


def _wanted(recipe: Recipe, labels: Artifact) -> set[str]:
    """The wanted languages that documents are in."""
    counts = read_counts(current().store, labels)
    return {language for language in recipe.wanted.languages if counts.get(language)}
