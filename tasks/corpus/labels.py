"""What a fastText model's label says: the language by its shortest ISO 639 code, and the scripts it is written in.

Models name languages in different ways: lid.176 `__label__zh`, OpenLID and GlotLID `__label__zho_Hans`, `__label__cmn_Hani`.
All become `zh` here, so that recipes, thresholds and word lists hold for every model. Members of a macrolanguage that
ISO 639-1 names as a whole (Standard Arabic, Mandarin, Iranian Persian, ...) get its two letters.
"""

import functools
import re
from collections.abc import Iterable
from typing import NamedTuple

PREFIX = "__label__"


class Label(NamedTuple):
    language: str
    scripts: frozenset[str]  # of which its letters are; empty: not known


@functools.cache
def parse_label(label: str) -> Label:
    """The language and scripts of a label; one of another form than `en`, `eng`, `eng_Latn` is its own language."""
    name = label.removeprefix(PREFIX)
    match = _FORM.fullmatch(name)
    if not match:
        return Label(name, frozenset())
    code, script = match.groups()
    language = _ALPHA_2.get(code, code) if script or code not in _WIKIPEDIA else code
    return Label(language, _MIXED.get(script, frozenset({script})) if script else scripts_of(language))


def checked_codes(codes: Iterable[str]) -> None:
    """Raise ValueError where a code is written otherwise than labels are here: nothing would ever be equal to it."""
    for code in codes:
        if (meant := parse_label(code.lower() if _FORM.fullmatch(code.lower()) else code).language) != code:
            raise ValueError(f"{code!r} is no language here; labels say {meant!r}")


def scripts_of(language: str) -> frozenset[str]:
    """The scripts of a language of lid.176 or of ISO 639-1; empty for others."""
    return _SCRIPTS.get(language, frozenset())


# ISO 639-1 by ISO 639-3, then members by their macrolanguage (ISO 639-3's table of 2025, and the choice of lid.176: `no`).
_ALPHA_2_TEXT = """
aar:aa abk:ab afr:af ave:ae aka:ak amh:am ara:ar arg:an asm:as ava:av aym:ay aze:az bak:ba bam:bm bel:be ben:bn bis:bi bod:bo
bos:bs bre:br bul:bg cat:ca ces:cs cha:ch che:ce chu:cu chv:cv cor:kw cos:co cre:cr cym:cy dan:da deu:de div:dv dzo:dz
ell:el eng:en epo:eo est:et eus:eu ewe:ee fao:fo fas:fa fij:fj fin:fi fra:fr fry:fy ful:ff gla:gd gle:ga glg:gl glv:gv
grn:gn guj:gu hat:ht hau:ha hbs:sh heb:he her:hz hin:hi hmo:ho hrv:hr hun:hu hye:hy ibo:ig ido:io iii:ii iku:iu ile:ie
ina:ia ind:id ipk:ik isl:is ita:it jav:jv jpn:ja kal:kl kan:kn kas:ks kat:ka kau:kr kaz:kk khm:km kik:ki kin:rw kir:ky
kom:kv kon:kg kor:ko kua:kj kur:ku lao:lo lat:la lav:lv lim:li lin:ln lit:lt ltz:lb lub:lu lug:lg mah:mh mal:ml mar:mr
mkd:mk mlg:mg mlt:mt mon:mn mri:mi msa:ms mya:my nau:na nav:nv nbl:nr nde:nd ndo:ng nep:ne nld:nl nno:nn nor:no nya:ny
oci:oc oji:oj ori:or orm:om oss:os pan:pa pli:pi pol:pl por:pt pus:ps que:qu roh:rm ron:ro run:rn rus:ru sag:sg san:sa
sin:si slk:sk slv:sl sme:se smo:sm sna:sn snd:sd som:so sot:st spa:es sqi:sq srd:sc srp:sr ssw:ss sun:su swa:sw swe:sv
tah:ty tam:ta tat:tt tel:te tgk:tg tgl:tl tha:th tir:ti ton:to tsn:tn tso:ts tuk:tk tur:tr twi:tw uig:ug ukr:uk urd:ur
uzb:uz ven:ve vie:vi vol:vo wln:wa wol:wo xho:xh yid:yi yor:yo zha:za zho:zh zul:zu
arb:ar cmn:zh pes:fa zsm:ms nob:no nb:no ekk:et lvs:lv swh:sw uzn:uz azj:az khk:mn plt:mg als:sq kmr:ku ydd:yi npi:ne
ory:or pbt:ps gaz:om ayr:ay fil:tl gug:gn
"""
_OTHER_CODES_TEXT = """
alb:sq arm:hy baq:eu bur:my chi:zh cze:cs dut:nl fre:fr geo:ka ger:de gre:el ice:is mac:mk mao:mi may:ms per:fa rum:ro slo:sk
tib:bo wel:cy
"""  # ISO 639-2's bibliographic codes, which libraries and subtitles use
_ALPHA_2 = dict(pair.split(":") for pair in f"{_ALPHA_2_TEXT} {_OTHER_CODES_TEXT}".split())
_WIKIPEDIA = frozenset(
    {"als"}
)  # lid.176's labels are Wikipedia's: there `als` is Alemannic, in ISO 639-3 Tosk Albanian

_FORM = re.compile(r"([a-z]{2,3})(?:[_-]([A-Z][a-z]{3}))?")
_MIXED = {  # ISO 15924's codes for what is written in several scripts, or in a variant of one
    "Jpan": frozenset({"Hani", "Hira", "Kana"}),
    "Kore": frozenset({"Hang", "Hani"}),
    "Hang": frozenset({"Hang", "Hani"}),
    "Hans": frozenset({"Hani"}),
    "Hant": frozenset({"Hani"}),
    "Zyyy": frozenset[str](),
}

_BY_SCRIPT = {
    "Arab": "ar arz azb ckb fa lrc mzn pnb ps sd ug ur ks ku ky kk uz az pa",
    "Cyrl": "av ba be bg bxr ce cv kk krc kv ky lez mhr mk mn mrj myv os ru rue sah sh sr tg tt tyv uk xal uz az ug tk ab cu",
    "Deva": "bh dty gom hi mai mr ne new sa sd ks bho pi",
    "Latn": """af als an ast az bar bcl br bs ca cbk ceb co cs cy da de diq dsb eml en eo es et eu fi fr frr fy ga gd gl gn
        gom gv hif hr hsb ht hu ia id ie ilo io is it jbo jv ku kw la lb li lmo lt lv mg min ms mt mwl nah nap nds nl nn no
        oc pam pfl pl pms pt qu rm ro sc scn sco sh sk sl so sq sr su sv sw tk tl tr tt uz vec vep vi vls vo wa war yo ug
        aa ak ay bi bm ch ee ff fj fo ha ho hz ig ik ki kg kj kl ln lg lu mh mi na nd ng nr nv ny om rn rw se sg sm sn ss
        st tn to ts tw ty ve wo xh za zu""",
    "Beng": "as bn bpy",
    "Hebr": "he yi",
    "Hani": "ja ko wuu yue zh",
    "Hira": "ja",
    "Kana": "ja",
    "Hang": "ko",
    "Bopo": "zh",
    "Ethi": "am ti",
    "Geor": "ka xmf",
    "Tibt": "bo dz",
    "Guru": "pa",
    "Mong": "mn",
    "Thaa": "dv",
    "Grek": "el",
    "Gujr": "gu",
    "Armn": "hy",
    "Khmr": "km",
    "Knda": "kn",
    "Laoo": "lo",
    "Mlym": "ml",
    "Mymr": "my",
    "Orya": "or",
    "Sinh": "si",
    "Taml": "ta",
    "Telu": "te",
    "Thai": "th",
    "Yiii": "ii",
    "Cans": "cr iu oj",
}


def _scripts_by_language() -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for script, languages in _BY_SCRIPT.items():
        for language in languages.split():
            found.setdefault(language, set()).add(script)
    return {language: frozenset(scripts) for language, scripts in found.items()}


_SCRIPTS = _scripts_by_language()
