import math

import pyarrow.parquet as pq
import pytest

from polylm.tasks.evaluation.table import (
    AVERAGE,
    EVALUATION,
    NOT_RUN,
    TableParams,
    average,
    make_rows,
    render_table,
    report_evaluation,
    tabulate,
)


def row(model, language, value, stderr=0.03, **rest):
    fixed = {
        "category": "understanding",
        "task": "XCOPA",
        "metric": "acc",
        "chance": 0.5,
        "n": 100,
        "note": "zero-shot",
    }
    return fixed | {"model": model, "language": language, "value": value, "stderr": stderr} | rest


ROWS = [row("base", "it", 0.5), row("tuned", "it", 0.61), row("base", AVERAGE, 0.55), row("tuned", AVERAGE, 0.6)]


def test_an_average_has_the_error_of_its_items():
    italian, thai = {"a": 0.03, "b": -0.03}, {"a": 0.04, "c": -0.01}
    mean = average([row("base", "it", 0.4, deviations=italian), row("base", "th", 0.6, deviations=thai)])
    assert mean["value"] == pytest.approx(0.5)
    assert mean["stderr"] == pytest.approx(math.hypot(0.03 + 0.04, 0.03, 0.01) / 2)
    assert (mean["n"], mean["language"], mean["chance"]) == (200, AVERAGE, 0.5)


def test_models_stand_side_by_side_with_chance_and_error():
    lines = render_table(make_rows(ROWS)).splitlines()
    assert "| task | metric | language | chance | n | base | tuned |" in lines
    assert "| XCOPA | acc | it | 0.500 | 100 | 0.500 ± 0.030 | 0.610 ± 0.030 |" in lines
    assert lines.index("| XCOPA | acc | mean | 0.500 | 100 | 0.550 ± 0.030 | 0.600 ± 0.030 |") < lines.index(
        "| XCOPA | acc | it | 0.500 | 100 | 0.500 ± 0.030 | 0.610 ± 0.030 |"
    )


def test_what_was_not_run_says_why():
    table = tabulate(TableParams(), {"understanding": make_rows(ROWS)})
    assert table.schema == EVALUATION
    text = render_table(table)
    for category, task, reason in NOT_RUN:
        assert f"- {task} ({category}): not run: {reason}" in text


def test_the_order_of_jobs_does_not_change_the_table():
    jobs = {"b": make_rows(ROWS[:2]), "a": make_rows(ROWS[2:])}
    assert tabulate(TableParams(), jobs).equals(tabulate(TableParams(), dict(reversed(jobs.items()))))


def test_a_figure_of_two_evaluations_stands_once():
    before, after = {"bits": make_rows(ROWS[:1])}, {"bits": make_rows(ROWS)}
    table = tabulate(TableParams(), before, after)
    assert table.num_rows == len(ROWS) + len(NOT_RUN)
    assert table.slice(0, len(ROWS)).equals(make_rows(ROWS))


def test_tables_may_come_as_files(tmp_path):
    table = make_rows(ROWS)
    pq.write_table(table, tmp_path / "job.parquet")
    assert tabulate(TableParams(), {"a": tmp_path / "job.parquet"}).equals(tabulate(TableParams(), {"a": table}))


def test_a_short_report_has_averages_only(tmp_path, make_workspace):
    work = make_workspace(tmp_path / "report")
    report_evaluation(TableParams(per_language=False), make_rows(ROWS), work=work)
    text = (work.out / "evaluation.md").read_text()
    assert "| mean |" in text
    assert "| it |" not in text


def test_numbers_are_rounded_so_that_machines_agree():
    assert make_rows([row("base", "it", 1 / 3)])["value"].to_pylist() == [0.3333]
