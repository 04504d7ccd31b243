"""The whole system in one flow, and the one place where runs and plans start, whoever asks for them."""

from collections.abc import Sequence
from typing import Literal

from polylm.deployments.settings import Settings
from polylm.flows.alarms import Watch
from polylm.flows.corpus import build_corpus
from polylm.flows.evaluation import export_and_evaluate
from polylm.flows.history import describe_new, previous_run, whats_new
from polylm.flows.instructions import build_instructions
from polylm.flows.recipe_options import resolve
from polylm.flows.recipes import Recipe
from polylm.flows.stage_order import stages_in_order
from polylm.flows.training import build_tokens, train_base, tune
from polylm.tasks.run import File, adopt
from polylm.tasks.session import Observer, Orchestrator, Session, session


def build_everything(recipe: Recipe, watch: Watch) -> None:
    """From raw text to an evaluated, exported model; a recipe with `flow: corpus` ends after the data stages."""
    documents = build_corpus(recipe, watch)
    if recipe.flow == "corpus":
        return
    tokens = build_tokens(recipe, documents)
    models = train_base(recipe, tokens)
    instructions = build_instructions(recipe, tokens.tokenizer)
    tuned = tune(recipe, instructions, models.base)
    export_and_evaluate(recipe, documents, tokens.tokenizer, models, tuned)


def start(
    name: str,
    settings: Settings,
    *,
    sources: Sequence[str] = (),
    changes: Sequence[str] = (),
    mode: Literal["run", "plan"] = "run",
    until: str | None = None,
    observer: Observer | None = None,
    orchestrator: Orchestrator | None = None,
    watch: Watch | None = None,
    started_by: str = "command line",
) -> Session:
    """Run or plan a recipe; returns the session with a report of every stage.

    Raises ValueError for a user's mistake, AlarmsRaised where an alarm stops it, StageFailed where jobs failed.
    """
    recipe = resolve(name, sources, changes, settings)
    _check_until(until, recipe)
    resolved = recipe.model_dump(mode="json")
    with session(
        settings, mode=mode, name=name, recipe=resolved, until=until, observer=observer, orchestrator=orchestrator
    ) as here:
        # The words that make this run again, for whoever reads that something of it is damaged.
        here.record["options"] = [*_each("--source", sources), *_each("--set", changes)]
        here.record["started_by"] = started_by
        if until is None:
            for file in _adopted(recipe):
                adopt(file)  # a model that is missing is said now, and not after hours
        before = previous_run(here)
        build_everything(recipe, watch or Watch())
        if until is not None and not here.reached:
            stages = ", ".join(dict.fromkeys(report.stage for report in here.reports))
            raise ValueError(f"--until {until}: no such stage in the recipe {name}; it has {stages}")
        if mode == "run" and (new := whats_new(here, before)):
            here.record["new"] = new
            here.observer.notice(describe_new(new))
    return here


def _adopted(recipe: Recipe) -> list[File]:
    """The files from outside that a whole run of the recipe reads."""
    values = [recipe.language_model, recipe.score_model, recipe.score_labels]
    values += [word_list.file for word_list in recipe.toxicity.lists]
    values += [url_list.file for url_list in recipe.urls.lists]
    values += [recipe.instruct_model] if recipe.flow == "everything" else []
    return [value for value in values if value is not None]


def _check_until(until: str | None, recipe: Recipe) -> None:
    """Before anything is built; a stage that only some recipes of a flow have is missed when its run has ended."""
    if until is None:
        return
    known = stages_in_order(build_everything)
    if until not in known:
        raise ValueError(f"--until {until}: no such stage; there are {', '.join(known)}")
    if recipe.flow == "corpus" and until not in (own := stages_in_order(build_corpus)):
        raise ValueError(f"--until {until}: no such stage in a recipe of data stages; it has {', '.join(own)}")


def _each(option: str, values: Sequence[str]) -> list[str]:
    return [word for value in values for word in (option, value)]
