"""Swedish prose from a small grammar, for tests of a language that nobody published thresholds for."""

import random

WHO = [
    "flickan",
    "pojken",
    "läraren",
    "gubben",
    "grannen",
    "bonden",
    "fiskaren",
    "farmor",
    "systern",
    "drottningen",
    "doktorn",
    "katten",
]
DID = [
    "såg",
    "köpte",
    "hittade",
    "glömde",
    "målade",
    "lagade",
    "älskade",
    "bar",
    "tvättade",
    "sålde",
    "gömde",
    "ritade",
]
HOW = ["gamla", "röda", "lilla", "tunga", "vackra", "trasiga", "gröna", "mjuka", "nya", "stora"]
WHAT = [
    "båten",
    "boken",
    "stolen",
    "huset",
    "brödet",
    "klockan",
    "väskan",
    "lampan",
    "tröjan",
    "kartan",
    "skålen",
    "brevet",
]
WHERE = ("i skogen", "på torget", "vid sjön", "under bordet", "i köket", "på ön", "bakom kyrkan", "i staden", "hos oss")
WHEN = ("i går", "på kvällen", "förra veckan", "när det regnade", "efter skolan", "om sommaren", "som vanligt")
ALSO = (
    "och det var inte för sent",
    "men ingen av dem har sagt något",
    "så att alla kunde se det",
    "för att det är kallt",
)


def prose(seed, sentences=16):
    """Paragraphs of different sentences."""
    rng = random.Random(seed)
    said = [_sentence(rng) for _ in range(sentences)]
    return "\n\n".join(" ".join(said[at : at + 5]) for at in range(0, sentences, 5))


def _sentence(rng):
    pick = rng.choice
    return pick(
        (
            f"{pick(WHO).capitalize()} {pick(DID)} den {pick(HOW)} {pick(WHAT)} {pick(WHERE)}, {pick(ALSO)}.",
            f"Det är {pick(WHO)} som {pick(DID)} {pick(WHAT)} {pick(WHEN)} och {pick(DID)} den {pick(WHERE)}.",
            f"{pick(WHEN).capitalize()} {pick(DID)} {pick(WHO)} en {pick(HOW)[:-1]} sak som {pick(WHO)} inte {pick(DID)}.",
            f"Att {pick(WHO)} {pick(DID)} {pick(WHAT)} {pick(WHERE)} vet jag {pick(WHEN)}, {pick(ALSO)}.",
        )
    )


def references(count=140):
    """Clean documents."""
    return [{"id": f"clean-{n}", "text": prose(n, 12 + n % 9)} for n in range(count)]


def records(web=40):
    """Web pages that read well, and web pages that say one line again and again."""
    pages = [{"id": f"web-{n}", "kind": "web", "text": prose(1_000 + n)} for n in range(web)]
    line = "Klicka här för att se hela bilden av båten i hamnen."
    spam = [{"id": f"spam-{n}", "kind": "web", "text": prose(2_000 + n, 6) + f"\n{line}" * 30} for n in range(5)]
    return pages + spam
