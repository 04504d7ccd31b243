"""The journals of a training and the tables made from them."""

import pyarrow.parquet as pq

from polylm.model.metrics import RunLog, StepMetrics


def metrics(step, segment="one", skipped=None, **rows):
    return StepMetrics(
        step=step,
        segment=segment,
        loss=1.5,
        z_loss=0.0,
        tokens=30,
        grad_norm=1.0,
        rate=1e-3,
        seconds=0.5,
        tokens_per_second=60.0,
        skipped=skipped,
        languages={"de": (20.0, 10), "th": (25.0, 20)},
        rows=rows or {"de/book": 2},
    )


def test_a_resume_rewinds_so_that_each_step_is_there_once(tmp_path):
    log = RunLog(tmp_path)
    for step in (1, 2, 3, 4):
        log.step(metrics(step))
    log.rewind(2)
    for step in (3, 4):
        log.step(metrics(step, "two", skipped="loss spike" if step == 4 else None))
    log.write_tables()
    table = pq.read_table(tmp_path / "metrics.parquet")
    assert table["step"].to_pylist() == [1, 2, 3, 4]
    assert table["segment"].to_pylist() == ["one", "one", "two", "two"]
    assert table["skipped"].to_pylist() == [None, None, None, "loss spike"]
    assert log.steps_skipped() == 1


def test_a_line_that_a_kill_cut_is_dropped(tmp_path):
    log = RunLog(tmp_path)
    log.step(metrics(1))
    with (tmp_path / "metrics.jsonl").open("a") as out:
        out.write('{"step": 2, "los')
    log.rewind(5)
    log.step(metrics(2))
    log.write_tables()
    assert pq.read_table(tmp_path / "metrics.parquet")["step"].to_pylist() == [1, 2]


def test_languages_and_cells_have_their_own_rows(tmp_path):
    log = RunLog(tmp_path)
    log.step(metrics(1, **{"de/book": 3, "th/web": 1}))
    log.step(metrics(2, "two", **{"de/book": 2}))
    log.event("start", 0, layout={"zero_stage": 1})
    log.write_tables()
    languages = pq.read_table(tmp_path / "metrics_by_language.parquet").to_pylist()
    assert languages[1] == {"step": 1, "language": "th", "nll": 25.0, "tokens": 20}
    assert len(languages) == 4
    cells = pq.read_table(tmp_path / "metrics_by_cell.parquet").to_pylist()
    assert [(row["step"], row["cell"], row["rows"]) for row in cells] == [
        (1, "de/book", 3),
        (1, "th/web", 1),
        (2, "de/book", 2),
    ]
    assert log.rows_delivered() == {"one": {"de/book": 3, "th/web": 1}, "two": {"de/book": 2}}
    (event,) = pq.read_table(tmp_path / "events.parquet").to_pylist()
    assert (event["event"], event["step"], event["detail"]) == ("start", 0, '{"layout": {"zero_stage": 1}}')


def test_a_run_without_a_step_still_has_its_tables(tmp_path):
    RunLog(tmp_path).write_tables()
    assert pq.read_table(tmp_path / "metrics.parquet").num_rows == 0
