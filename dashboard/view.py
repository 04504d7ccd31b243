"""Pages from templates: everything escaped, no name undefined, numbers written one way everywhere."""

import math
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, TypeGuard
from urllib.parse import quote, urlencode

from fastapi import Request
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import HTMLResponse

from polylm.dashboard.text import foreign, plain, prose, shortened, visible
from polylm.tasks.maintenance.run_records import Run

RUN_PAGES: tuple[tuple[str, str, tuple[str, ...]], ...] = (  # title, path behind /run/{run}, stages that it shows
    ("Run", "", ()),
    ("Documents", "/search", ()),
    ("Training", "/training", ("pretrain", "finetune")),
    ("Instructions", "/instructions", ("generate_instructions",)),
    ("Evaluation", "/evaluation", ("evaluate", "tabulate", "write_samples")),
)


def page(request: Request, template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
    """Render a template as an answer. Give `run=` on pages of a run: the bar on top then has its other pages."""
    text = _templates.get_template(template).render(
        path=request.url.path,
        query=request.url.query,
        prefect_url=request.app.state.prefect_url,
        top=_top(request, values.get("run")),
        **values,
    )
    return HTMLResponse(text, status)


def compile_templates() -> None:
    """Compile all templates, so that the first page need not wait for its own."""
    for name in _templates.list_templates(["html"]):
        _templates.get_template(name)


def url(*segments: str, **query: Any) -> str:
    """An address from its segments, each quoted: `url("run", run.id, "stage", name, page=2)`; no value, no parameter."""
    given = {name: value for name, value in query.items() if value not in (None, "")}
    return "/" + "/".join(quote(str(part), safe="") for part in segments) + (f"?{urlencode(given)}" if given else "")


def count(value: float | None) -> str:
    """1234567 -> 1,234,567."""
    return f"{value:,.0f}" if _is_finite(value) else "–"


def short_count(value: float | None) -> str:
    """1234567 -> 1.23 M; for axes and narrow columns."""
    return _scaled(value, 1_000, ("", " k", " M", " G", " T"))


def size(value: float | None) -> str:
    """Bytes in powers of 1,000: 1234567 -> 1.23 MB."""
    return _scaled(value, 1_000, (" B", " kB", " MB", " GB", " TB", " PB"))


def percent(value: float | None) -> str:
    """A share: 0.1234 -> 12.3 %; never 0.0 % of something, never 100.0 % of not everything."""
    if not _is_finite(value):
        return "–"
    if 0 < value < 0.0005:
        return "< 0.1 %"
    return "> 99.9 %" if 0.9995 <= value < 1 else f"{value:.1%}".replace("%", " %")


def number(value: float | None) -> str:
    """A measurement to four significant digits."""
    if not _is_finite(value):
        return "–"
    told = f"{value:,.0f}" if abs(value) >= 10_000 or float(value).is_integer() else f"{value:.4g}"
    return told.replace("-", "−", 1) if value < 0 else told


def signed(value: float) -> str:
    """A difference of figures to three decimals: −0.033, +0.008, ±0.000."""
    told = f"{abs(value):.3f}"
    return f"{'±' if not float(told) else '+' if value > 0 else '−'}{told}"


def duration(seconds: float | None) -> str:
    """75.2 -> 1 min 15 s."""
    if not _is_finite(seconds):
        return "–"
    if seconds < 60:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def moment(value: datetime | None) -> str:
    """A time in UTC, to the minute."""
    return "–" if value is None else f"{value:%Y-%m-%d %H:%M}"


def words(name: str) -> str:
    """A name of the code as people read it: `too_short` -> `too short`. A damaged store's names hide nothing either."""
    return plain(name.replace("_", " "))


def _is_finite(value: float | None) -> TypeGuard[float]:
    """Whether there is a number that can be written; an integer of a damaged file may be larger than any float."""
    try:
        return value is not None and math.isfinite(value)
    except OverflowError:
        return False


def _scaled(value: float | None, base: int, units: tuple[str, ...]) -> str:
    if not _is_finite(value):
        return "–"
    scaled, step = float(value), 0
    while abs(scaled) >= base and step < len(units) - 1:
        scaled, step = scaled / base, step + 1
    digits = f"{scaled:.3g}" if abs(scaled) < 1_000 else f"{scaled:,.0f}"
    return f"{digits}{units[step]}"


def _top(request: Request, run: Run | None) -> list[tuple[str, str, bool]]:
    """The pages of a run that have something to show, now or later: title, address, and whether it is this one."""
    if run is None:
        return []
    there = [(title, url("run", run.id) + path) for title, path, stages in RUN_PAGES if _shows(run, stages)]
    return [(title, address, request.url.path == address) for title, address in there]


def _shows(run: Run, stages: Sequence[str]) -> bool:
    """Whether a run has one of some stages, or goes on to them: one of the data stages alone does not."""
    if not stages or any(run.entries(stage) for stage in stages):
        return True
    return run.state not in ("completed", "damaged") and run.recipe.get("flow") != "corpus"


def _environment() -> Environment:
    loader = FileSystemLoader(Path(__file__).parent / "templates")
    made = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    filters = (
        count,
        short_count,
        size,
        percent,
        number,
        duration,
        moment,
        words,
        foreign,
        plain,
        prose,
        shortened,
        signed,
        visible,
    )
    made.filters.update({function.__name__: function for function in filters})
    made.globals["url"] = url
    return made


_templates = _environment()
