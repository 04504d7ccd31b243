"""A seeded part of `make torture` that is quick enough for every day, on the store of the data stages."""

import json
import random
import sys

import pytest
from samples import ROOT
from whole import Whole, contents

sys.path.append(str(ROOT / "benchmarks"))

from torture import damage, hardship, kills
from torture.stores import files_of, say, unclear
from torture.table import Line, markdown

NO_SERVER = "http://127.0.0.1:9/v1"  # nothing up to `select` asks one


class Corpus(Whole):
    """The whole flow up to `select`."""

    def words(self, *more, **options):
        return super().words(*more, *(() if "--until" in more else hardship.CORPUS), **options)

    def copy(self, store, *, without=()):
        return Corpus(self.file, super().copy(store, without=without).store, self.server)


@pytest.fixture(scope="module")
def corpus(third, third_store):
    return Corpus(third, third_store, NO_SERVER)


@pytest.fixture(scope="module")
def expected(corpus):
    return contents(corpus.store)


def test_verify_names_every_damaged_file_with_its_stage_and_its_remedy(corpus, tmp_path):
    lines = damage.found_by_verify(corpus, tmp_path, flips=80, cuts=20, seed=1)
    assert [line.count for line in lines] == [80, 20]
    assert [line.lost for line in lines] == [[], []]


def test_no_run_uses_a_damaged_file(corpus, expected, tmp_path):
    line = damage.used_by_no_run(corpus, tmp_path, expected, runs=2, seed=1)
    assert (line.count, line.lost) == (2, [])


def test_edits_that_no_digest_shows_are_found_by_making_the_parts_again(corpus, tmp_path):
    line = damage.found_by_recompute(corpus, tmp_path, edits=2, seed=1)
    assert (line.count, line.lost) == (2, [])


def test_a_run_with_too_few_descriptors_says_so_and_the_next_one_goes_on(corpus, expected, tmp_path):
    line = hardship.descriptors(corpus, tmp_path, expected, counts=(16,))
    assert (line.count, line.lost) == (1, [])


def test_killed_at_seeded_moments_the_same_command_ends_with_the_same_content(corpus, expected, tmp_path):
    whole_run = kills.Kills(corpus, expected, tmp_path, 2, random.Random(7), prefect_share=0)
    lines = whole_run.all()
    assert whole_run.done == 2 == sum(line.count for line in lines[:-1])
    assert lines[-1].count >= 1
    assert [line.lost for line in lines] == [[]] * len(lines)


def test_every_kind_of_file_that_a_store_holds_can_be_damaged(corpus):
    here = {kind for kind, paths in files_of(corpus.store).items() if paths}
    assert here >= {"part", "model", "folder's manifest", "manifest", "run record"}


def test_a_command_that_ends_with_a_trace_or_without_a_word_is_no_clear_end():
    shout = "import sys; print('polylm: why', file=sys.stderr); sys.exit(2)"
    assert unclear(say([sys.executable, "-c", shout])) is None
    assert "does not name" in unclear(say([sys.executable, "-c", shout]), names="the file")
    assert "exited with 3" in unclear(say([sys.executable, "-c", "raise SystemExit(3)"]))
    assert "did not say why" in unclear(say([sys.executable, "-c", "raise SystemExit(1)"]))
    assert "a trace" in unclear(say([sys.executable, "-c", "1 / 0"]))


def test_the_table_counts_what_was_done_and_what_was_lost(capsys):
    line = Line("a kind", "a check")
    line.tell(None)
    line.tell("one thing")
    assert markdown([line]).splitlines()[-1] == "| a kind | 2 | a check | 1 |"
    assert "LOST in a kind: one thing" in capsys.readouterr().out
    assert json.dumps(line.lost) == '["one thing"]'
