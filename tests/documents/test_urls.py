"""Addresses on lists are rejected, by a reason that names the list and a value that names the entry."""

import numpy as np
import pyarrow as pa
import pytest
from samples import write_jsonl

from polylm.dashboard.gates import gate_jobs
from polylm.dashboard.queries import Queries
from polylm.deployments.settings import Settings
from polylm.tasks.documents.clean import CleanParams, clean
from polylm.tasks.documents.ingest import IngestParams, ingest
from polylm.tasks.documents.sources import Source, Sources
from polylm.tasks.documents.urls import UrlList, UrlParams, filter_urls
from polylm.tasks.keys import file_digest
from polylm.tasks.rules import judge
from polylm.tasks.run import File, adopt, run
from polylm.tasks.session import session
from polylm.tasks.store import StoreError
from polylm.tasks.why import why


def rules_of(urls, *lists):
    """The rules for addresses, of lists given as (name, kind, path)."""
    params = UrlParams(lists=[UrlList(name=n, kind=k, file=File(name="x", sha256="0")) for n, k, _ in lists])
    column = pa.array(urls, pa.string()).dictionary_encode()
    return filter_urls({"url": column}, params, *[path for _, _, path in lists])


def entries(urls, kind, content, folder):
    path = folder / "list.txt"
    path.write_text(content)
    rule = rules_of(urls, ("listed", kind, path))["listed"]
    assert rule.broken.tolist() == [value not in ("", None) for value in rule.value.to_pylist()]
    return rule.value.to_pylist()


def test_a_domain_stands_for_all_under_it_and_for_no_other(tmp_path):
    urls = [
        "https://bad.example/x",
        "http://www.bad.example:80/",
        "https://notbad.example/",
        "https://bad.example.org/",
        None,
        "http://[x",
    ]
    content = "# ours\nbad.example # since May\n0.0.0.0 other.example\n*.wild.example\nBÜCHER.example\n"
    assert entries(urls, "domains", content, tmp_path) == ["bad.example"] * 2 + ["", "", None, ""]
    more = ["https://a.wild.example/", "https://xn--bcher-kva.example/", "https://other.example/"]
    assert entries(more, "domains", content + "#\n", tmp_path / ".") == [
        "wild.example",
        "xn--bcher-kva.example",
        "other.example",
    ]


@pytest.mark.parametrize(
    ("listed", "hosts"),
    [
        ("bücher.de", ["bücher.de", "www.BÜCHER.de", "xn--bcher-kva.de", "bu\u0308cher.de.", "b%C3%BCcher.de", "%42%C3%BCcher.de", "ｂücher。de"]),
        ("xn--bcher-kva.de", ["bücher.de", "XN--BCHER-KVA.de"]),
        ("почта.рф", ["ПОЧТА.рф", "xn--80a1acny.xn--p1ai"]),
        ("straße.de", ["straße.de", "xn--strae-oqa.de"]),
        ("example.org", ["ｅxample.org"]),
    ],
)  # fmt: skip
def test_a_host_is_one_in_its_own_script_and_in_punycode(tmp_path, listed, hosts):
    urls = [f"https://{host}/a" for host in hosts]
    assert "" not in entries(urls, "domains", listed, tmp_path)
    assert "" not in entries(urls, "opt-out", f"Host: {listed}\nDisallow: /a", tmp_path / ".")


def test_hosts_that_only_look_alike_are_others(tmp_path):
    urls = ["https://bucher.de/", "https://xn--bcher-kva.com/", "https://strasse.de/", f"https://{'ü' * 300}.de/"]
    assert entries(urls, "domains", "bücher.de\nstraße.de", tmp_path) == [""] * 4


def test_a_word_is_found_in_a_host_in_punycode_too(tmp_path):
    puny = "казино.рф".encode("idna").decode()
    urls = ["https://казино.рф/", f"https://{puny}/", "https://xn--80aswg0b0.example/", "https://xn--\u00a0/"]
    assert entries(urls, "words", "казино", tmp_path) == ["казино", "казино", "", ""]


def test_a_word_is_whole_and_several_stand_together(tmp_path):
    urls = [
        "https://x.example/casino-online",
        "https://x.example/casinos",
        "https://casino.example/",
        "https://x.example/free_money",
        "https://x.example/money/free",
        "https://x.example/%E8%B5%8C%E5%9C%BA/",
    ]
    content = "Casino\nfree money\n赌场\n"
    assert entries(urls, "words", content, tmp_path) == ["casino", "", "casino", "free money", "", "赌场"]


def test_an_opt_out_is_read_as_robots_txt_is(tmp_path):
    content = """
Host: out.example
User-agent: *
Disallow: /

Host: part.example
Disallow: /private
Allow: /private/open
Disallow: /*.pdf$
Disallow:
"""
    urls = {
        "https://www.out.example/a": "out.example /",
        "https://part.example/": "",
        "https://part.example/private/x?y=1": "part.example /private",
        "https://part.example/private/open/x": "",
        "https://part.example/a/b.pdf": "part.example /*.pdf$",
        "https://part.example/a/b.pdf?x": "",
        "https://free.example/": "",
    }
    assert entries(list(urls), "opt-out", content, tmp_path) == list(urls.values())


@pytest.mark.parametrize(
    ("pattern", "matched", "others"),
    [
        ("/é", ["/é", "/%C3%A9", "/%c3%a9t"], ["/e", "/%E9"]),
        ("/%c3%a9", ["/é", "/%C3%A9"], ["/Ã©"]),
        ("/p", ["/p", "/%70", "/%70q"], ["/%50"]),
        ("/%7Ejoe", ["/~joe", "/%7ejoe"], []),
        ("/x%20y", ["/x y", "/x%20y"], ["/x+y"]),
        ("/a/b", ["/a/b"], ["/a%2Fb"]),
        ("/a%2fb", ["/a%2Fb"], ["/a/b"]),
        ("/s?q=%26", ["/s?q=%26"], ["/s?q=&"]),
        ("/c%2A.html", ["/c*.html", "/c%2a.html"], ["/cd.html"]),
        ("/p$q", ["/p$q", "/p%24q"], ["/p"]),
        ("/*é$", ["/aé", "/a%C3%A9"], ["/aéb"]),
        ("/100%", ["/100%", "/100%x"], ["/100"]),
    ],
)
def test_paths_are_compared_in_one_form_of_percent_encoding(tmp_path, pattern, matched, others):
    urls = [f"https://a.example{path}" for path in matched + others]
    found = entries(urls, "opt-out", f"Host: a.example\nDisallow: {pattern}", tmp_path)
    assert found == [f"a.example {pattern}"] * len(matched) + [""] * len(others)


def test_the_longer_pattern_is_so_in_octets(tmp_path):
    content = "Host: a.example\nDisallow: /ééé\nAllow: /%C3%A9%C3%A9\n"
    assert entries(["https://a.example/ééé"], "opt-out", content, tmp_path) == ["a.example /ééé"]


def test_other_lines_of_robots_txt_are_passed_over(tmp_path):
    content = "Sitemap: https://a.example/map.xml\nHost: a.example\nUser-agent: *\nCrawl-delay: 10\nDisallow: /x\nSITEMAP:/b\n"
    assert entries(["https://a.example/x", "https://a.example/map.xml"], "opt-out", content, tmp_path) == [
        "a.example /x",
        "",
    ]


@pytest.mark.parametrize(
    ("kind", "content", "message"),
    [
        (
            "domains",
            "good.example\nhttps://x.example/\n",
            "line 2: expected a domain such as example.org, found 'https",
        ),
        ("words", "fine\n--\n", "line 2: expected words, found '--'"),
        ("opt-out", "Disallow: /\n", "line 1: expected Host:, Allow: or Disallow:, found 'Disallow: /'"),
        ("domains", "\udcff", "a list is UTF-8 text, but byte 0 is none"),
    ],
)
def test_a_line_that_is_no_entry_is_named(tmp_path, kind, content, message):
    path = tmp_path / f"{kind}-{len(content)}.txt"
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(ValueError, match=f"{path.name}.*{message}"):
        rules_of(["https://x.example/"], ("listed", kind, path))


def test_the_first_list_that_matches_is_the_reason(tmp_path):
    for name, content in (("a", "bad.example"), ("b", "bad")):
        (tmp_path / name).write_text(content)
    rules = rules_of(
        ["https://bad.example/", "https://x.example/bad", "https://x.example/", None],
        ("our_domains", "domains", tmp_path / "a"),
        ("our_words", "words", tmp_path / "b"),
    )
    verdicts = judge(rules, np.array([False, False, False, True]), "filter_urls")
    assert verdicts.to_pylist() == ["our_domains", "our_words", None, None]


def test_two_lists_of_one_name_are_an_error():
    one = UrlList(name="x", kind="words", file=File(name="x", sha256="0"))
    with pytest.raises(ValueError, match="lists have the same name: x, x"):
        UrlParams(lists=(one, one))


def test_an_opt_out_works_backwards_and_only_its_gate_is_made_again(tmp_path):
    """A new edition of a list, on documents that are there."""
    records = [{"text": f"text {n}", "url": f"https://site{n % 3}.example/{n}"} for n in range(60)]
    source = Source(path=str(write_jsonl(tmp_path / "x.jsonl", records)))

    def corpus(edition, content):
        path = tmp_path / edition
        path.write_text(content)
        file = File(name=edition, sha256=file_digest(path))
        settings = Settings(store=tmp_path / "store", workers=0, models=tmp_path)
        with session(settings, name="x") as here:
            raw = run(ingest, IngestParams(), Sources({"s": source}))
            run(clean, CleanParams(), raw)
            lists = UrlParams(lists=(UrlList(name="opted_out", kind="opt-out", file=file),))
            run(filter_urls, lists, raw.without("text"), adopt(file))
        return {report.stage: (report.reasons, report.built) for report in here.reports}

    first = corpus("may", "Host: nobody.example\nDisallow: /\n")
    second = corpus("june", "Host: site1.example\nDisallow: /\n")
    assert first["filter_urls"][0] == {}
    assert second["filter_urls"][0] == {"opted_out": 20}
    assert [stage for stage, (_, built) in second.items() if built] == ["filter_urls"]
    here = Queries(Settings(store=tmp_path / "store", models=tmp_path))
    gate = here.entry(here.run(max((tmp_path / "store" / "runs").iterdir()).stem), "filter_urls")
    [job] = gate_jobs(here, gate)
    asked = [why([job], row, here.store)[0].verdict == "broken" for row in range(60)]
    assert asked == [reason is not None for reason in here.part(gate)["rejected_because"].to_pylist()]
    (tmp_path / "june").write_text("")
    with pytest.raises(StoreError, match="june is not what it was given"):
        gate_jobs(here, gate)
