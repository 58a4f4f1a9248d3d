"""Checks whether a profile quotes ratings or names titles against its settings.

Models do: 48% of the profiles recorded by Lusifer (Ebrat et al. 2024) quote ratings against their prompt.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from hybrid_sim.core.settings import ProfileSettings

RATINGS = "quotes ratings"
TITLES = "names titles"
"""The flags of a profile that does."""

_NUMBER = r"\d{1,3}(?:\.\d{1,2})?"
_WORD = r"(?:one|two|three|four|five|six|seven|eight|nine|ten)"
_THINGS = r"(?:items?|films?|movies?|titles?|books?|games?|songs?|albums?|times|years?|genres?|stories)"
_NO_COUNT = rf"(?!\s*%|[\d,.]\d|s?[-\s]+(?:(?!(?:for|to|in|by|on|from|across)\b)\w+\s+)?{_THINGS}\b)"
"""What must not follow a number that is a rating: more digits, and what would be counted by it."""

_RATING = re.compile(
    rf"""
      \( \s* (?:(?:all|both|each|rated|ratings?|scored?|at|as|of|an?|:) \s*){{0,4}} (?:{_NUMBER}|\ds)
      (?:\s*(?:,|-|–|/|and|or|to|&|out\s+of)\s*(?:{_NUMBER}|\ds|below|above|lower|higher|less))* \s* \)
    | (?<!\d\s) \b {_NUMBER}\s*/\s*{_NUMBER} \b
    | \b (?:{_NUMBER}|{_WORD}) \s+ out \s+ of \s+ (?:{_NUMBER}|{_WORD}) \b
    | \b (?:{_NUMBER}|{_WORD}) (?:\s*-\s*|\s+) stars? \b
    | \b {_NUMBER} (?:\s*-\s*|\s+) (?:rating|score|point)s? \b
    | \b (?:rat(?:e|ed|es|ing|ings)|scor(?:e|ed|es|ing)|gave|gives?|giving|given|awarded|awards|received?|earned)
      \b (?: [^.;!?\n]{{0,60}}? \b (?:an?|as|at|of|with|to|below|above|in\s+the|only|just|it|them|mere) | \s*: )?
      \s+ (?:{_NUMBER}|\ds) \b {_NO_COUNT}
    """,
    re.IGNORECASE | re.VERBOSE,
)
"""In this order: (4), (rated 4 or 5); 4/5, but not 33 1/3; 4 out of 5; five stars; a 4 rating; rated it a 4."""


def quotes_ratings(text: str) -> bool:
    """Whether a text quotes a rating: "rated it 4", "4/5", "4 out of 5", "five stars", "'A Title' (3)".

    Years, ages and counts are no ratings.

    >>> quotes_ratings("Loves musicals (5) and gave westerns a 2"), quotes_ratings("Rated 40 films of the 1990s")
    (True, False)
    """
    return _RATING.search(text) is not None


def quoted_titles(text: str, titles: Iterable[str]) -> list[str]:
    """Which of the titles a text names, in their order; a year in parentheses behind a title need not be there.

    In quotation marks a title counts in any spelling of upper and lower case. Without them a title of one word is too
    often a plain word ("Speed", "It"): it counts only with the capital it has, of four letters at least, and not as the
    first word of a sentence. A title of several words counts as it is spelt, from four words on in any case. A title
    with its article behind a comma, as in "Rock, The", is looked for in the other order and without the article too.

    >>> quoted_titles("Loves 'speed' and The Rock, not star wars.", ["Speed (1994)", "Rock, The", "Star Wars"])
    ['Speed (1994)', 'Rock, The']
    >>> quoted_titles("Speed matters; it must be a true story of speed.", ["Speed", "It", "True Story"])
    []
    """
    text = " ".join(text.split())
    folded = text.casefold()
    return [
        title
        for title in titles
        if any(spelling.casefold() in folded and _names(text, spelling) for spelling in _spellings(title))
    ]


def faults(texts: Iterable[str], titles: Iterable[str], settings: ProfileSettings) -> tuple[str, ...]:
    """What the texts of a profile hold that the settings forbid: none, one or both of `RATINGS` and `TITLES`."""
    text = "\n".join(texts)
    return (
        *((RATINGS,) if not settings.may_quote_ratings and quotes_ratings(text) else ()),
        *((TITLES,) if not settings.may_quote_titles and quoted_titles(text, titles) else ()),
    )


_YEAR = re.compile(r"\s*\(\d{4}(?:[-–]\d{0,4})?\)\s*$")
_ARTICLE_BEHIND = re.compile(r"^(.+), (The|A|An|Le|La|Les|L'|Il|Der|Die|Das|El|Los|Las)$")
_OPENING, _CLOSING = "['\"‘’“”«„`*_]", "[,.!?;:]?['\"‘’“”»`*_]"


def _spellings(title: str) -> list[str]:
    plain = " ".join(_YEAR.sub("", title).split())
    behind = _ARTICLE_BEHIND.match(plain)
    spellings = [plain, behind[1], f"{behind[2]} {behind[1]}"] if behind else [plain]
    return [spelling for spelling in spellings if spelling]


def _names(text: str, title: str) -> bool:
    """Whether a text, in which the title's letters occur, names it and does not just use its words."""
    exact = re.escape(title)
    quoted = rf"{_OPENING}{exact}(?:\s*\(\d{{4}}\))?{_CLOSING}|(?<!\w){exact}\s*\(\d{{4}}\)"
    if re.search(quoted, text, re.IGNORECASE):
        return True
    n_words = len(title.split())
    if n_words >= 4:
        return re.search(rf"(?<!\w){exact}(?!\w)", text, re.IGNORECASE) is not None
    if title == title.lower() or len(title) < 4:
        return False
    inside = r"(?<=[\w,;] )" if n_words == 1 else r"(?<!\w)"
    return re.search(rf"{inside}{exact}(?!\w)", text) is not None
