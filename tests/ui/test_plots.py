"""Figures: scales that fit, points that are no numbers left out, texts from outside shown as texts."""

from __future__ import annotations

import html
import math
import re
from typing import Any
from xml.etree import ElementTree

import pytest

from mmapp.ui import plots
from mmapp.ui.plots import Range, Series, chart, curves, nice_ceiling, ranges, thin

SCRIPT = '<script>alert("1")</script>'


def tree(markup: str) -> ElementTree.Element:
    """The figure as a browser would see it; entities and tags must be whole."""
    return ElementTree.fromstring(f"<root>{markup}</root>")


def polylines(markup: str) -> list[list[tuple[float, float]]]:
    lines = [line.attrib["points"].split() for line in tree(markup).iter("polyline")]
    return [[tuple(map(float, point.split(","))) for point in line] for line in lines]


@pytest.mark.parametrize(
    ("value", "ceiling"),
    [
        (0.0, 1.0),
        (-3.0, 1.0),
        (1.0, 1.0),
        (1.01, 1.5),
        (0.7, 0.8),
        (0.3, 0.3),
        (0.1 + 0.2, 0.3),
        (2.3, 2.5),
        (8.1, 10.0),
        (10.0, 10.0),
        (99.0, 100.0),
        (123.0, 150.0),
        (0.0041, 0.005),
    ],
)
def test_the_axis_ends_at_the_next_round_number(value: float, ceiling: float) -> None:
    assert nice_ceiling(value) == pytest.approx(ceiling, rel=1e-12)


def test_few_points_are_left_as_they_are() -> None:
    points = [(float(i), float(i % 7)) for i in range(300)]
    assert thin(points) == points
    assert thin([]) == []


def test_many_points_become_means_of_neighbours() -> None:
    points = [(1.0, 2.0), (2.0, 4.0), (3.0, 0.0), (4.0, 1.0), (5.0, 9.0)]
    assert thin(points, most=3) == [(2.0, 3.0), (4.0, 0.5), (5.0, 9.0)]
    assert len(thin([(float(i), 0.0) for i in range(301)])) == 151


def test_points_stand_where_their_numbers_say() -> None:
    """The plane is 48 to 468 wide and 192 to 10 high; the axes begin at zero."""
    markup = chart("t", [Series("s", [(0.0, 0.0), (2.0, 1.0), (4.0, 0.5)], "red")], top=1.0)
    assert polylines(markup) == [[(48.0, 192.0), (258.0, 10.0), (468.0, 101.0)]]


def test_what_lies_above_the_top_is_drawn_at_the_top() -> None:
    markup = chart("t", [Series("s", [(1.0, 7.0)], "red")], top=1.0)
    assert polylines(markup) == [[(468.0, 10.0)]]


@pytest.mark.parametrize("strange", [math.nan, math.inf, -math.inf])
def test_points_that_are_no_numbers_are_left_out(strange: float) -> None:
    points = [(1.0, 1.0), (2.0, strange), (3.0, 0.5)]
    for line in ([points, points[1:2]], [points[1:2]]):
        markup = chart("t", [Series("s", some, "red") for some in line])
        drawn = [y for part in polylines(markup) for _, y in part]
        assert len(drawn) == 2 * (len(line) - 1)
        assert all(map(math.isfinite, drawn))


def test_a_chart_without_a_point_is_not_drawn() -> None:
    assert chart("t", []) == ""
    assert chart("t", [Series("s", [], "red")]) == ""


def test_a_chart_can_be_read_aloud() -> None:
    markup = chart("Loss", [Series("a & b", [(1.0, 0.5), (2.0, 0.25)], "red")])
    (svg,) = tree(markup).iter("svg")
    assert svg.attrib["role"] == "img"
    assert svg.attrib["aria-label"] == "Loss: a & b 0.250"


def test_curves_take_steps_and_evaluations_from_the_events() -> None:
    events: list[dict[str, Any]] = [
        {"event": "started"},
        {"event": "step", "epoch": 0.5, "loss": 2.0},
        {"event": "step", "epoch": 1.0, "loss": 1.0},
        {
            "event": "evaluated",
            "epoch": 1,
            "train_loss": 1.5,
            "loss": 1.25,
            "accuracy": 0.5,
            "macro_f1": 0.25,
        },
    ]
    legends = re.findall(r"</i>([^<]*) <b>([^<]*)</b>", curves(events))
    assert [figure for _, figure in legends] == ["1.000", "1.500", "1.250", "0.500", "0.250"]
    assert [len(line) for line in polylines(curves(events))] == [2, 1, 1, 1, 1]


FIGURES: dict[str, str] = {
    "chart": chart(SCRIPT, [Series(SCRIPT, [(1.0, 1.0)], "red")]),
    "figures": plots.figures([(SCRIPT, SCRIPT)]),
    "bars": plots.bars({SCRIPT: 1.0}, [SCRIPT]),
    "table": plots.table([SCRIPT, "n"], [[SCRIPT, 1.0]]),
    "confusion": plots.confusion([SCRIPT, "b"], [[1, 0], [0, 1]]),
}


@pytest.mark.parametrize("name", FIGURES)
def test_a_text_from_outside_is_shown_and_never_rendered(name: str) -> None:
    markup = FIGURES[name]
    assert list(tree(markup).iter("script")) == []
    assert SCRIPT in "".join(tree(markup).itertext())
    assert html.escape(SCRIPT) in markup


def test_bars_are_as_long_as_their_share_of_the_largest() -> None:
    markup = plots.bars({"a": 4.0, "b": 1.0, "c": 0.0}, ["four", "one", "none"])
    assert re.findall(r"width:([\d.]+)%", markup) == ["100.0", "25.0", "0.0"]
    assert re.findall(r"width:([\d.]+)%", plots.bars({"a": 0.0}, ["none"])) == ["0.0"]


def test_a_table_writes_words_and_numbers() -> None:
    rows = list(tree(plots.table(["name", "share"], [["a", 0.12345], ["b", 3]])).iter("tr"))
    assert [[cell.text for cell in row] for row in rows] == [
        ["name", "share"],
        ["a", "0.123"],
        ["b", "3"],
    ]


def test_confusion_is_the_darker_the_larger_the_share_of_the_row() -> None:
    markup = plots.confusion(["a", "b"], [[3, 1], [0, 0]])
    assert re.findall(r"var\(--mm-1\) (\d+)%", markup) == ["52", "18", "0", "0"]


def test_a_dot_stands_at_the_mean_and_its_line_reaches_over_the_range() -> None:
    """The ticks go from 0.80 to 1.00, from 5 % of the width to 95 %."""
    rows = [Range("text-only", (0.85,), baseline=True), Range("concat", (0.8, 0.85, 1.0))]
    drawn = tree(ranges("Test accuracy", rows))
    dots = [circle.attrib for circle in drawn.iter("circle")]
    assert [dot["cx"] for dot in dots] == ["27.50%", "42.50%"]
    assert [dot["fill"] for dot in dots] == ["var(--background-fill-primary)", "var(--mm-1)"]
    lines = [line.attrib for line in drawn.iter("line")]
    [over] = [line for line in lines if line["stroke"] == "var(--mm-1)"]
    assert (over["x1"], over["x2"]) == ("5.00%", "95.00%")
    [dashed] = [line for line in lines if "stroke-dasharray" in line]
    assert dashed["x1"] == dashed["x2"] == "27.50%"
    assert [text.text for text in drawn.iter("text")] == ["0.80", "0.90", "1.00"]
    [told] = [e.attrib["aria-label"] for e in drawn.iter() if "aria-label" in e.attrib]
    assert told == "Test accuracy: text-only 0.850; concat 0.883, 0.800 to 1.000"


@pytest.mark.parametrize(
    ("values", "first", "last"),
    [([1.0], "0.96", "1.00"), ([0.0], "0.00", "0.04"), ([0.0, 1.0], "0.00", "1.00")],
)
def test_the_ticks_of_a_dot_plot_stay_between_nought_and_one(
    values: list[float], first: str, last: str
) -> None:
    told = [text.text for text in tree(ranges("", [Range("a", values)])).iter("text")]
    assert (told[0], told[-1]) == (first, last)


def test_a_dot_plot_shows_names_as_names_and_nothing_of_nothing() -> None:
    drawn = tree(ranges("Test accuracy", [Range(SCRIPT, (0.5,))]))
    assert SCRIPT in [span.text for span in drawn.iter("span")]
    assert not list(drawn.iter("script"))
    assert ranges("Test accuracy", []) == ""
