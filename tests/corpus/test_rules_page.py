"""docs/rules.md says what the code does."""

from samples import ROOT

from polylm.tasks.corpus.rule_sets import SETS, languages, rule_set
from polylm.tasks.corpus.rules_page import render
from polylm.tasks.corpus.text_rules import RULES


def test_the_page_is_that_of_the_code():
    assert (ROOT / "docs" / "rules.md").read_text(encoding="utf-8") == render(), "write it anew: make rules"


def test_it_has_every_rule_and_every_threshold_with_a_source():
    page = render()
    for rule in RULES:
        assert f"| `{rule}` |" in page
    for name in SETS:
        section = page.partition(f"## `{name}`\n")[2].partition("\n## ")[0]
        head, *rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("|")]
        assert head[1:] == [*languages(name), "*"]
        numbers = {row[0].strip("`"): row[1:] for row in rows[1 : len(SETS[name][0]) + 1]}
        for place, language in enumerate(head[1:]):
            for rule, threshold in rule_set(name, language).thresholds.items():
                shown = numbers[rule][place].replace(",", "")
                assert shown == "-" if threshold is None else float(shown) == threshold
        sources = [row for row in rows if len(row) == 3 and row[0].strip("`") in RULES and row[0] != "rule"]
        assert {row[0].strip("`") for row in sources} >= set(numbers)
