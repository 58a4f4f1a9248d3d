"""The settings of a run, as read from a TOML file; a misspelt name is an error."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from hybrid_sim.core.errors import SettingsError
from hybrid_sim.core.files import nearest


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)


class LLMSettings(_Settings):
    """The language model, its endpoint and its sampling. The key is read from OPENAI_API_KEY and is no setting."""

    model: str = ""
    """Name of the model, as the endpoint knows it; without one no language model is asked."""
    base_url: str | None = None
    """Address of an OpenAI-compatible endpoint, up to `/v1`; None: OPENAI_BASE_URL, else OpenAI."""
    temperature: float | None = Field(default=0.0, ge=0.0, le=2.0)
    """None: the server's default is used (some models refuse any other)."""
    top_p: float | None = Field(default=None, gt=0.0, le=1.0)
    """Nucleus sampling: tokens are drawn from the most probable ones that have this share together."""
    seed: int | None = None
    """Seed of the sampling, for servers that take one."""
    structured: Literal["auto", "schema", "json", "none"] = "auto"
    """How a JSON reply is requested: by schema, in JSON mode, by the prompt alone; auto: as the server supports it."""
    context_tokens: int | None = Field(default=None, ge=256)
    """Size of the model's context window in tokens, prompt and reply together."""
    concurrency: int = Field(default=16, ge=1, le=512)
    """Most calls in flight at the same time."""
    attempts: int = Field(default=5, ge=1, le=20)
    """Most attempts at a call before it fails."""
    deadline: float = Field(default=60.0, gt=0.0)
    """Total timeout of one attempt in seconds."""
    prices: Path | None = None
    """A price file that replaces the one in the package."""

    @property
    def sampling(self) -> dict[str, Any]:
        """The settings that an answer depends on: model, sampling, and how JSON is requested."""
        return self.model_dump(include={"model", "temperature", "top_p", "seed", "structured"})


class ProfileSettings(_Settings):
    """How users' profiles are written; the defaults are those of Lusifer."""

    writer: Literal["llm", "statistics"] = "llm"
    """Who writes profiles where a language model is asked for ratings."""
    n_recent: int = Field(default=40, ge=1)
    """Last ratings of a user that the profile is made from."""
    batch: int = Field(default=10, ge=1)
    """Ratings per version of the profile."""
    update_every: int = Field(default=10, ge=1)
    """Simulated ratings after which the profile is updated."""
    may_quote_titles: bool = False
    """Whether a profile may name titles."""
    may_quote_ratings: bool = False
    """Whether a profile may quote ratings."""

    @model_validator(mode="after")
    def _updates_see_all(self) -> Self:
        if self.update_every > self.n_recent:
            raise ValueError(
                f"with an update after every {self.update_every} ratings and the last {self.n_recent} shown, some "
                "would never be seen; lower profile.update_every or raise profile.n_recent"
            )
        return self


class RatingSettings(_Settings):
    """How ratings are requested, and for which pairs."""

    items_per_call: int = Field(default=10, ge=1, le=50)
    """Items that one call asks about."""
    n_history: int = Field(default=10, ge=0)
    """Rated items of the user that are shown beside the profile."""
    history: Literal["recent", "similar", "both"] = "recent"
    """Which rated items these are: the last ones, as in Lusifer; those whose texts are most similar to the items that
    are asked about; or half of them by each rule."""
    levels: Literal["scale", "integers"] = "scale"
    """Which ratings the model may give: all levels of the scale, or its integers."""
    samples: int = Field(default=1, ge=1, le=50)
    """Answers per pair; their frequencies are the LLM's distribution."""
    max_tokens: int | None = Field(default=None, ge=16, le=1_000_000)
    """Token limit of a reply; None: 200, and 120 for each item."""
    overview_length: int = Field(default=600, ge=0, le=600)
    """Characters of an item's overview that are shown; of a rated item at most 200."""
    reason_length: int = Field(default=200, ge=20, le=250)
    """Characters that a reason may have; reasons are most of a reply, so shorter ones make it cheaper and faster."""
    share: float = Field(default=1.0, ge=0.0, le=1.0)
    """Share of the calls about pairs that are made: those that are expected to help most."""
    learn_from: int = Field(default=60, ge=0)
    """Users whose last known ratings are requested too, to estimate how accurate the LLM is."""


class EnsembleSettings(_Settings):
    """The members of the ensemble."""

    members: tuple[str, ...] | None = None
    """Raters of the ensemble; None: all."""
    without: tuple[str, ...] = ()
    """Components, or members one by one, that are left out: embeddings, neighbours, factorization, combiner, boosted,
    calibration, llm, profile."""


class RunSettings(_Settings):
    """Everything that a run depends on beside its data and pairs."""

    ensemble: EnsembleSettings = EnsembleSettings()
    llm: LLMSettings = LLMSettings()
    profile: ProfileSettings = ProfileSettings()
    rating: RatingSettings = RatingSettings()
    prompts: Path | None = None
    """A folder whose files replace the prompts of the same names."""

    @model_validator(mode="after")
    def _samples_differ(self) -> Self:
        if self.rating.samples > 1 and self.llm.temperature == 0.0:
            raise ValueError(
                f"rating.samples = {self.rating.samples} at llm.temperature = 0 would pay for the same answer again; "
                "raise the temperature or ask once"
            )
        return self


PATHS = (("prompts",), ("llm", "prices"))
"""Settings that name a file or folder; in a settings file they are relative to it."""


def settings_from(source: RunSettings | Mapping[str, Any] | Path | str | None, model: str | None = None) -> RunSettings:
    """Settings from a (partial) dict or a TOML file; `model` names the language model instead of `llm.model`.

    >>> settings_from({"rating": {"items_per_call": 5}}, model="gpt-4o-mini").llm.model
    'gpt-4o-mini'

    Raises:
        SettingsError: the file cannot be read, a name is not known or a value is refused.
    """
    if isinstance(source, RunSettings):
        source = source.model_dump()
    content = read_toml(Path(source)) if isinstance(source, (str, Path)) else dict(source or {})
    if model is not None:
        llm = content.get("llm", {})
        content["llm"] = {**(llm.model_dump() if isinstance(llm, BaseModel) else llm), "model": model}
    try:
        return RunSettings.model_validate(content)
    except ValidationError as error:
        raise SettingsError(_first_mistake(error)) from None


def read_toml(path: Path) -> dict[str, Any]:
    """The content of a settings file.

    Raises:
        SettingsError: the file cannot be read or is no TOML.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"settings {path}: cannot be read ({error.strerror}); name a TOML file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"settings {path}: is not TOML: {error}") from error
    for *tables, name in PATHS:
        table = content.get(tables[0], {}) if tables else content
        if isinstance(table, dict) and isinstance(table.get(name), str):
            table[name] = os.path.join(path.parent, table[name])
    return content


def _first_mistake(error: ValidationError) -> str:
    """The first mistake in one line, with the nearest name where the name is not known."""
    first = error.errors(include_url=False)[0]
    name = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        model: Any = RunSettings
        for part in first["loc"][:-1]:
            model = model.model_fields[part].annotation
        return f"there is no setting {name!r}; {nearest(str(first['loc'][-1]), model.model_fields)}"
    if first["type"] == "value_error":
        return f"settings: {first['ctx']['error']}"
    return f"setting {name}: {first['msg'][0].lower()}{first['msg'][1:]}, got {first['input']!r}"
