"""A small client of the TMDB API: film texts by title and year, every answer cached on disk.

This product uses the TMDB API but is not endorsed or certified by TMDB.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pandas as pd

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.errors import NetworkError, SettingsError, StorageError
from hybrid_sim.core.files import write_whole
from hybrid_sim.core.progress import track
from hybrid_sim.data.http import RetryPolicy, fetch_bytes

BASE_URL = "https://api.themoviedb.org/3"
KEY_VARIABLE = "TMDB_API_KEY"
_MAX_ANSWER = 4 << 20


@dataclass(frozen=True)
class Film:
    """What TMDB says about a film that was known before anybody rated it; unknown is "", () or NaN."""

    tmdb_id: int
    overview: str
    genres: tuple[str, ...]
    language: str
    runtime: float
    collection: str
    countries: tuple[str, ...]
    companies: tuple[str, ...]
    cast: tuple[str, ...]
    director: str


@dataclass(frozen=True)
class TmdbClient:
    """Requests films from TMDB; answers are cached in the folder `cache`.

    `key` is a v3 key (sent as a parameter, as TMDB wants it) or a v4 token (sent in a header); no message,
    log, file or repr shows it.
    """

    key: str = field(repr=False)
    cache: Path
    base_url: str = BASE_URL
    policy: RetryPolicy = field(default_factory=lambda: RetryPolicy(deadline=20.0))

    @classmethod
    def from_environment(cls, cache: Path, **settings: Any) -> TmdbClient:
        """A client whose key is the environment variable TMDB_API_KEY.

        Raises:
            SettingsError: the variable is not set.
        """
        key = os.environ.get(KEY_VARIABLE, "").strip()
        if not key:
            raise SettingsError(f"the environment variable {KEY_VARIABLE} is not set; get a key at themoviedb.org")
        return cls(key, cache, **settings)

    def find(self, title: str, year: float) -> Film | None:
        """The film of this title, in the year if it is known (not NaN); None where TMDB knows none.

        Raises:
            NetworkError: TMDB cannot be reached, refuses the key, or answers something else.
            StorageError: the cache cannot be written.
        """
        query = {"query": plain_title(title), **({} if np.isnan(year) else {"year": str(int(year))})}
        matches = _field(self._get("/search/movie", query), "results", list)
        if not matches:
            return None
        number = _field(matches[0], "id", int)
        return _film(self._get(f"/movie/{number}", {"append_to_response": "credits"}))

    def fetch(self, dataset: Dataset) -> pd.DataFrame:
        """The texts of all items with a title, as `read_tmdb` gives them, for `add_tmdb`."""
        films: dict[str, Film] = {}
        titles, years = dataset.items["title"], dataset.items["year"]
        with track("TMDB", dataset.n_items) as task:
            for item_id, title, year in zip(dataset.items.index, titles, years, strict=True):
                film = self.find(title, year) if title else None
                if film is not None:
                    films[item_id] = film
                task.advance(1, title)
        names = ("overview", "language", "countries", "companies", "cast", "director", "collection", "runtime")
        rows = [[getattr(film, name) for name in names] for film in films.values()]
        frame = pd.DataFrame(rows, pd.Index(list(films), dtype=object), names, dtype=object)
        return frame.astype({"runtime": float})

    def _get(self, path: str, query: Mapping[str, str]) -> Any:
        """The JSON answer, from the cache where it is there and whole."""
        target = f"{path}?{urlencode(sorted(query.items()))}"
        cached = self.cache / f"{hashlib.sha256(f'{self.base_url}{target}'.encode()).hexdigest()}.json"
        if cached.is_file():
            with suppress(ValueError):  # a damaged answer is requested again
                return json.loads(cached.read_bytes())
        body = self._request(target)
        try:
            answer = json.loads(body)
        except ValueError:
            raise NetworkError(f"{self.base_url}{path} answered something that is not JSON") from None
        try:
            self.cache.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"{self.cache} cannot be written: {error.strerror or error}") from error
        write_whole(cached, body)
        return answer

    def _request(self, target: str) -> bytes:
        shown = self.base_url + target
        is_token = self.key.count(".") == 2
        address = shown if is_token else f"{shown}&{urlencode({'api_key': self.key})}"
        headers = {"Authorization": f"Bearer {self.key}"} if is_token else {}
        try:
            return fetch_bytes(address, self.policy, _MAX_ANSWER, shown=shown, headers=headers)
        except NetworkError as error:
            if "answered 401" in str(error):
                raise NetworkError(f"{error}: TMDB refuses the key; check {KEY_VARIABLE}") from None
            raise


def plain_title(title: str) -> str:
    """A title as TMDB writes it: MovieLens moves the article to the end and adds other titles in brackets.

    >>> plain_title("City of Lost Children, The (Cité des enfants perdus, La)")
    'The City of Lost Children'
    """
    title = title.split(" (")[0].strip()
    for article in ("The", "A", "An"):
        if title.endswith(f", {article}"):
            return f"{article} {title.removesuffix(f', {article}')}"
    return title


def _film(answer: Any) -> Film:
    collection = answer.get("belongs_to_collection") if isinstance(answer, dict) else None
    credit_lists = _field(answer, "credits", dict)
    crew = [person for person in credit_lists.get("crew") or [] if isinstance(person, dict)]
    directors = _names([person for person in crew if person.get("job") == "Director"])
    runtime = answer.get("runtime")
    return Film(
        tmdb_id=_field(answer, "id", int),
        overview=answer.get("overview") or "",
        genres=_names(answer.get("genres")),
        language=answer.get("original_language") or "",
        runtime=float(runtime) if isinstance(runtime, int | float) and runtime > 0 else float("nan"),
        collection=next(iter(_names([collection])), ""),
        countries=tuple(answer.get("origin_country") or ()),
        companies=_names(answer.get("production_companies")),
        cast=_names((credit_lists.get("cast") or [])[:5]),
        director=directors[0] if directors else "",
    )


def _names(entries: Any) -> tuple[str, ...]:
    return tuple(entry["name"] for entry in entries or [] if isinstance(entry, dict) and entry.get("name"))


def _field(answer: Any, name: str, kind: type) -> Any:
    if not isinstance(answer, dict) or not isinstance(answer.get(name), kind):
        raise NetworkError(f"TMDB answered without {name!r}: {str(answer)[:80]!r}")
    return answer[name]
