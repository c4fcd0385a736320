"""Events and reports -> figures as HTML and SVG. Pure; every text from outside is escaped.

Inline SVG rather than a charting library: it follows light and dark, can be read aloud, redraws in
a millisecond, and asks no other host for anything.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mmapp.ui import words

Point = tuple[float, float]

MAX_POINTS = 300
WIDTH, HEIGHT = 480, 220
LEFT, RIGHT, TOP, BOTTOM = 48, 12, 10, 28
ROW_HEIGHT = 28  # of a dot plot, in pixels, as the theme has it


@dataclass(frozen=True)
class Series:
    """One line of a chart: its name, its points in order of x, and a CSS colour."""

    name: str
    points: Sequence[Point]
    colour: str
    faint: bool = False


def curves(events: Sequence[dict[str, Any]]) -> str:
    """Loss and validation score over epochs, from a run's events."""
    steps = [(e["epoch"], e["loss"]) for e in events if e["event"] == "step"]
    evaluated = [e for e in events if e["event"] == "evaluated"]

    def of(key: str) -> list[Point]:
        return [(e["epoch"], e[key]) for e in evaluated]

    names = words.SERIES
    loss = [
        Series(names["loss"], steps, "var(--mm-faint)", faint=True),
        Series(names["train_loss"], of("train_loss"), "var(--mm-1)"),
        Series(names["validation_loss"], of("loss"), "var(--mm-2)"),
    ]
    score = [
        Series(names["accuracy"], of("accuracy"), "var(--mm-1)"),
        Series(names["macro_f1"], of("macro_f1"), "var(--mm-2)"),
    ]
    charts = [chart(words.CURVES_LOSS, loss), chart(words.CURVES_SCORE, score, top=1.0)]
    return f'<div class="mm mm-charts">{"".join(charts)}</div>'


def chart(title: str, series: Sequence[Series], top: float | None = None) -> str:
    """A line chart whose y axis begins at zero; `top` fixes where it ends."""
    drawn = [s for s in series if s.points]
    if not drawn:
        return ""
    xs = [x for s in drawn for x, _ in s.points]
    ys = [y for s in drawn for _, y in s.points if math.isfinite(y)]
    x_top = max(1.0, *xs)
    y_top = top or nice_ceiling(max(ys, default=1.0))
    told = ", ".join(f"{s.name} {s.points[-1][1]:.3f}" for s in drawn)
    body = "".join([*_grid(x_top, y_top), *(_line(s, x_top, y_top) for s in drawn)])
    legend = "".join(
        f'<span><i style="background:{s.colour}"></i>{html.escape(s.name)} '
        f"<b>{s.points[-1][1]:.3f}</b></span>"
        for s in drawn
    )
    label = html.escape(f"{title}: {told}", quote=True)
    return (
        f'<div class="mm-chart"><h3>{html.escape(title)}</h3>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">{body}</svg>'
        f'<div class="mm-legend">{legend}</div></div>'
    )


def nice_ceiling(value: float) -> float:
    """The smallest of 1, 1.5, 2, 2.5, 3, 4, 5, 6, 8 times a power of ten that is not below `value`."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    steps = (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10)
    return next(step * power for step in steps if step * power >= value * (1 - 1e-9))


def thin(points: Sequence[Point], most: int = MAX_POINTS) -> list[Point]:
    """At most `most` points, each the mean of its neighbours: a long run stays cheap to draw."""
    size = math.ceil(len(points) / most)
    if size <= 1:
        return list(points)
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return [(g[-1][0], math.fsum(y for _, y in g) / len(g)) for g in groups]


def _grid(x_top: float, y_top: float) -> list[str]:
    lines = []
    for i in range(5):
        value = y_top * i / 4
        y = _y(value, y_top)
        lines.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" '
            'stroke="currentColor" stroke-opacity="0.12"/>'
            f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:.3g}</text>'
        )
    every = max(1, round(x_top / 6))
    for value in range(0, math.floor(x_top) + 1, every):
        x = _x(value, x_top)
        lines.append(f'<text x="{x:.1f}" y="{HEIGHT - 8}" text-anchor="middle">{value}</text>')
    return lines


def _line(series: Series, x_top: float, y_top: float) -> str:
    finite = [(x, min(y, y_top)) for x, y in thin(series.points) if math.isfinite(y)]
    path = " ".join(f"{_x(x, x_top):.1f},{_y(y, y_top):.1f}" for x, y in finite)
    stroke = f'fill="none" stroke="{series.colour}" stroke-linejoin="round"'
    if series.faint:
        return f'<polyline points="{path}" {stroke} stroke-width="1.2"/>'
    dots = "".join(
        f'<circle cx="{_x(x, x_top):.1f}" cy="{_y(y, y_top):.1f}" r="2.6" fill="{series.colour}"/>'
        for x, y in finite
    )
    return f'<polyline points="{path}" {stroke} stroke-width="2.2"/>{dots}'


def _x(value: float, top: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * value / top


def _y(value: float, top: float) -> float:
    return TOP + (HEIGHT - TOP - BOTTOM) * (1 - value / top)


@dataclass(frozen=True)
class Range:
    """A row of a dot plot: its name, and values between 0 and 1, one or more."""

    name: str
    values: Sequence[float]
    baseline: bool = False

    @property
    def mean(self) -> float:
        return math.fsum(self.values) / len(self.values)

    def told(self) -> str:
        """ "concat 0.930, 0.914 to 0.943"."""
        low, high = min(self.values), max(self.values)
        return f"{self.name} {self.mean:.3f}" + (f", {low:.3f} to {high:.3f}" if low < high else "")


def ranges(title: str, rows: Sequence[Range]) -> str:
    """A dot at the mean of each row and a line over its range; baselines are hollow.

    Places are per cent of the width, so that letters keep their size on a phone.
    """
    if not rows:
        return ""
    ticks = _ticks([value for row in rows for value in row.values])
    floor = ROW_HEIGHT * len(rows)
    every = 2 if len(ticks) > 3 else 1  # on a phone there is room for three numbers
    body = [_tick(value, ticks, floor, i % every == 0) for i, value in enumerate(ticks)]
    best = max((row.mean for row in rows if row.baseline), default=None)
    if best is not None:
        x = _share(best, ticks)
        body.append(
            f'<line x1="{x:.2f}%" x2="{x:.2f}%" y1="0" y2="{floor}" stroke="var(--mm-2)" '
            'stroke-dasharray="4 4"/>'
        )
    body += [_range(row, ticks, ROW_HEIGHT * (i + 0.5)) for i, row in enumerate(rows)]
    names = "".join(f"<span>{html.escape(row.name)}</span>" for row in rows)
    label = html.escape(f"{title}: {'; '.join(row.told() for row in rows)}", quote=True)
    return (
        f'<div class="mm mm-chart"><h3>{html.escape(title)}</h3>'
        f'<div class="mm-ranges" role="img" aria-label="{label}"><div>{names}</div>'
        f'<svg style="height:{floor + 24}px">{"".join(body)}</svg></div>{_key(best is not None)}</div>'
    )


def _key(baselines: bool) -> str:
    """What the dots of a dot plot mean."""
    entries = f'<span><i class="dot"></i>{words.RANGE_MEAN}</span>'
    if baselines:
        entries += f'<span><i class="dot hollow"></i>{words.RANGE_BASELINE}</span>'
    return f'<div class="mm-legend">{entries}</div>'


def _ticks(values: Sequence[float]) -> list[float]:
    """Three to six round numbers, the first not above and the last not below any of the values."""
    low, high = min(values), max(values)
    step = next(step for step in (0.02, 0.05, 0.1, 0.2, 0.25) if high - low <= 4 * step)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    last = max(last, 2)
    first = max(0, min(first, last - 2))
    return [step * number for number in range(first, last + 1)]


def _share(value: float, ticks: Sequence[float]) -> float:
    """Where a value stands, in per cent of the width; some room is left for half a dot or number."""
    return 5 + 90 * (value - ticks[0]) / (ticks[-1] - ticks[0])


def _tick(value: float, ticks: Sequence[float], floor: float, told: bool) -> str:
    x = _share(value, ticks)
    number = f'<text x="{x:.2f}%" y="{floor + 17}" text-anchor="middle">{value:.2f}</text>'
    return (
        f'<line x1="{x:.2f}%" x2="{x:.2f}%" y1="0" y2="{floor}" stroke="currentColor" '
        f'stroke-opacity="0.12"/>{number if told else ""}'
    )


def _range(row: Range, ticks: Sequence[float], y: float) -> str:
    low, mean, high = (_share(v, ticks) for v in (min(row.values), row.mean, max(row.values)))
    colour = "var(--mm-2)" if row.baseline else "var(--mm-1)"
    fill = "var(--background-fill-primary)" if row.baseline else colour
    return (
        f'<line x1="{low:.2f}%" x2="{high:.2f}%" y1="{y}" y2="{y}" stroke="{colour}" '
        f'stroke-width="3" stroke-linecap="round" stroke-opacity="0.45"/>'
        f'<circle cx="{mean:.2f}%" cy="{y}" r="5" stroke="{colour}" stroke-width="2" fill="{fill}"/>'
    )


def figures(values: Sequence[tuple[str, str]]) -> str:
    """Large figures, each with what it is below it."""
    tiles = "".join(
        f'<div class="mm-figure"><b>{html.escape(value)}</b><span>{html.escape(name)}</span></div>'
        for value, name in values
    )
    return f'<div class="mm mm-figures">{tiles}</div>'


def bars(values: dict[str, float], shown: Sequence[str]) -> str:
    """One bar a name, as long as its share of the largest; `shown` is written behind it."""
    most = max(values.values(), default=1) or 1
    rows = "".join(
        f'<span class="name">{html.escape(name)}</span>'
        f'<span class="track"><i style="width:{100 * value / most:.1f}%"></i></span>'
        f"<span>{html.escape(text)}</span>"
        for (name, value), text in zip(values.items(), shown, strict=True)
    )
    return f'<div class="mm mm-bars">{rows}</div>'


def table(headers: Sequence[str], rows: Sequence[Sequence[Any]], words_in: int = 1) -> str:
    """A table whose first `words_in` columns are words and the rest numbers."""

    quoted = ' class="words"'

    def cells(tag: str, values: Sequence[Any]) -> str:
        return "".join(
            f"<{tag}{quoted if i < words_in else ''}>{_cell(value)}</{tag}>"
            for i, value in enumerate(values)
        )

    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return f'<div class="mm mm-table"><table><tr>{cells("th", headers)}</tr>{body}</table></div>'


def confusion(labels: Sequence[str], counts: Sequence[Sequence[int]]) -> str:
    """Counts as a table whose cells are the darker the larger their share of the row."""
    head = "".join(f"<th>{html.escape(label)}</th>" for label in labels)
    rows = []
    for label, row in zip(labels, counts, strict=True):
        total = sum(row) or 1
        cells = "".join(
            f'<td class="cell" style="background:color-mix(in srgb, var(--mm-1) '
            f'{round(70 * count / total)}%, transparent)">{count}</td>'
            for count in row
        )
        rows.append(f'<tr><td class="words">{html.escape(label)}</td>{cells}</tr>')
    return (
        '<div class="mm mm-table mm-confusion"><table>'
        f"<tr><th></th>{head}</tr>{''.join(rows)}</table></div>"
    )


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    return html.escape(str(value))
