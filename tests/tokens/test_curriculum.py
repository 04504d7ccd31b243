from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polylm.model.config import Segment
from polylm.model.sampler import Sampler
from polylm.tasks.stage import StageError
from polylm.tasks.tokens.curriculum import (
    CURRICULUM,
    CurriculumParams,
    SegmentParams,
    apportion,
    deviations,
    non_english_share,
    plan_curriculum,
    planned_rows,
)
from polylm.tasks.tokens.pack import Documents, pack_documents

CELLS = {"en/doc": 400, "en/web": 100, "de/doc": 200, "de/book": 50, "th/doc": 10, "de-en/pair": 20, "en-de/pair": 20}
STAGES = (
    SegmentParams(name="stage1", steps=50, non_english=0.30, pairs=0.02),
    SegmentParams(name="stage2", steps=37, non_english=0.60, pairs=0.05),
)
PARAMS = CurriculumParams(segments=STAGES, batch=8)


def table_of(cells):
    names = [cell for cell, rows in cells.items() for _ in range(rows)]
    return pa.table({"cell": pa.array(names, pa.string()), "length": pa.array([17] * len(names), pa.int32())})


def lines(plan, **wanted):
    return [row for row in plan.to_pylist() if all(row[name] == value for name, value in wanted.items())]


def test_planned_rows_are_steps_times_batch_and_the_shares_are_within_one_row():
    plan = plan_curriculum(PARAMS, table_of(CELLS))
    for stage in STAGES:
        rows = planned_rows(plan)[stage.name]
        total = stage.steps * 8
        assert sum(rows.values()) == total
        assert abs(non_english_share(plan, rows, stage.name) - stage.non_english) * total <= 1
        assert abs(sum(count for cell, count in rows.items() if cell.endswith("/pair")) - stage.pairs * total) <= 1


@settings(max_examples=100, deadline=None)
@given(
    cells=st.dictionaries(
        st.sampled_from(["en/a", "en/b", "de/a", "th/a", "th/b", "ja/a", "en-ja/pair", "ja-en/pair"]),
        st.integers(1, 10**6),
    ),
    steps=st.integers(1, 10**6),
    batch=st.integers(1, 4096),
    non_english=st.floats(0, 1),
    alpha=st.floats(0, 1),
)
def test_any_mixture_is_planned_to_the_row(cells, steps, batch, non_english, alpha):
    cells = {"en/c": 3, "de/c": 5, "en-de/pair": 2} | cells
    table = pa.table({"cell": list(cells), "length": pa.array([9] * len(cells), pa.int32())})
    segment = SegmentParams(name="only", steps=steps, non_english=non_english, pairs=non_english / 3)
    plan = plan_curriculum(CurriculumParams(segments=(segment,), batch=batch, alpha=alpha), table)
    rows = planned_rows(plan)["only"]
    assert sum(rows.values()) == steps * batch
    assert abs(non_english_share(plan, rows, "only") - non_english) * steps * batch <= 1 + 1e-3
    assert min(rows.values()) > 0


@given(weights=st.lists(st.floats(0.001, 1000), min_size=1, max_size=20), total=st.integers(0, 10**9))
def test_largest_remainders_give_the_whole_and_are_off_by_less_than_one(weights, total):
    parts = apportion(weights, total)
    assert sum(parts) == total
    assert all(abs(part - weight / sum(weights) * total) < 1.001 for part, weight in zip(parts, weights, strict=True))


def test_alpha_lifts_small_languages_and_cells_keep_their_part_of_a_language():
    plan = plan_curriculum(PARAMS, table_of(CELLS))
    german, book, thai = (lines(plan, segment="stage2", cell=cell)[0] for cell in ("de/doc", "de/book", "th/doc"))
    assert german["rows_planned"] / book["rows_planned"] == pytest.approx(4, abs=0.2)
    ratio = (german["rows_planned"] + book["rows_planned"]) / thai["rows_planned"]
    assert ratio == pytest.approx(25**0.3, rel=0.05)
    even = plan_curriculum(PARAMS.model_copy(update={"alpha": 1.0}), table_of(CELLS))
    assert lines(even, segment="stage2", cell="th/doc")[0]["rows_planned"] < thai["rows_planned"]


def test_tokens_epochs_and_warnings_follow_from_the_rows():
    plan = plan_curriculum(PARAMS, table_of(CELLS))
    assert plan.schema == CURRICULUM
    first, second = lines(plan, cell="th/doc")
    assert first["tokens_available"] == 170
    assert first["tokens_planned"] == 17 * first["rows_planned"]
    assert first["epochs"] == first["rows_planned"] / 10
    assert second["epochs_so_far"] == (first["rows_planned"] + second["rows_planned"]) / 10
    assert second["warning"] == f"th/doc is seen {second['epochs_so_far']:.1f} times by then, more than 4"
    assert lines(plan, cell="en/doc")[1]["warning"] is None


def test_rows_are_counted_over_tables_files_and_many_files(tmp_path):
    paths = {}
    for name, cells in {"a": {"en/doc": 300, "de/doc": 250}, "b": {"en/doc": 200}}.items():
        paths[name] = tmp_path / f"{name}.parquet"
        pq.write_table(table_of(cells), paths[name])
    pairs = table_of({"en-de/pair": 40})
    pq.write_table(pairs, tmp_path / "pairs.parquet")
    whole = plan_curriculum(PARAMS, table_of({"en/doc": 500, "de/doc": 250, "en-de/pair": 40}))
    assert plan_curriculum(PARAMS, paths, pairs).equals(whole)
    assert plan_curriculum(PARAMS, paths, tmp_path / "pairs.parquet").equals(whole)


def test_another_language_may_be_the_one_that_the_shares_are_measured_against():
    plan = plan_curriculum(PARAMS.model_copy(update={"english": "de"}), table_of(CELLS))
    assert {row["cell"] for row in lines(plan, group="english")} == {"de/doc", "de/book"}


@pytest.mark.parametrize(
    ("present", "message"),
    [
        (["en/doc", "de/doc"], r"stage1 wants 2.00% of its rows with bilingual pairs.*change its pairs"),
        (
            ["de/doc", "de-en/pair"],
            r"stage1 wants 70.00% of its rows in en, but no packed row is \(cells: de-en/pair, de/doc",
        ),
        (
            ["en/doc", "de-en/pair"],
            r"stage1 wants 28.00% of its rows in a language other than en.*change its non_english",
        ),
    ],
)
def test_a_share_that_nothing_can_fill_is_named(present, message):
    with pytest.raises(StageError, match=message):
        plan_curriculum(PARAMS, table_of({cell: CELLS[cell] for cell in present}))


def test_more_pairs_than_text_that_is_not_english_is_refused():
    with pytest.raises(ValueError, match=r"pairs = 0.5 is more than non_english = 0.3"):
        SegmentParams(name="stage1", steps=1, non_english=0.3, pairs=0.5)


def test_two_segments_of_one_name_are_refused():
    with pytest.raises(ValueError, match="not all different"):
        CurriculumParams(segments=(STAGES[0], STAGES[0]))


def test_the_sampler_delivers_what_was_planned(tmp_path):
    context, files = 8, []
    for cell, rows in CELLS.items():
        documents = Documents.of(
            tokens=pa.array([[1, 2, 3, 4, 5, 6, 7]] * rows, pa.list_(pa.int32())),
            docs=pa.array(range(rows), pa.int64()),
            languages=pa.array(["xx"] * rows),
            cells=pa.array([cell] * rows),
        )
        files.append(str(tmp_path / f"{len(files)}.parquet"))
        pq.write_table(pack_documents(documents, context=context, separator=0, seed=0), files[-1], row_group_size=256)
    plan = plan_curriculum(PARAMS, *(pq.read_table(file) for file in files))
    planned = planned_rows(plan)
    segments = [
        Segment(name=stage.name, steps=stage.steps, files=files, shares=planned[stage.name]) for stage in STAGES
    ]
    sampler = Sampler(segments, context=context, batch=PARAMS.batch, seed=1)
    delivered = {stage.name: Counter() for stage in STAGES}
    for step in range(STAGES[0].steps + STAGES[1].steps):
        name = STAGES[sampler.segment_of_step(step)].name
        delivered[name].update(place.cell for place in sampler.rows_of_step(step))
    assert deviations(plan, delivered) == []
    for stage in STAGES:
        share = non_english_share(plan, delivered[stage.name], stage.name)
        assert abs(share - stage.non_english) * stage.steps * PARAMS.batch <= 1


def test_a_deviation_is_said_by_segment_and_cell():
    plan = plan_curriculum(PARAMS, table_of(CELLS))
    delivered = planned_rows(plan)
    wanted = delivered["stage2"]["de/doc"]
    delivered["stage2"]["de/doc"] += 1
    assert deviations(plan, delivered) == [f"stage2: de/doc planned {wanted} rows, delivered {wanted + 1}"]
