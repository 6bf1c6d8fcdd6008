"""The page: one self-contained HTML file that says everything a run said.

Tables, figures and sentences are HTML made here, so that the page reads, prints and is searched without a script; the script
(``web/``) only draws charts from the embedded columns and sorts tables. A content security policy forbids every request.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from sofa_otel.core.errors import MissingExtraError
from sofa_otel.core.names import IterationKind, Phase
from sofa_otel.core.report import CorrelationItem, Report, Swarm
from sofa_otel.dashboards.report import payload, thin, view

if TYPE_CHECKING:
    from jinja2 import Environment

SPARK = (96, 20)
"""Size of a sparkline in pixels."""


def render_page(report: Report) -> str:
    """The report as one HTML document.

    Raises:
        MissingExtraError: jinja2 is not installed (extra ``run``).
    """
    data = msgspec.json.encode(payload.chart_data(report)).decode()
    return _environment().get_template("page.html.j2").render(_context(report), data=_inert(data))


def _environment() -> Environment:
    try:
        import jinja2
        from markupsafe import Markup
    except ImportError as error:
        raise MissingExtraError("run", "the HTML page") from error
    web = files("sofa_otel.dashboards.report").joinpath("web")

    def finalize(value: object) -> object:
        return value if isinstance(value, Markup) else "" if value is None else view.glue(view.clean(value))

    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined, finalize=finalize,
        loader=jinja2.FunctionLoader(lambda name: web.joinpath(name).read_text("utf-8")),
    )  # fmt: skip
    filters = (view.seconds, view.percent, view.number, view.change, view.quantity, view.plural, view.gain, view.clean, view.slug)
    environment.filters |= {function.__name__: function for function in filters}
    environment.globals |= {
        "script": Markup(web.joinpath("dist/report.js").read_text("utf-8")),  # noqa: S704  our own bundle
        "style": Markup(web.joinpath("dist/report.css").read_text("utf-8")),  # noqa: S704
        "palette": Markup(palette_css()),  # noqa: S704
        "spark": lambda values: Markup(spark_path(values)),  # noqa: S704
        "view": view,
        "exit_text": view.exit_text,
    }
    return environment


def _inert(text: str) -> Any:
    """JSON that cannot end the script element it stands in."""
    from markupsafe import Markup

    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))  # noqa: S704


def palette_css() -> str:
    """The colours of :mod:`.view` as custom properties, for light and for dark ground."""
    groups: list[tuple[str, Mapping[Any, view.Look]]] = [
        ("phase", view.PHASES), ("resource", view.RESOURCES), ("iteration", view.ITERATION_KINDS), ("swarm", view.SWARM_KINDS),
        ("severity", view.SEVERITIES),
    ]  # fmt: skip
    looks = [(f"--{group}-{view.slug(key)}", look) for group, table in groups for key, look in table.items()]
    light = ";".join(f"{name}:{look.light}" for name, look in looks)
    dark = ";".join(f"{name}:{look.dark}" for name, look in looks)
    return (
        f":root{{{light}}}:root[data-theme=dark]{{{dark}}}"
        f"@media screen and (prefers-color-scheme:dark){{:root:not([data-theme=light]){{{dark}}}}}"
    )


def spark_path(values: Sequence[float]) -> str:
    """Points of an SVG polyline from zero to the largest value; empty when there is no line to draw."""
    width, height = SPARK
    points = thin.means([value for value in values if math.isfinite(value)], 48).tolist()
    top = max(points, default=0.0)
    if len(points) < 2 or top <= 0:
        return ""
    step = width / (len(points) - 1)
    return " ".join(f"{at * step:.0f},{height - 1 - value / top * (height - 2):.1f}" for at, value in enumerate(points))


class Part(NamedTuple):
    """A row of a breakdown: ``css`` names its colour."""

    css: str
    label: str
    share: float
    total_s: float


class Cell(NamedTuple):
    """A field of the correlation matrix."""

    item: CorrelationItem | None
    weight: float


class Matrix(NamedTuple):
    """Correlations as swarms × resources."""

    resources: list[str]
    rows: list[tuple[str, list[Cell]]]


def _context(report: Report) -> dict[str, Any]:
    breakdown, duration = report.breakdown, report.iterations.duration_s
    captions = {swarm.id: swarm.caption for swarm in report.swarms}
    phases = sum(breakdown.phases.values())
    drawn, left_out = payload.lanes(report, payload.origin_ns(report))
    swarms = sorted(report.swarms, key=lambda swarm: -swarm.time_s)
    return {
        "report": report,
        "run": report.run,
        "iterations": report.iterations,
        "verdict": view.verdict(report),
        "noun": view.level_noun(report.iterations.level),
        "median": view.median(report),
        "each": duration.mean if duration else None,
        "wall_s": max(0, report.run.ended_ns - report.run.started_ns) / 1e9,
        "severities": view.SEVERITIES,
        "figures": [view.deciding_figure(finding) for finding in report.findings],
        "resources": _parts("resource", view.RESOURCES, breakdown.shares, breakdown.total_s),
        "phases": _parts("phase", view.PHASES, {k: v / phases for k, v in breakdown.phases.items()} if phases else {}, phases),
        "windows": [(view.WINDOWS.get(name, name), share) for name, share in breakdown.windows.items() if share],
        "swarms": swarms,
        "top_share": max((swarm.share for swarm in swarms if swarm.share == swarm.share), default=0.0) or 1.0,
        "captions": captions,
        "slices": _slices(report),
        "slow": [item for item in report.iterations.items if item.anomalous],
        "by_kind": _by_kind(report),
        "lanes": drawn,
        "left_out": left_out,
        "matrix": _matrix(report.correlations, swarms),
        "delays": {item.rank: item for item in report.stragglers},
        "top_median": max((rank.duration_s.median for rank in report.iterations.by_rank if rank.duration_s), default=0.0) or 1.0,
        "flamed": any(flame.root.value > 0 for flame in report.flames),
        "movement": [(title, tables) for title, body in _movement(report) if (tables := _tables(body))],
        "schema": report.schema,
    }


def _parts(group: str, looks: Mapping[Any, view.Look], shares: Mapping[Any, float], total: float) -> list[Part]:
    rows = [
        Part(f"--{group}-{view.slug(key)}", look.label, shares.get(key, 0.0), shares.get(key, 0.0) * total)
        for key, look in looks.items()
    ]
    return sorted((row for row in rows if row.share > 0), key=lambda row: -row.share)


def _slices(report: Report) -> list[dict[str, Any]]:
    """The timeline in words: at most 40 runs of iterations, for those who do not see it."""
    items = report.iterations.items
    if not items:
        return []
    phases = report.phase_items if len(report.phase_items) == len(items) else []
    borders = thin.edges(len(items), 40).tolist()
    rows = []
    for first, last in pairwise(borders):
        part = items[first:last]
        times = [(item.end_ns - item.start_ns) / 1e9 for item in part]
        split: dict[Phase, float] = {}
        for item in phases[first:last]:
            for phase, value in item.items():
                split[phase] = split.get(phase, 0.0) + value
        rows.append(
            {
                "name": str(part[0].index) if len(part) == 1 else f"{part[0].index}–{part[-1].index}",
                "mean": sum(times) / len(times),
                "slowest": max(times),
                "odd": sum(item.anomalous for item in part),
                "phase": view.PHASES[max(split, key=lambda phase: split[phase])].label if split else view.DASH,
            }
        )
    return rows


def _by_kind(report: Report) -> list[tuple[IterationKind, view.Look, int, float]]:
    rows = []
    for kind, look in view.ITERATION_KINDS.items():
        times = [(item.end_ns - item.start_ns) / 1e9 for item in report.iterations.items if item.kind is kind]
        if times:
            rows.append((kind, look, len(times), sum(times)))
    return rows


def _matrix(items: Sequence[CorrelationItem], swarms: Sequence[Swarm]) -> Matrix:
    cells = {(item.swarm, item.resource): item for item in sorted(items, key=lambda item: abs(item.strength))}
    resources = sorted({item.resource for item in items}, key=lambda name: (view.metric_order(name), name))
    captions = {swarm.id: swarm.caption for swarm in swarms}
    order = [swarm.id for swarm in swarms] + sorted({item.swarm for item in items} - set(captions))
    rows = []
    for swarm in order:
        row = [cells.get((swarm, resource)) for resource in resources]
        if any(row):
            rows.append((captions.get(swarm, swarm), [Cell(item, min(1.0, abs(item.strength)) if item else 0.0) for item in row]))
    return Matrix(resources, rows)


def _movement(report: Report) -> Iterable[tuple[str, Mapping[str, Any]]]:
    yield "Communication and copies", report.communication
    yield "Network", report.network
    yield "Disk", report.disk
    yield "GPU", report.gpu
    yield "Topology", report.topology


class Table(NamedTuple):
    """Some nested facts as a table."""

    title: str
    head: list[str]
    rows: list[list[str]]
    numeric: list[bool]


_UNITS = (
    ("_Bps", "By/s"),
    ("bandwidth", "By/s"),
    ("bytes", "By"),
    ("time_s", "s"),
    ("_s", "s"),
    ("fraction", "1"),
    ("share", "1"),
)


def _figure(key: str, value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return (
            view.clean(value)[:200]
            if not isinstance(value, (dict, list))
            else view.clean(msgspec.json.encode(value).decode())[:200]
        )
    unit = next((unit for ending, unit in _UNITS if key == ending or key.endswith(ending)), "")
    return view.quantity(float(value), unit)


def _label(key: str) -> str:
    for ending in ("_Bps", "_s"):
        key = key.removesuffix(ending)
    return view.clean(key).replace("_", " ") or view.DASH


def _tables(body: Mapping[str, Any]) -> list[Table]:
    """Nested facts as tables: a mapping of mappings and a list of mappings are tables, the rest are name and value."""
    tables: list[Table] = []
    plain: list[list[str]] = []
    for key, value in body.items():
        named = isinstance(value, dict) and bool(value) and all(isinstance(row, dict) for row in value.values())
        rows = [{"": name} | row for name, row in value.items()] if named else value
        if isinstance(rows, list) and rows and all(isinstance(row, dict) for row in rows):
            columns = list(dict.fromkeys(column for row in rows for column in row))
            figures = [[_figure(column, row.get(column, "")) for column in columns] for row in rows[:100]]
            numeric = [isinstance(rows[0].get(column), (int, float)) for column in columns]
            head = [_label(column) if column else _label(key).removesuffix("s") for column in columns]
            tables.append(Table(_label(key), head, figures, numeric))
        elif isinstance(value, dict):
            plain += [[f"{_label(key)}: {_label(name)}", _figure(name, item)] for name, item in value.items()]
        elif value or isinstance(value, (int, float)):
            plain.append([_label(key), _figure(key, value)])
    return ([Table("", ["what", "value"], plain, [False, True])] if plain else []) + tables
