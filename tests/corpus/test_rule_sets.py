"""Rule sets by name: what each rejects and why, where their numbers come from, how several go together."""

import numpy as np
import pyarrow as pa
import pytest
import swedish

from polylm.flows.recipe_options import resolve
from polylm.tasks.corpus.rule_sets import SETS, languages, rule_set, rules_of, table
from polylm.tasks.corpus.text import JUDGED, StatisticsParams, TextParams, filter_text, measure_text
from polylm.tasks.corpus.text_rules import RULES
from polylm.tasks.rules import judge

GOOD = (
    "The harbour was quiet that morning, and two of the boats came in late. Nobody on the quay had expected them to bring "
    "much fish, since the wind had turned north before dawn. An old woman sold bread from a cart and asked each sailor "
    "about his children. When the third boat failed to appear, people began to worry, but they kept on working. By noon "
    "a message arrived: its engine had stopped near the lighthouse, and a ferry was towing it home. Everyone laughed."
)
SIGNS = [chr(point) for point in range(0x2500, 0x2600)]


def marked(signs):
    """The prose with signs behind every word, never the same two."""
    words = GOOD.split()
    return " ".join(
        f"{word} {''.join(SIGNS[(at * 7 + k * 31) % 256] for k in range(signs))}" for at, word in enumerate(words)
    )


LINE = "Subscribe to our newsletter today!"
# By set and rule, a text that is rejected for it, in English or the language that stands with it.
REJECTED = {
    ("c4", "lorem_ipsum"): f"{GOOD}\nLorem ipsum dolor sit amet.",
    ("c4", "curly_bracket"): f"{GOOD}\nAnd then { {} } was all that was left.",
    ("c4", "too_few_sentences"): "One sentence is here. And another is too.\nThis line has no end",
    ("fineweb", "any_lorem_ipsum"): f"{GOOD}\nlorem ipsum dolor sit amet",
    ("fineweb", "any_curly_bracket"): f"{GOOD}\nfunction hello { {} }",
    ("fineweb", "any_too_few_sentences"): GOOD.replace(". ", ", "),
    ("mc4", "< 3 paragraphs"): f"{GOOD}\n{GOOD}",
    ("roots", "roots_few_words"): "Words are too few here, as anybody who counts them one by one will soon find.",
    ("roots", "roots_char_repetition"): GOOD + "-" * 90,
    ("roots", "roots_word_repetition"): f"{GOOD} {GOOD[:220]} {GOOD[100:220]}",
    ("roots", "roots_special_chars"): marked(3),
    ("ccnet", "ccnet_short_doc"): GOOD[:299],
    ("paper", "paper_symbol_to_word"): GOOD.replace(" the ", " # the ").replace(" and ", " ... and ... "),
    ("paper", "paper_ellipsis"): GOOD.replace(". ", "...\n"),
    ("paper", "paper_numbers"): GOOD + " " + " ".join(str(7_919 * k) for k in range(100, 130)),
    ("paper", "paper_dates"): GOOD + " " + ", ".join(f"{k}.{k % 12 + 1}.19{k + 60} came" for k in range(1, 13)),
    ("paper", "paper_others"): marked(3),
}  # fmt: skip


def verdicts(texts, params, language="en", invisible=0):
    labels = pa.array([language] * len(texts)).dictionary_encode()
    counts = measure_text({"text": pa.array(texts, pa.string()), "language": labels}, StatisticsParams())
    rows = {name: values.astype(np.float64) for name, values in counts.items()}
    rows |= {"language": labels, "chars": np.array([float(len(text)) for text in texts])}
    rows |= {"invisible_chars": np.full(len(texts), float(invisible))}
    assert set(JUDGED) <= rows.keys()
    return judge(filter_text(rows, params), np.zeros(len(texts), np.bool_), "filter_text").to_pylist()


@pytest.mark.parametrize("name", [name for name in SETS if name != "mc4"])
def test_good_prose_is_in_every_set(name):
    assert verdicts([GOOD], TextParams(rules=(name,))) == [None]


@pytest.mark.parametrize(("name", "rule"), REJECTED)
def test_a_text_is_rejected_by_its_set_for_the_reason_that_a_reader_would_give(name, rule):
    text = REJECTED[name, rule]
    assert verdicts([text], TextParams(rules=(name,))) == [rule]
    only = {"*": {rule: rule_set(name, "en").thresholds[rule]}}
    assert verdicts([text], TextParams(rules=(name,), thresholds=only)) == [rule]


def test_invisible_characters_count_as_cleaning_took_them():
    assert verdicts([GOOD], TextParams(rules=("paper",)), invisible=20) == ["paper_invisible"]
    assert verdicts([GOOD], TextParams(rules=("paper",)), invisible=2) == [None]


def test_very_long_documents_and_few_stop_words_have_reasons_of_roots():
    assert verdicts(["a b c d e. " * 20_100], TextParams(rules=("roots",)))[0] == "roots_many_words"
    stop = TextParams(rules=("roots",), thresholds={"*": {"roots_stop_words": 0.3}})
    assert verdicts([GOOD], stop) == ["roots_stop_words"]


def test_every_rule_of_every_set_has_a_text_that_breaks_it():
    elsewhere = {
        *rules_of(["polylm"]),
        "paper_invisible",
        "roots_many_words",
        "roots_stop_words",
    }  # test_agreement, above
    assert {rule for _, rule in REJECTED} | elsewhere == set(RULES)


@pytest.mark.parametrize("name", SETS)
def test_every_threshold_of_every_set_has_a_source(name):
    for language in [*languages(name), "xx"]:
        chosen = rule_set(name, language)
        assert list(chosen.thresholds) == list(chosen.sources) == rules_of([name])
        assert all(len(source) > 10 for source in chosen.sources.values())


@pytest.mark.parametrize(
    ("name", "language", "rule", "threshold"),
    [
        ("roots", "en", "roots_char_repetition", 0.106),
        ("roots", "ur", "roots_word_repetition", 0.5),
        ("roots", "zh", "roots_many_words", 1_000_000),
        ("roots", "sv", "roots_few_words", 10),
        ("ccnet", "sv", "ccnet_short_doc", 300),
        ("fineweb", "de", "top_2_gram", 0.2),
        ("fineweb2", "de", "top_2_gram", 0.169),
        ("fineweb2", "ko", "gopher_short_doc", 50),
        ("polylm", "ko", "gopher_short_doc", 30),
        ("gopher", "th", "dup_line_frac", 0.3),
        ("gopher", "sv", "gopher_enough_stop_words", None),
        ("gopher", "de", "gopher_enough_stop_words", 2),
    ],
)
def test_thresholds_are_those_that_were_published(name, language, rule, threshold):
    assert rule_set(name, language).thresholds[rule] == threshold


def test_of_a_rule_that_several_sets_have_the_strictest_threshold_counts():
    both = table(["gopher", "fineweb2"])
    assert both["de"]["top_2_gram"] == 0.169
    assert both["pt"]["top_2_gram"] == 0.2  # 0.371 in FineWeb2
    assert both["fr"]["gopher_below_avg_threshold"] == 3  # 2 in FineWeb2
    assert both["fr"]["dup_para_frac"] == 0.3  # off in FineWeb2
    assert both["fr"]["line_punct_ratio"] == 0.1  # not in Gopher
    assert table(["fineweb2", "gopher"]) == both


def test_a_second_set_does_not_keep_a_language_from_its_derived_thresholds():
    """ROOTS has thresholds for Hindi, and ours none: those of ours are derived, whichever sets stand beside it."""
    both = TextParams(rules="polylm,roots")
    assert both.thresholds["hi"] == TextParams(rules="roots").thresholds["hi"]
    assert both.thresholds["*"].keys() > both.thresholds["hi"].keys()
    assert "top_2_gram" in both.thresholds["de"], "published: not derived"
    assert not table(["roots", "paper"])["en"].keys() & table(["paper"])["*"].keys() - table(["roots"])["*"].keys()


def test_no_set_hides_what_another_says():
    text = GOOD.replace(". ", "...\n") + f"\n{LINE}" * 30 + "\nAnd { here } it ends."
    alone = {name: verdicts([text], TextParams(rules=(name,)))[0] for name in ("polylm", "c4", "roots", "paper")}
    together = TextParams(rules=tuple(alone))
    assert verdicts([text], together)[0] is not None
    off = {language: dict.fromkeys(own) for language, own in together.thresholds.items()}
    for name, reason in alone.items():
        only = {language: own | {reason: table([name])["*"].get(reason)} for language, own in off.items()}
        assert verdicts([text], TextParams(rules=tuple(alone), thresholds=only)) == [reason]


def test_a_recipe_names_sets_by_a_word_and_what_else_is_set_stands_over_them(tmp_path):
    sources = [f"one={tmp_path}"]
    chosen = resolve("corpus", sources, ["text.thresholds.en.dup_line_frac=0.11", "text.rules=gopher"]).text
    assert chosen.rules == ("gopher",)
    assert chosen.thresholds["en"] == table(["gopher"])["en"] | {"dup_line_frac": 0.11}
    several = resolve("corpus", sources, ['text.rules=["c4","roots"]', "text.thresholds.sv.roots_few_words=5"]).text
    assert several == TextParams(rules="c4,roots", thresholds=table(["c4", "roots"]) | {"sv": {"roots_few_words": 5}})
    assert TextParams.model_validate_json(several.model_dump_json()) == several


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("text.rules=gofer", "no rule set 'gofer': there are polylm, fineweb"),
        ("text.thresholds.en.nothing=1", "no rule 'nothing': there are dup_para_frac"),
        ("text.rules=[]", "at least 1"),
        ("text.rules=5", "rules are 5, expected names of rule sets"),
        ("text.rules=[1]", "rules are [1], expected names of rule sets"),
    ],
)
def test_a_set_or_rule_that_does_not_exist_is_named(change, message, tmp_path):
    with pytest.raises(ValueError, match=message.replace("[", "\\[")):
        resolve("corpus", [f"one={tmp_path}"], [change])


def test_swedish_prose_passes_what_is_published_for_all_languages():
    texts = [swedish.prose(seed) for seed in range(20)]
    assert verdicts(texts, TextParams(rules=("roots", "ccnet")), "sv") == [None] * 20
