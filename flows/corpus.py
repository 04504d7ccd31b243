"""From raw files to a corpus with a verdict on every document, one line a stage."""

from dataclasses import dataclass

from polylm.flows.alarms import Watch
from polylm.flows.notices import tell_absent, tell_without_model, tell_without_thresholds
from polylm.flows.recipes import Recipe
from polylm.tasks.corpus.classifier import train_classifier
from polylm.tasks.corpus.counts import count_labels, count_survivors
from polylm.tasks.corpus.declared import check_declared, read_declared
from polylm.tasks.corpus.duplicates import (
    choose_keepers,
    drop_duplicates,
    join_bands,
    label_clusters,
    sign,
    verify_clusters,
)
from polylm.tasks.corpus.language import fit_language_floors, identify_language, keep_sure, want_languages
from polylm.tasks.corpus.line_languages import measure_line_languages
from polylm.tasks.corpus.model_score import score_with_model, train_score_head
from polylm.tasks.corpus.perplexity import train_quality_models
from polylm.tasks.corpus.quality import filter_quality, fit_quality_cutoffs, score_quality
from polylm.tasks.corpus.reference import set_aside_references
from polylm.tasks.corpus.select import select
from polylm.tasks.corpus.split import assign_split
from polylm.tasks.corpus.stop_words import fit_stop_words
from polylm.tasks.corpus.text import filter_text, measure_text
from polylm.tasks.corpus.thresholds import fit_thresholds
from polylm.tasks.corpus.toxicity import measure_toxicity
from polylm.tasks.documents.boilerplate import count_lines
from polylm.tasks.documents.clean import clean, drop_empty
from polylm.tasks.documents.ingest import ingest
from polylm.tasks.documents.sources import Sources
from polylm.tasks.documents.urls import filter_urls
from polylm.tasks.run import adopt, run
from polylm.tasks.session import StageReport, current, flow
from polylm.tasks.stage import NoParams
from polylm.tasks.store import Artifact


@dataclass(frozen=True)
class Corpus:
    """What later flows read of a corpus."""

    about: Artifact  # kind, url, licence, ... as ingested, without the raw text
    docs: Artifact
    language: Artifact
    split: Artifact
    wanted: tuple[Artifact, ...]  # the gates before the costly measures
    selected: Artifact


def _check_some(report: StageReport, *, certain: bool) -> None:
    """Raise ValueError where no source has a document; a plan is `certain` of it only where it knows of bad records."""
    if report.rows or not (certain or report.reasons):
        return
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in sorted(report.reasons.items()))
    bad = f"; of {sum(report.reasons.values()):,} records all are bad: {reasons} (polylm show bad_records)"
    raise ValueError(f"the sources hold no document{bad if reasons else ''}")


@flow
def build_corpus(recipe: Recipe, watch: Watch) -> Corpus:
    """From raw files to a corpus with a verdict on every document."""
    here = current()
    sources = Sources(recipe.sources, cache=here.settings.models / "sources", notice=here.observer.notice)
    raw = run(ingest, recipe.ingest, sources)
    _check_some(here.reports[-1], certain=here.mode == "run")
    watch.records(recipe.alarms, raw)
    repeated = [run(count_lines, recipe.boilerplate, raw)] if recipe.boilerplate.min_documents else []
    docs, about = run(clean, recipe.clean, raw, *repeated), raw.without("text")
    language_model = adopt(recipe.language_model)
    language = run(identify_language, recipe.language, docs, language_model)
    wanted = (run(drop_empty, NoParams(), docs), run(want_languages, recipe.wanted, language))
    labels = run(count_labels, NoParams(), language)
    watch.gates(recipe.alarms, wanted, _references(recipe))
    watch.labels(recipe.alarms, labels)
    tell_absent(recipe, labels)
    if recipe.measure_lines:
        run(measure_line_languages, recipe.lines, docs, language_model, where=wanted)
    split = run(assign_split, recipe.split, docs, about, where=wanted)
    languages = recipe.wanted.languages
    stops = recipe.stop_words.for_wanted(languages, recipe.statistics)
    stop_words = run(fit_stop_words, stops, about, docs, language, where=wanted)
    text = run(measure_text, recipe.statistics, docs, language, stop_words, where=wanted)
    thresholds = run(fit_thresholds, recipe.derived, about, docs, language, text, where=wanted)
    tell_without_thresholds(recipe, labels, thresholds)
    models = run(train_quality_models, recipe.quality_models.covering(languages), about, docs, language, where=wanted)
    tell_without_model(recipe, labels, models)
    classifiers = run(train_classifier, recipe.classifier.covering(languages), about, docs, language, where=wanted)
    aside = (run(set_aside_references, NoParams(), about),) if _references(recipe) else ()
    quality = run(score_quality, NoParams(), docs, language, models, classifiers, where=(*wanted, *aside))
    _score_with_model(recipe, docs, wanted)
    if toxic := [adopt(one.file) for one in recipe.toxicity.lists]:
        run(measure_toxicity, recipe.toxicity, docs, language, *toxic, where=wanted)
    signatures = run(sign, recipe.bands, docs, where=wanted)
    candidates = run(join_bands, recipe.bands, signatures)
    clusters = run(label_clusters, NoParams(), docs, run(verify_clusters, recipe.clusters, docs, candidates))
    lists = [adopt(one.file) for one in recipe.urls.lists]
    floors = run(fit_language_floors, recipe.floors, language, where=aside)
    cutoffs = run(fit_quality_cutoffs, recipe.cutoffs, language, quality, where=aside)
    gates: tuple[Artifact, ...] = (
        *wanted,
        *aside,
        *([run(filter_urls, recipe.urls, about, *lists)] if lists else []),
        run(keep_sure, NoParams(), language, floors),
        run(filter_text, recipe.text, docs, text, language, thresholds),
        run(filter_quality, NoParams(), language, quality, cutoffs),
    )
    if recipe.judge_declarations:
        declared = run(read_declared, recipe.declared, about, language_model)
        gates = (*gates, run(check_declared, recipe.contradiction, language, declared))
    keepers = run(choose_keepers, NoParams(), docs, clusters, where=gates)
    gates = (*gates, run(drop_duplicates, NoParams(), docs, keepers))
    watch.gates(recipe.alarms, gates, _references(recipe))
    survivors = run(count_survivors, NoParams(), language, text, where=gates)
    watch.survivors(recipe.alarms, recipe.wanted.languages, labels, survivors)
    selected = run(select, NoParams(), about, language, where=gates)
    return Corpus(about, docs, language, split, wanted, selected)


def _references(recipe: Recipe) -> list[str]:
    return [name for name, source in recipe.sources.items() if source.role == "reference"]


def _score_with_model(recipe: Recipe, docs: Artifact, wanted: tuple[Artifact, ...]) -> None:
    """A measure that no gate reads yet, where the recipe names a model."""
    if recipe.score_model is None:
        return
    model = adopt(recipe.score_model)
    labels = adopt(recipe.score_labels) if recipe.score_labels is not None else None
    heads = () if labels is None else (run(train_score_head, recipe.score_head, model, labels),)
    run(score_with_model, recipe.model_score, docs, model, *heads, where=wanted)
