"""Registries: entries of this package and of others, found by name."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from hybrid_sim.core.errors import SettingsError
from hybrid_sim.core.registry import Registry


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the import path, in which packages can be made."""
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_modules_of_a_home_are_imported_at_the_first_look_up(home: Path) -> None:
    (home / "forms").mkdir()
    (home / "forms" / "__init__.py").write_text("from hybrid_sim.core.registry import Registry\n")
    (home / "forms" / "register.py").write_text(
        "from hybrid_sim.core.registry import Registry\nFORMS = Registry('form', 'forms', ['forms'])\n"
    )
    (home / "forms" / "round.py").write_text("from forms.register import FORMS\nFORMS.add('circle', 1)\n")
    from forms.register import FORMS

    assert "forms.round" not in sys.modules
    assert list(FORMS) == ["circle"]
    assert "circle" in FORMS
    assert len(FORMS) == 1


def test_an_installed_package_adds_entries_by_an_entry_point(home: Path) -> None:
    info = home / "more_angles-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: more-angles\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[hybrid_sim.test_angles]\nright = more_angles\n")
    (home / "more_angles.py").write_text("from angles import ANGLES\nANGLES.add('right', 90)\n")
    (home / "angles.py").write_text(
        "from hybrid_sim.core.registry import Registry\nANGLES = Registry('angle', 'test angles')\n"
    )
    from angles import ANGLES

    assert ANGLES["right"] == 90


def test_two_entries_of_one_name_are_refused() -> None:
    numbers: Registry[int] = Registry("number", "numbers")
    numbers.add("one", 1)
    numbers.add("one", 1)
    with pytest.raises(SettingsError, match="two numbers are called 'one'"):
        numbers.add("one", 2)


def test_the_nearest_name_is_proposed() -> None:
    numbers: Registry[int] = Registry("number", "numbers")
    numbers.add("seven", 7)
    with pytest.raises(SettingsError, match="no number 'sevem'; did you mean 'seven'"):
        numbers["sevem"]
