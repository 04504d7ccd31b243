"""docs/rules.md, written from the code: every rule, every set, every threshold by language with its source.

`make rules` writes it; a test compares.
"""

import sys
from collections.abc import Iterable, Sequence

from polylm.tasks.corpus.rule_sets import (
    DERIVING,
    OTHERS,
    SETS,
    configs,
    languages,
    rule_set,
    rules_of,
    sane_range,
    stop_words,
)
from polylm.tasks.corpus.stop_words import StopWordParams
from polylm.tasks.corpus.text_rules import RULES
from polylm.tasks.corpus.thresholds import DERIVED, ThresholdParams

HEAD = """# Rules for texts: every rule, every set, every threshold with its source

Written by `make rules` from `tasks/corpus/text_rules.py` and `rule_sets.py`; change those, not this page.

`measure_text` counts everything that any rule compares, once; `filter_text` judges by the sets that the recipe names
(`--set text.rules=gopher`, `--set text.rules=fineweb2,roots`; the default is `polylm`). A changed choice or threshold
(`--set text.thresholds.th.dup_line_frac=0.2`, `null` is off) re-runs gates and what stands on changed verdicts, no measure. A
text must pass every set that is named: of a rule that several have, the strictest threshold counts. All rules are judged, and the first broken
one, in the order of the table below, is the reason.
"""

ELSEWHERE = """## What these sets have elsewhere, or not

- The confidence of a language's label (FineWeb2, ROOTS, CCNet) is judged by `keep_sure`, perplexity (ROOTS, CCNet) by `filter_quality`: both depend
  on the model, so other models' numbers do not carry over.
- C4 and FineWeb drop lines, too. Here lines are judged only to count what would be left; texts stay as they are (`kernels/c4_lines.py` has both).
  Sentences are counted by their marks; without spaces between words or marks, as in Thai, a line is a sentence.
- C4's list of bad words and ROOTS' flagged words are not here, and its stop words neither: `roots_stop_words` is off until a threshold is set.
- ROOTS' words are lower-cased and stripped of marks, in Chinese and Vietnamese augmented by pairs; ours are those of every rule here. Its special
  characters are a list; ours are all characters that are neither letters nor marks.
- The paper names its rules and gives no number. What it calls "etc." is the share of special characters here.
"""


def render() -> str:
    """The page."""
    parts = [HEAD, _sets(), _rules(), _derivation(), ELSEWHERE, *map(_set, SETS), _stop_words()]
    return "\n".join(part.rstrip("\n") + "\n" for part in parts)


def _sets() -> str:
    rows = [
        (f"`{name}`", str(len(rules)), str(len(languages(name)) or "all alike"), says)
        for name, (rules, says) in SETS.items()
    ]
    return "## Sets\n\n" + _table(("set", "rules", "languages of its own", ""), rows)


def _rules() -> str:
    rows = []
    for name, about in RULES.items():
        sets = ", ".join(other for other, (rules, _) in SETS.items() if name in rules)
        rows.append((f"`{name}`", "at least" if about.side == "min" else "at most", about.says, sets))
    return "## Rules\n\n" + _table(("rule, which is the reason", "bound", "value", "sets"), rows)


def _derivation() -> str:
    params, words = ThresholdParams(), StopWordParams()
    rows = [(f"`{rule}`", *(f"{bound:.4g}" for bound in sane_range(rule))) for rule in DERIVED]
    return f"""## Languages that nobody published thresholds for

In the sets {" and ".join(f"`{name}`" for name in DERIVING)} a language without thresholds of its own gets those that `fit_thresholds` derives from its clean text (documents of the
kinds {" and ".join(f"`{kind}`" for kind in params.reference_kinds)}, at least {params.min_references}); with less, those of all others (`{OTHERS}`). One line of the recipe does it: `--set 'wanted.languages=["en","sv"]'`. Every
method's candidate is in the table (`polylm show fit_thresholds`) with how many clean and other texts it would remove:

- `quantile` (chosen, `--set derived.method=...` takes another): removes {params.quantile:.0%} of the clean texts.
- `tail`: removes {params.tail:.0%}. `mean_std`: {params.deviations:g} standard deviations from the mean.
- `median_ratio`: English's threshold times the ratio of this language's median to English's. `english`: English's threshold.

A threshold outside the range below (half the least and twice the largest published one; of the paper's rules ours) is put to its nearer end, and
one that no text can break is off. Stop words are the words of at least {words.min_share:.1%} of the clean text (at least {words.min_words} of them); a text needs two, if nine in ten
clean texts have two.

{_table(("rule", "least", "most"), rows)}"""


def _set(name: str) -> str:
    known = [*languages(name), OTHERS]
    chosen = {language: rule_set(name, language) for language in known}
    rows = [
        (f"`{rule}`", *(_number(chosen[language].thresholds[rule]) for language in known)) for rule in rules_of([name])
    ]
    sources = _table(("rule", "languages", "source"), list(_sources(name, known)))
    return (
        f"## `{name}`\n\n{SETS[name][1]} A dash is a rule that is off.\n\n{_table(('rule', *known), rows)}\n{sources}"
    )


def _sources(name: str, known: Sequence[str]) -> Iterable[tuple[str, str, str]]:
    """A row for every source of a rule, with the languages whose threshold comes from there."""
    for rule in rules_of([name]):
        by_source: dict[str, list[str]] = {}
        for language in known:
            source = rule_set(name, language).sources[rule]
            # One file a language: its name is a pattern here.
            source = source.replace(configs().get(language, "\0"), "LANGUAGE").replace(
                f"(91702cd): {language}", "(91702cd): LANGUAGE"
            )
            by_source.setdefault(source, []).append(language)
        for source, found in by_source.items():
            yield f"`{rule}`", "all" if found == known else " ".join(found), source


def _stop_words() -> str:
    files = ", ".join(f"{language} {config}" for language, config in configs().items())
    rows = [(language, " ".join(stop_words(language))) for language in languages()]
    return (
        f"## Stop words\n\nEnglish: datatrove's; others: FineWeb2's configs/LANGUAGE.yml (d0defb2), LANGUAGE being {files}.\n\n"
        + _table(("language", "words"), rows)
    )


def _number(threshold: float | None) -> str:
    return "-" if threshold is None else f"{threshold:g}" if threshold < 1e5 else f"{threshold:,.0f}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


if __name__ == "__main__":
    sys.stdout.write(render())
