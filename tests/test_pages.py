"""Pages and charts by themselves: what is drawn is right, what is foreign is inert, and nothing comes from outside."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pages_browser import Browser
from pages_checks import HOSTILE, PageReader

from hybrid_sim.core.document import (
    Block,
    Card,
    Cell,
    Chart,
    Column,
    KeyFigure,
    Link,
    Page,
    Phrase,
    Prose,
    Section,
    Table,
    Verdict,
    slug,
)
from hybrid_sim.core.errors import InputError, SettingsError
from hybrid_sim.core.files import printable
from hybrid_sim.report.charts import LAYOUTS, inline_svgs, save_chart
from hybrid_sim.report.html import render, write_page

VERDICT = Verdict("v", "Is it?", "fail", "No.", 1.0, None, None, 0.5, "at most", "")


def table(name: str, headings: str, *rows: tuple[Cell, ...], decimals: int | None = None) -> Table:
    columns = tuple(Column(key, key, decimals) for key in headings.split())
    return Table(name, f"Table {name}", columns, rows)


def charts(word: str) -> list[tuple[Chart, Table]]:
    """Every kind of chart with a foreign word wherever one fits."""
    columns = tuple(Column(key, f"{key} {word}") for key in ["x", "s", "a", "b", "low", "high", "n", "yes"])
    rows: tuple[tuple[Cell, ...], ...] = (
        (word, "one", 1.0, 0.2, 0.5, 1.5, 3, True),
        ("b", word, None, 0.4, None, None, 2, False),
        ("c", word, 2.0, 0.9, 1.0, 3.0, 1, True),
    )
    behind = Table("t", word, columns, rows, word)
    labels = {"x_label": word, "y_label": word, "caption": word}
    return [
        (Chart("bars", word, "t", "x", ("a",), "low", "high", series="s", reference=1.0, **labels), behind),
        (Chart("counts", word, "t", "x", ("a",), **labels), behind),
        (Chart("histograms", word, "t", "x", ("a", "b"), **labels), behind),
        (Chart("lines", word, "t", "x", ("a", "b"), "low", "high", **labels), behind),
        (Chart("band", word, "t", "b", ("a", "n"), "low", "high", **labels), behind),
        (Chart("reliability", word, "t", "b", ("b",), series="s", **labels), behind),
        (Chart("scatter", word, "t", "b", ("a",), label="x", front="yes", log_x=True, **labels), behind),
        (Chart("scatter", word, "t", "b", ("a",), shade="n", tip="x", **labels), behind),
        (Chart("heatmap", word, "t", "x", ("s", "b"), **labels), behind),
        (Chart("waterfall", word, "t", "x", ("a", "b"), "low", "high", **labels), behind),
    ]


def page_with(word: str, kinds: Sequence[int] = range(10)) -> Page:
    """A page that holds a foreign word in every place that can hold one, with charts of these kinds."""
    words = Table("words", word, (Column("w", word), Column("n", "n", 2)), ((word, 1.5), (Link(word, "#first"), None)))
    blocks: tuple[Block, ...] = (
        words,
        KeyFigure(word, word, word, "#first"),
        Verdict("v", word, "fail", word, None, None, None, None, "at most", word, "#first"),
        Card(word, ((word, (Phrase(word, "added"), Phrase(word, "removed"), Phrase(word))),)),
        Prose(word),
    )
    sections = [Section("first", word, word, blocks, (word,))]
    sections += [Section(f"chart{n}", word, word, charts(word)[n]) for n in kinds]
    return Page(word, word, tuple(sections), True, (word,), {word: word})


def chosen(number: int) -> list[int]:
    """Two kinds of chart, others for every number: drawing all of them for every word would take minutes."""
    return [number % 10, (number + 3) % 10]


@pytest.fixture(scope="module")
def hostile_pages(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A page for every hostile word."""
    folder = tmp_path_factory.mktemp("hostile")
    files = [folder / f"page{number}.html" for number in range(len(HOSTILE))]
    for number, file in enumerate(files):
        write_page(page_with(HOSTILE[number], chosen(number)), file)
    return files


@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_foreign_words_are_only_ever_text(number: int, hostile_pages: list[Path]) -> None:
    word = printable(HOSTILE[number])
    read = PageReader(hostile_pages[number].read_text(encoding="utf-8"))
    assert read.tags == PageReader(render(page_with("x" * len(word), chosen(number)))).tags
    assert " ".join(word.split()) in read.text


@settings(deadline=None, max_examples=20)
@given(st.text(min_size=1, max_size=30))
def test_any_text_leaves_the_page_as_it_is(word: str) -> None:
    tags = [PageReader(render(page_with(text, [8]))).tags for text in (word, "x" * len(printable(word)))]
    assert tags[0] == tags[1]


def test_in_a_browser_hostile_words_do_nothing_and_nothing_is_asked_for(
    window: Browser, hostile_pages: list[Path]
) -> None:
    for file in hostile_pages:
        window.check(file)
        assert window.ask("document.querySelectorAll('script, img, iframe, base').length") == 0
        assert window.ask("document.querySelectorAll('svg').length") == 4
        assert window.ask("getComputedStyle(document.body).display") == "block"


def test_a_browser_shows_light_and_dark_and_opens_the_table_that_a_link_leads_to(
    window: Browser, tmp_path: Path
) -> None:
    file = tmp_path / "page.html"
    write_page(page_with("harmless"), file)
    window.dark(True)
    window.open(file)
    dark = window.ask("getComputedStyle(document.body).backgroundColor")
    window.dark(False)
    assert window.ask("getComputedStyle(document.body).backgroundColor") != dark
    assert window.ask("document.getElementById('table-chart3-t').closest('details').open") is False
    assert window.ask("(location.hash = '#table-chart3-t', true)") is True
    assert window.ask("document.getElementById('table-chart3-t').closest('details').open") is True
    assert window.ask("document.documentElement.scrollWidth <= window.innerWidth") is True


def one_section(*blocks: Block) -> Page:
    return Page("t", "c", (Section("s", "s", "", blocks),))


def test_a_table_shows_numbers_as_its_columns_say() -> None:
    columns = (
        Column("a", "word"),
        Column("b", "count"),
        Column("c", "share", 3),
        Column("d", "gap", 2, sign=True),
        Column("e", "sure"),
    )
    rows = (("a", 12345, 0.12345, 0.5, True), (None, None, float("nan"), -0.25, False))
    read = PageReader(render(one_section(Table("table", "t", columns, rows))))
    assert "a 12,345 0.123 +0.50 yes – – – -0.25 no" in read.text


def test_anchors_are_unique_and_links_stay_on_the_page() -> None:
    same = table("same", "a")
    with pytest.raises(ValueError, match="same"):
        render(one_section(same, same))
    for to in ("http://evil.example", "javascript:alert(1)", "../secret", "//evil.example", "#a b", "/etc/passwd"):
        with pytest.raises(InputError, match="leads to a place of the page"):
            Link("x", to)
    assert slug("A <b> c!", "ü") == "a-b-c"


def test_a_section_refuses_a_chart_of_what_it_does_not_have() -> None:
    models = table("models", "x rmse")
    with pytest.raises(InputError, match="names column 'mae'; table 'models' has x, rmse"):
        Section("all", "", "", (Chart("bars", "Wrong", "models", "x", ("mae",)), models))
    with pytest.raises(InputError, match="table 'nothing', which section 'all' lacks"):
        Section("all", "", "", (Chart("bars", "Wrong", "nothing", "x", ("rmse",)), models))


def test_a_table_stands_with_its_first_chart_and_later_charts_lead_to_it() -> None:
    models = table("models", "x rmse", ("a", 1.0))
    chart = Chart("bars", "RMSE", "models", "x", ("rmse",))
    read = PageReader(render(one_section(models, chart, chart)))
    assert (read.tags.count("svg"), read.tags.count("table"), read.tags.count("details")) == (4, 1, 1)
    assert read.links.count("#table-s-models") == 1


def test_verdicts_that_follow_each_other_are_one_list() -> None:
    read = PageReader(render(one_section(VERDICT, VERDICT, Prose("between"), VERDICT)))
    assert read.tags.count("ul") == 2


def test_a_long_table_is_cut_and_says_so() -> None:
    long = Table("t", "t", (Column("n", "n"),), tuple((n,) for n in range(5000)), "Note.")
    read = PageReader(render(one_section(long)))
    assert read.tags.count("tr") == 1001
    assert "The first 1,000 of 5,000 rows. Note." in read.text


def test_a_page_cannot_be_written_where_no_file_can_be(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="name a file in a folder that exists"):
        write_page(page_with("a"), tmp_path / "nowhere" / "page.html")


def marks(chart: Chart, behind: Table) -> dict[str, tuple[float, float]]:
    """The place of every marker, by what it says when it is pointed at."""
    root = ElementTree.fromstring(inline_svgs(chart, behind, "c")["wide"])
    uses = [use for use in root.iter("use") if use.find("title") is not None]
    return {str(use.findtext("title")): (float(use.attrib["x"]), float(use.attrib["y"])) for use in uses}


def rectangles(chart: Chart, behind: Table) -> dict[str, tuple[float, float, float, float]]:
    """Left, right, top and bottom of every bar, by what it says when it is pointed at."""
    found = {}
    for path in ElementTree.fromstring(inline_svgs(chart, behind, "c")["wide"]).iter("path"):
        if path.find("title") is not None:
            numbers = [float(number) for number in re.findall(r"-?[\d.]+", path.attrib["d"])]
            x, y = numbers[::2], numbers[1::2]
            found[str(path.findtext("title"))] = (min(x), max(x), min(y), max(y))
    return found


def test_points_stand_in_the_order_of_their_values_and_tell_their_intervals() -> None:
    behind = table(
        "t", "x rmse low high", ("a", 0.9, 0.8, 1.0), ("b", 1.0, 0.9, 1.1), ("c", 0.95, None, None), decimals=2
    )
    found = marks(Chart("bars", "RMSE", "t", "x", ("rmse",), "low", "high"), behind)
    assert list(found) == ["a, rmse: 0.90 [0.80, 1.00]", "b, rmse: 1.00 [0.90, 1.10]", "c, rmse: 0.95"]
    (a, _), (b, _), (c, _) = found.values()
    assert c - a == pytest.approx(b - c, abs=0.1) != 0


def test_bars_are_as_long_as_their_values_and_begin_at_zero() -> None:
    bars = rectangles(Chart("counts", "pairs", "t", "x", ("n",)), table("t", "x n", ("a", 10), ("b", 40)))
    widths = [right - left for left, right, _, _ in bars.values()]
    assert list(bars) == ["a: 10", "b: 40"]
    assert widths[1] == pytest.approx(4 * widths[0], rel=0.01)
    behind = table("t", "x real", ("1", 0.2), ("2", 0.8))
    heights = [
        bottom - top for _, _, top, bottom in rectangles(Chart("histograms", "h", "t", "x", ("real",)), behind).values()
    ]
    assert heights[1] == pytest.approx(4 * heights[0], rel=0.01)


def test_the_steps_of_a_waterfall_begin_where_the_one_before_ended() -> None:
    rows = (("base", None, 1.0), ("good", 1.0, 0.7), ("bad", 0.7, 0.8), ("all", None, 0.8))
    chart = Chart("waterfall", "w", "t", "part", ("before", "after"))
    bars = rectangles(chart, table("t", "part before after", *rows, decimals=2))
    assert list(bars) == ["base: 1.00", "good: -0.30, from 1.00 to 0.70", "bad: +0.10, from 0.70 to 0.80", "all: 0.80"]
    base, good, bad, whole = bars.values()
    assert good[1] == pytest.approx(base[1], abs=0.1)
    assert bad[0] == pytest.approx(good[0], abs=0.1)
    assert bad[1] == pytest.approx(whole[1], abs=0.1)
    assert good[1] - good[0] == pytest.approx(3 * (bad[1] - bad[0]), rel=0.01)


def test_unknown_values_leave_gaps() -> None:
    behind = table("t", "x y", (0, 1.0), (1, None), (2, float("nan")), (3, 2.0))
    assert len(marks(Chart("lines", "l", "t", "x", ("y",)), behind)) == 2
    cells = table("t", "x row share", ("1", "r", 0.5), ("2", "r", None))
    assert len(rectangles(Chart("heatmap", "h", "t", "x", ("row", "share")), cells)) == 1


def test_series_differ_in_colour_and_in_shape() -> None:
    behind = table("t", "x a b c", ("1", 1, 2, 3))
    root = ElementTree.fromstring(inline_svgs(Chart("lines", "l", "t", "x", ("a", "b", "c")), behind, "c")["wide"])
    points = [use for use in root.iter("use") if use.find("title") is not None]
    assert len({use.attrib["fill"] for use in points}) == len({use.attrib["href"] for use in points}) == 3


def test_charts_have_a_layout_for_narrow_pages_whose_letters_are_as_large() -> None:
    for chart, behind in charts("word"):
        for layout, drawing in inline_svgs(chart, behind, "c").items():
            root = ElementTree.fromstring(drawing)
            assert float(root.attrib["viewBox"].split()[2]) == pytest.approx(LAYOUTS[layout], abs=1)
            sizes = [text.attrib.get("font-size", "12px") for text in root.iter("text")]
            assert min((float(size.removesuffix("px")) for size in sizes), default=12.0) >= 12.0


def test_the_highlighted_category_stands_out_in_every_layout() -> None:
    behind = table("t", "x rmse", ("knn", 0.9), ("hybrid", 0.8), ("svd", 1.0))
    for drawing in inline_svgs(Chart("bars", "b", "t", "x", ("rmse",), highlight="hybrid"), behind, "c").values():
        root = ElementTree.fromstring(drawing)
        colours = {str(use.findtext("title")): use.attrib["fill"] for use in root.iter("use") if len(use)}
        assert colours["knn, rmse: 0.9"] == colours["svd, rmse: 1"] != colours["hybrid, rmse: 0.8"]
        assert [text.text for text in root.iter("text") if text.attrib.get("font-weight") == "700"] == ["hybrid"]


def test_few_forecasts_are_hollow_points() -> None:
    behind = table("t", "level forecast observed n", ("1", 0.1, 0.2, 29), ("1", 0.5, 0.4, 30))
    chart = Chart("reliability", "r", "t", "forecast", ("observed",), series="level")
    root = ElementTree.fromstring(inline_svgs(chart, behind, "c")["wide"])
    marks = [mark for mark in root.iter() if mark.find("title") is not None]
    fills = {str(mark.findtext("title"))[:3]: mark.attrib["fill"] for mark in marks}
    assert fills["0.1"] == "none" != fills["0.5"]


def test_times_are_shown_in_the_unit_that_people_use() -> None:
    column = Column("t", "time", seconds=True)
    shown = [column.shown(seconds) for seconds in (0.012, 1.0, 59.6, 300.0, 5400.0, 36000.0)]
    assert shown == ["0.012 s", "1 s", "60 s", "5 min", "90 min", "10 h"]


def test_charts_of_nothing_are_empty_not_broken() -> None:
    for chart, behind in charts("nothing"):
        for drawing in inline_svgs(chart, Table("t", "t", behind.columns, ()), "c").values():
            assert drawing.startswith("<svg")
            assert "nan" not in drawing


def test_equal_charts_are_equal_files_that_name_no_date(tmp_path: Path) -> None:
    chart, behind = charts("word")[0]
    for name in ("a.png", "b.png", "a.svg", "b.svg"):
        save_chart(chart, behind, tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert "date" not in (tmp_path / "a.svg").read_text()
