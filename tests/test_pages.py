"""Pages and charts by themselves: what is drawn is right, what is foreign is inert, and nothing comes from outside."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markupsafe import Markup
from pages_browser import browser, needs_browser
from pages_checks import HOSTILE, PageReader

from hybrid_sim.core.errors import InputError, SettingsError
from hybrid_sim.core.files import printable
from hybrid_sim.report.bars import Amounts, Step, bars_chart, histograms_chart, points_chart, waterfall_chart
from hybrid_sim.report.page import (
    Card,
    Cards,
    Chart,
    Column,
    Figure,
    Figures,
    Link,
    Page,
    Prose,
    Section,
    Table,
    Verdict,
    Verdicts,
    Word,
    limited,
    render,
    slug,
    write_page,
)
from hybrid_sim.report.plots import (
    Line,
    Moment,
    Point,
    heatmap_chart,
    lines_chart,
    reliability_chart,
    scatter_chart,
    timeline_chart,
)
from hybrid_sim.report.svg import Axis, element


def charts(word: str) -> list[Markup]:
    """Every kind of chart with a foreign word wherever one fits."""
    amounts = Amounts(word, [1.0, None], [0.5, None], [2.0, None])
    return [
        points_chart(word, [word, "b"], [amounts, Amounts("other", [2.0, 3.0])], word, reference=1.0),
        bars_chart(word, [word, "b"], [3.0, None], word),
        histograms_chart(word, [word, "b"], [amounts], word, word),
        waterfall_chart(word, (word, 1.0), [Step(word, -0.5, -0.6, -0.4)], word, word),
        lines_chart(word, [Line(word, [0, 1], [1.0, 2.0]), Line("b", [0], [None])], word, word, categories=[word, "b"]),
        reliability_chart(word, [Line(word, [0.1, 0.9], [0.2, 0.8], sizes=[0.1, 1.0])], word, word),
        scatter_chart(word, [Point(1, 2, word, word), Point(2, 3, "b", shade=1.0)], word, word, shades=(0, 2, word)),
        heatmap_chart(word, [word], ["a", word], [[0.5, None]], word, word),
        timeline_chart(word, [Moment(1.0, word, word, word)]),
    ]


def page_with(word: str) -> Page:
    """A page that holds a foreign word in every place that can hold one."""
    table = Table(
        "table-words", word, (Column(word), Column("n", 2)), ((word, 1.5), (Link(word, "#first"), None)), word
    )
    drawn = tuple(
        Chart(word, drawing, Table(f"table-{n}", word, (Column(word),), ((word,),)), word)
        for n, drawing in enumerate(charts(word))
    )
    blocks = (
        table,
        *drawn,
        Chart("again", charts(word)[0], Link(word, "#table-words")),
        Figures((Figure(word, word, word, "#first"),)),
        Verdicts((Verdict(word, "fail", word, word, "#first"),)),
        Cards((Card(word, ((word, (Word(word, "new"), Word(word, "gone"), Word(word))),)),)),
        Prose(word),
    )
    return Page(word, word, (Section("first", word, word, blocks, (word,)),), True, (word,), {word: word})


@pytest.mark.parametrize("word", HOSTILE)
def test_foreign_words_are_only_ever_text(word: str) -> None:
    read = PageReader(render(page_with(word)))
    assert read.tags == PageReader(render(page_with("x" * len(printable(word))))).tags
    assert " ".join(printable(word).split()) in read.text


@settings(deadline=None, max_examples=40)
@given(st.text(min_size=1, max_size=30))
def test_any_text_leaves_the_page_as_it_is(word: str) -> None:
    assert PageReader(render(page_with(word))).tags == PageReader(render(page_with("x" * len(printable(word))))).tags


@needs_browser
def test_in_a_browser_hostile_words_do_nothing_and_nothing_is_asked_for(tmp_path: Path) -> None:
    with browser() as window:
        for number, word in enumerate(HOSTILE):
            file = tmp_path / f"page{number}.html"
            write_page(page_with(word), file)
            window.open(file)
            assert window.requests() == [file.as_uri()]
            assert window.complaints() == []
            assert window.ask("window.hacked") is None
            assert window.ask("document.querySelectorAll('script, img, iframe, base').length") == 0
            assert window.ask("document.querySelectorAll('svg').length") == 10
            assert window.ask("getComputedStyle(document.body).display") == "block"


@needs_browser
def test_a_browser_shows_light_and_dark_and_opens_the_table_that_a_link_leads_to(tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    write_page(page_with("harmless"), file)
    with browser() as window:
        window.dark(False)
        window.open(file)
        light = window.ask("getComputedStyle(document.body).backgroundColor")
        window.dark(True)
        assert window.ask("getComputedStyle(document.body).backgroundColor") != light
        assert window.ask("document.getElementById('table-3').closest('details').open") is False
        assert window.ask("(location.hash = '#table-3', true)") is True
        assert window.ask("document.getElementById('table-3').closest('details').open") is True
        assert window.ask("document.documentElement.scrollWidth <= window.innerWidth") is True


def test_a_table_shows_numbers_as_its_columns_say() -> None:
    columns = (Column("word"), Column("count"), Column("share", 3), Column("gap", 2, sign=True), Column("sure"))
    rows = (("a", 12345, 0.12345, 0.5, True), (None, None, float("nan"), -0.25, False))
    read = PageReader(render(Page("t", "c", (Section("s", "s", "", (Table("table", "t", columns, rows),)),))))
    assert "a 12,345 0.123 +0.50 yes – – – -0.25 no" in read.text


def test_anchors_are_unique_and_links_stay_on_the_page() -> None:
    table = Table("same", "t", (Column("a"),), ())
    with pytest.raises(ValueError, match="same"):
        render(Page("t", "c", (Section("s", "s", "", (table, table)),)))
    for to in ("http://evil.example", "javascript:alert(1)", "../secret", "//evil.example", "#a b", "/etc/passwd"):
        with pytest.raises(InputError, match="leads to a place of the page"):
            Link("x", to)
    assert slug("A <b> c!", "ü") == "a-b-c"


def test_a_long_table_is_cut_and_says_so() -> None:
    table = limited(Table("t", "t", (Column("n"),), tuple((n,) for n in range(5000)), "Note."))
    assert len(table.rows) == 1000
    assert table.note == "The first 1,000 of 5,000 rows. Note."


def test_a_page_cannot_be_written_where_no_file_can_be(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="name a file in a folder that exists"):
        write_page(page_with("a"), tmp_path / "nowhere" / "page.html")


@given(st.floats(-1e4, 1e4), st.floats(1e-3, 1e6))
def test_ticks_are_round_lie_on_the_axis_and_are_told_apart(low: float, width: float) -> None:
    axis = Axis(low, low + width, 0.0, 600.0)
    ticks = axis.ticks
    assert 2 <= len(ticks) <= 14
    for value, label in ticks:
        assert axis.low - 1e-6 * width <= value <= axis.high + 1e-6 * width
        assert float(label.replace(",", "")) == pytest.approx(value, abs=1e-9 * max(1.0, abs(value)) + 1e-6 * axis.step)
    assert len({label for _, label in ticks}) == len(ticks)


def attribute(drawing: str, tag: str, name: str, class_: str) -> list[float]:
    """The values of an attribute of all elements of a kind and class, in order."""
    found = [part for part in re.findall(rf"<{tag} [^>]*>", drawing) if f'class="{class_}"' in part]
    return [float(re.search(rf' {name}="([-\d.]+)"', part)[1]) for part in found]  # type: ignore[index]


def test_points_stand_in_the_order_of_their_values_with_their_intervals_around() -> None:
    series = Amounts("RMSE", [0.9, 1.0, 0.95], [0.8, 0.9, 0.9], [1.0, 1.1, 1.0])
    drawing = points_chart("RMSE", ["a", "b", "c"], [series], "RMSE", reference=0.9)
    x = attribute(drawing, "circle", "cx", "s1")
    assert x[0] < x[2] < x[1]
    starts, ends = (attribute(drawing, "line", name, "whisker s1") for name in ("x1", "x2"))
    assert all(start < at < end for start, at, end in zip(starts, x, ends, strict=True))
    assert attribute(drawing, "line", "x1", "reference") == [x[0]]
    assert "a, RMSE: 0.9000 [0.8000, 1.0000]" in drawing


def test_bars_are_as_long_as_their_values_and_begin_at_zero() -> None:
    drawing = bars_chart("pairs", ["a", "b"], [10.0, 40.0], "pairs")
    widths = attribute(drawing, "rect", "width", "s1")
    assert widths[1] == pytest.approx(4 * widths[0], rel=0.01)
    drawing = histograms_chart("shares", ["1", "2"], [Amounts("real", [0.2, 0.8])], "share", "rating")
    heights = attribute(drawing, "rect", "height", "s1")
    assert heights[1] == pytest.approx(4 * heights[0], rel=0.01)


def test_a_waterfall_leads_from_the_start_to_the_end() -> None:
    drawing = waterfall_chart("w", ("base", 1.0), [Step("good", -0.3), Step("bad", 0.1)], "all", "RMSE")
    (down_x,), (up_x,) = attribute(drawing, "rect", "x", "down"), attribute(drawing, "rect", "x", "up")
    (down_width,), (up_width,) = attribute(drawing, "rect", "width", "down"), attribute(drawing, "rect", "width", "up")
    assert down_x == pytest.approx(up_x, abs=0.1)
    assert down_width == pytest.approx(3 * up_width, rel=0.01)
    assert "all: 0.8000" in drawing


def test_unknown_values_leave_gaps() -> None:
    drawing = lines_chart("l", [Line("a", [0, 1, 2], [1.0, None, float("nan")])], "x", "y")
    assert len(attribute(drawing, "circle", "cx", "s1")) == 1
    drawing = heatmap_chart("h", ["1"], ["1", "2"], [[0.5, None]], "real", "drawn")
    assert len(attribute(drawing, "rect", "x", "cell")) == 1


def test_charts_of_nothing_are_empty_not_broken() -> None:
    nothing = [
        points_chart("p", [], [Amounts("a", [])], "x"),
        bars_chart("b", [], [], "x"),
        histograms_chart("h", [], [Amounts("a", [])], "y", "x"),
        lines_chart("l", [], "x", "y"),
        scatter_chart("s", [], "x", "y"),
        heatmap_chart("h", [], [], [], "r", "c"),
        timeline_chart("t", []),
    ]
    assert all(drawing.startswith("<svg") and "nan" not in drawing for drawing in nothing)


def test_elements_escape_text_and_attributes() -> None:
    assert element("text", '<"&', class_='a"b') == '<text class="a&#34;b">&lt;&#34;&amp;</text>'
