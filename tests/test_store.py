"""Saved raters come back to the last bit; damaged and malicious files are refused before they are read."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from hybrid_sim.core.dataset import Dataset
from hybrid_sim.core.errors import ModelFileError, SettingsError, StorageError
from hybrid_sim.core.model_files import load, save
from hybrid_sim.core.rater import Rater
from hybrid_sim.core.types import Pairs, RatingDistribution, RatingScale
from hybrid_sim.models.biases import Biases
from hybrid_sim.models.means import UserMean
from hybrid_sim.retrieval.content_gp import ContentGP
from hybrid_sim.retrieval.minilm import MiniLM
from hybrid_sim.retrieval.tfidf import TfidfSVD


@dataclass
class Holder:
    """A rater of a foreign package that holds whatever it is given."""

    setting: Any = None
    member: Rater | None = None
    held_: Any = field(init=False, repr=False)

    def fit(self, dataset: Dataset) -> Self:
        self.held_ = dataset.scale
        return self

    def rate(self, pairs: Pairs) -> RatingDistribution:
        return RatingDistribution.abstain(self.held_, len(pairs))


def _holding(value: object) -> Holder:
    holder = Holder()
    holder.held_ = value
    return holder


def _round_trip(rater: Rater, folder: Path) -> Any:
    save(rater, folder / "model", trust=(__name__,))
    return load(folder / "model", trust=(__name__,))


@pytest.fixture
def saved(tiny: Dataset, tmp_path: Path) -> Path:
    save(Biases(reg_user=7.0).fit(tiny), tmp_path / "model")
    return tmp_path / "model"


def _rewrite(folder: Path, name: str, content: bytes) -> None:
    """Put other content into a saved model with a manifest to match, as an attacker would."""
    (folder / name).write_bytes(content)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def _edit(folder: Path, name: str, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads((folder / name).read_text())
    change(content)
    if name == "manifest.json":
        (folder / name).write_text(json.dumps(content))
    else:
        _rewrite(folder, name, json.dumps(content).encode())


def test_answers_are_equal_to_the_last_bit(tiny: Dataset, saved: Path) -> None:
    answers = Biases(reg_user=7.0).fit(tiny).rate(tiny.pairs)
    np.testing.assert_array_equal(load(saved).rate(tiny.pairs).probs, answers.probs)
    assert json.loads((saved / "manifest.json").read_text())["packages"]["numpy"] == np.__version__
    assert {path.name for path in saved.iterdir()} == {"manifest.json", "model.json", "arrays.npz"}


PLAIN = [
    None,
    True,
    -3,
    10**20,
    0.1,
    -0.0,
    float("inf"),
    "",
    "a\x00\x1b\ud800é",
    [],
    [1, [2.0, None]],
    (1, ("x", ())),
    {},
    {"class": "os:system", "array": "a0"},
    {"": [(1,)]},
    RatingScale((0.5, 1, 5)),
]


@pytest.mark.parametrize("value", PLAIN, ids=repr)
def test_plain_values_come_back(value: object, tmp_path: Path) -> None:
    for place in ("setting", "held_"):
        holder = _holding(None)
        setattr(holder, place, value)
        loaded = getattr(_round_trip(holder, tmp_path), place)
        assert (repr(loaded), type(loaded)) == (repr(value), type(value))


ARRAYS = [
    np.array([1.5, np.nan, -np.inf, -0.0]),
    np.arange(6, dtype=np.int8).reshape(2, 3),
    np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    np.arange(6, dtype=">f4")[::2],
    np.array([[True], [False]]),
    np.array(["é", "ab"]),
    np.array(["é", "", "a\x00"], dtype=object),
    np.array([], dtype=object),
    np.zeros((0, 4)),
    np.array(3.0),
]


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{array.dtype}{array.shape}")
def test_arrays_come_back(array: np.ndarray[Any, Any], tmp_path: Path) -> None:
    loaded = _round_trip(_holding({"x": [array, array]}), tmp_path).held_["x"]
    for copy in loaded:
        assert (copy.dtype, copy.shape, copy.tolist().__repr__()) == (
            array.dtype,
            array.shape,
            repr(array.tolist()),
        )
        assert copy.flags.f_contiguous == np.ascontiguousarray(array).flags.f_contiguous or array.flags.f_contiguous


def test_scalars_indexes_and_sparse_matrices_come_back(tmp_path: Path) -> None:
    matrix = sparse.random(5, 7, density=0.4, format="csr", random_state=0)
    index = pd.Index(["01", "é"], dtype=object)
    held = [np.float64(0.1), np.int32(4), matrix, sparse.csr_array(matrix), index, pd.Index(["a"])]
    loaded = _round_trip(_holding(held), tmp_path).held_
    assert [(value, type(value)) for value in loaded[:2]] == [(0.1, np.float64), (4, np.int32)]
    for copy, original in zip(loaded[2:4], held[2:4], strict=True):
        assert type(copy) is type(original)
        np.testing.assert_array_equal(copy.toarray(), original.toarray())
    pd.testing.assert_index_equal(loaded[4], index, exact=True)
    pd.testing.assert_index_equal(loaded[5], held[5], exact=True)


def test_raters_in_raters_come_back(tiny: Dataset, tmp_path: Path) -> None:
    inner = Holder(setting=[UserMean(smoothing=2.5).fit(tiny), Biases()], member=Biases().fit(tiny))
    inner.held_ = None
    loaded = _round_trip(_holding({"inner": inner}), tmp_path).held_["inner"]
    for copy, original in ((loaded.setting[0], inner.setting[0]), (loaded.member, Biases().fit(tiny))):
        np.testing.assert_array_equal(copy.rate(tiny.pairs).probs, original.rate(tiny.pairs).probs)
    assert repr(loaded.setting[1]) == "Biases(reg_user=5.0, reg_item=2.5)"


CYCLE: list[Any] = []
CYCLE.append(CYCLE)
UNSAVABLE = [
    ({1, 2}, "Holder.held_ is a set, which cannot be saved"),
    ([lambda: 0], r"Holder.held_\[0\] is a function"),
    ({3: 4}, "Holder.held_ is a dict"),
    (np.array([1, "x"], dtype=object), "Holder.held_ is an array of Python objects"),
    (np.zeros(2, dtype="M8[s]"), r"of datetime64\[s\] and cannot be saved"),
    (np.ma.masked_array([1.0]), "Holder.held_ is a MaskedArray"),
    (pd.Index([1, 2]), "Holder.held_ is an array of Python objects other than text"),
    (CYCLE, "contains itself"),
]


@pytest.mark.parametrize(("value", "message"), UNSAVABLE, ids=[message for _, message in UNSAVABLE])
def test_what_cannot_be_saved_is_named(value: object, message: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=message):
        save(_holding(value), tmp_path / "model", trust=(__name__,))
    assert list(tmp_path.iterdir()) == []


def test_unfitted_and_foreign_raters_are_refused(tiny: Dataset, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="Biases has no scale_: it is not fitted; call `fit` before saving"):
        save(Biases(), tmp_path / "model")
    with pytest.raises(SettingsError, match=r"is of class .*:Holder, and a model may hold .* pass trust="):
        save(_holding(None), tmp_path / "model")


def test_replaces_a_saved_model_and_nothing_else(tiny: Dataset, saved: Path, tmp_path: Path) -> None:
    rater = Biases().fit(tiny)
    assert repr(load(saved)) != repr(rater)
    save(rater, saved)
    assert repr(load(saved)) == repr(rater)
    (tmp_path / "empty").mkdir()
    save(rater, tmp_path / "empty")
    (saved / "thesis.txt").write_text("mine")
    with pytest.raises(SettingsError, match="is not a saved model and will not be overwritten"):
        save(rater, saved)
    with pytest.raises(SettingsError, match=r"thesis.txt is a file; choose another name"):
        save(rater, saved / "thesis.txt")
    assert (saved / "thesis.txt").read_text() == "mine"
    assert {path.name for path in tmp_path.iterdir()} == {"model", "empty"}


@pytest.mark.parametrize("name", ["manifest.json", "model.json", "arrays.npz"])
def test_every_truncation_and_every_flipped_byte_is_noticed(name: str, saved: Path) -> None:
    content = (saved / name).read_bytes()
    files_start = content.find(b'"files"') if name == "manifest.json" else 0
    for position in range(files_start, len(content) - 1, max(1, (len(content) - files_start) // 25)):
        (saved / name).write_bytes(content[:position])
        with pytest.raises(ModelFileError, match=rf"{name} .*(copy the folder again|save the model again)"):
            load(saved)
        flipped = content[:position] + bytes([content[position] ^ 0x41]) + content[position + 1 :]
        if flipped.decode("latin-1").split() != content.decode("latin-1").split():
            (saved / name).write_bytes(flipped)
            with pytest.raises(ModelFileError, match=name):
                load(saved)
    (saved / name).unlink()
    with pytest.raises(ModelFileError, match=rf"{name}.* (is missing|cannot be read: No such file)"):
        load(saved)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "another"}, "is not the manifest of a saved model; name a folder that `hybrid-sim fit` wrote"),
        (
            {"format_version": 99},
            r"has format version 99, this release 6; .* load it with the one that wrote it",
        ),
        ({"format_version": None}, "has format version None"),
        ({"files": []}, "lacks 'files' or 'packages'"),
        ({"files": {}}, r"arrays.npz is damaged"),
        ({"files": {"arrays.npz": {"bytes": 3, "sha256": "00"}}}, r"arrays.npz is damaged: its \d+ bytes"),
        ({"packages": None}, "lacks 'files' or 'packages'"),
    ],
)
def test_an_edited_manifest_is_refused(change: dict[str, object], message: str, saved: Path) -> None:
    _edit(saved, "manifest.json", lambda manifest: manifest.update(change))
    with pytest.raises(ModelFileError, match=message):
        load(saved)


def test_what_is_no_saved_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for folder in (tmp_path, tmp_path / "none", tmp_path / "file"):
        with pytest.raises(ModelFileError, match=r"is not a saved model: manifest.json is missing"):
            load(folder)
    (tmp_path / "manifest.json").write_text("[" * 100_000)
    with pytest.raises(ModelFileError, match=r"manifest.json is not JSON"):
        load(tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        "antigravity:fly",
        "os:system",
        "hybrid_sim.models_evil:Rater",
        "hybrid_sim.modelsx:Rater",
        "hybrid_sim.models.biases:Biases.__init__",
        "hybrid_sim.models...os:system",
        "hybrid_sim.models:",
        "",
        None,
        ["os:system"],
    ],
)
def test_a_class_from_elsewhere_is_never_imported(name: object, saved: Path) -> None:
    _edit(saved, "model.json", lambda model: model.update({"class": name}))
    with pytest.raises(ModelFileError, match=r"names the class .*; nothing of it was imported"):
        load(saved)
    assert "antigravity" not in sys.modules


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"class": "hybrid_sim.models.biases:np"}, "is not a class of saved raters"),
        ({"class": "hybrid_sim.models.biases:Pairs"}, "is not a class of saved raters"),
        ({"class": "hybrid_sim.models.biases:Bias"}, "which this release does not have"),
        ({"class": "hybrid_sim.models.none:Bias"}, "which this release does not have"),
        ({"settings": {"reg_user": -1.0}}, "reg_user of Biases must be a positive number"),
        ({"settings": {"nonsense": 1}}, "unexpected keyword argument 'nonsense'"),
        ({"fitted": {"rate": 1}}, "sets 'rate' of Biases, which is no fitted attribute"),
        ({"fitted": {"__class__": 1}}, "which is no fitted attribute"),
        ({"fitted": {"x_": {"array": "a99"}}}, "a99"),
        ({"fitted": {"x_": {}}}, "does not describe a rater of this release"),
        ({"fitted": {"x_": {"pickle": "gASV"}}}, "does not describe a rater of this release"),
        (
            {"fitted": {"scale_": {"class": "hybrid_sim.core.types:RatingScale", "settings": {"levels": [5, 1]}}}},
            "does not describe a rater of this release",
        ),
    ],
)
def test_a_made_up_structure_is_refused(change: dict[str, object], message: str, saved: Path) -> None:
    _edit(saved, "model.json", lambda model: model.update(change))
    with pytest.raises(ModelFileError, match=message):
        load(saved)


def test_a_structure_that_is_no_rater_is_refused(saved: Path) -> None:
    for content in (b"{", b"", b"\xff", b"[" * 100_000):
        _rewrite(saved, "model.json", content)
        with pytest.raises(ModelFileError, match=r"model.json is not the description of a saved model"):
            load(saved)
    for content, message in ((b"{}", "does not describe a rater of this release"), (b"[1]", "a list, not a rater")):
        _rewrite(saved, "model.json", content)
        with pytest.raises(ModelFileError, match=message):
            load(saved)


def _planted_embedder(folder: Path, mark: Path) -> dict[str, str]:
    """A model of sentence-transformers whose module is code; what a model file would have to say to load it."""
    (folder / "1_Pooling").mkdir(parents=True)
    (folder / "evil.py").write_text(f"import os\nos.mkdir({str(mark)!r})\nclass Evil: pass\n")
    module = {"idx": 0, "name": "0", "path": "", "type": "evil.Evil"}
    (folder / "modules.json").write_text(json.dumps([module]))
    for name in ("config.json", "tokenizer.json", "1_Pooling/config.json"):
        (folder / name).write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    return {"folder": str(folder), "weights_sha256": hashlib.sha256(b"weights").hexdigest()}


@pytest.mark.parametrize("local", ["folder", "device"])
def test_a_model_file_cannot_name_a_folder_with_code(local: str, tiny: Dataset, tmp_path: Path) -> None:
    """Issue 10: sentence-transformers executes the modules in a model's folder."""
    saved, mark = tmp_path / "model", tmp_path / "mark"
    rater = ContentGP(TfidfSVD(dim=8)).fit(tiny)
    rater.embedder = MiniLM(folder="mine", device="cuda")
    save(rater, saved)
    assert set(json.loads((saved / "model.json").read_text())["settings"]["embedder"]["settings"]) == {"weights_sha256"}
    planted = {**_planted_embedder(tmp_path / "planted", mark), "device": "cpu"}
    kept = {local: planted[local], "weights_sha256": planted["weights_sha256"]}
    embedder = {"class": "hybrid_sim.retrieval.minilm:MiniLM", "settings": kept, "fitted": {}}
    _edit(saved, "model.json", lambda model: model["settings"].update(embedder=embedder))
    with pytest.raises(ModelFileError, match=f"names the {local} of a MiniLM, and no file may; save the model again"):
        load(saved).fit(tiny)
    assert not mark.exists()


class Bomb:
    """Leaves a mark when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return os.mkdir, (str(self.mark),)


def test_pickles_in_the_arrays_are_never_opened(saved: Path, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    bomb = np.array([Bomb(mark)], dtype=object)
    stored, compressed = io.BytesIO(), io.BytesIO()
    np.savez(stored, a0=bomb, allow_pickle=True)
    np.savez_compressed(compressed, a0=np.zeros(10))
    for content, message in (
        (stored.getvalue(), "Object arrays cannot be loaded"),
        (pickle.dumps(bomb), "File is not a zip file"),
        (compressed.getvalue(), "is compressed, which `save` never does"),
        (b"", "File is not a zip file"),
    ):
        _rewrite(saved, "arrays.npz", content)
        with pytest.raises(ModelFileError, match=message):
            load(saved)
    assert not mark.exists()


def test_an_array_header_that_promises_too_much_is_refused(saved: Path) -> None:
    content = (saved / "arrays.npz").read_bytes()
    _rewrite(saved, "arrays.npz", content.replace(b"'shape': (40,), }  ", b"'shape': (10**15,)}", 1))
    with pytest.raises(ModelFileError, match="does not hold plain arrays"):
        load(saved)


def _npz(**headers: tuple[tuple[int, ...], bytes]) -> bytes:
    """An archive of arrays with this shape and these bytes of content."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, (shape, content) in headers.items():
            member = io.BytesIO()
            np.lib.format.write_array_header_1_0(member, {"descr": "<f8", "fortran_order": False, "shape": shape})
            archive.writestr(f"{name}.npy", member.getvalue() + content)
    return packed.getvalue()


def test_an_array_has_the_size_that_its_header_claims(saved: Path) -> None:
    """numpy would reserve the memory first: 80 GB for an archive of 300 bytes."""
    _rewrite(saved, "arrays.npz", _npz(a0=((10**10,), bytes(8))))
    with pytest.raises(ModelFileError, match=r"claims .* values of float64 and does not hold them"):
        load(saved)


def test_members_of_an_archive_that_share_their_bytes_are_refused(saved: Path) -> None:
    """A thousand entries of the same 8 MB are 8 GB."""
    content = bytearray(_npz(a0=((10**6,), bytes(8 * 10**6))))
    start = content.index(b"PK\x01\x02")
    entry, end = content[start : content.index(b"PK\x05\x06")], content[content.index(b"PK\x05\x06") :]
    entries = b"".join(entry.replace(b"a0", b"%02x" % number) for number in range(200))
    end[8:12], end[12:16] = (200).to_bytes(2, "little") * 2, len(entries).to_bytes(4, "little")
    _rewrite(saved, "arrays.npz", bytes(content[:start] + entries + end))
    with pytest.raises(ModelFileError, match="members that overlap"):
        load(saved)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes in folders are a matter of Unix")
@pytest.mark.parametrize("name", ["manifest.json", "model.json", "arrays.npz"])
def test_pipes_devices_and_holes_are_not_read(name: str, saved: Path) -> None:
    """Issue 10: a pipe hung, a sparse file took 20 GB."""
    (saved / name).unlink()
    os.mkfifo(saved / name)
    with pytest.raises(ModelFileError, match=f"{name} cannot be read: not a regular file"):
        load(saved)
    (saved / name).unlink()
    (saved / name).symlink_to("/dev/zero")
    with pytest.raises(ModelFileError, match=f"{name} cannot be read: not a regular file"):
        load(saved)
    (saved / name).unlink()
    with (saved / name).open("wb") as file:
        file.truncate(20 * 10**9)
    with pytest.raises(ModelFileError, match=f"{name} cannot be read: a sparse file"):
        load(saved)


def test_a_file_of_another_size_is_not_read(saved: Path) -> None:
    """The size is compared first; reading would take minutes and all the memory."""
    with (saved / "model.json").open("ab") as file:
        file.write(bytes(1000))
    reads: list[str] = []
    mine = f"{saved}{os.sep}"

    def note(event: str, values: tuple[object, ...]) -> None:
        if event == "open" and str(values[0]).startswith(mine):
            reads.append(Path(str(values[0])).name)

    sys.addaudithook(note)
    with pytest.raises(ModelFileError, match=r"model.json is damaged: its \d+ bytes"):
        load(saved)
    assert reads == ["manifest.json", "arrays.npz"]


def test_a_description_of_too_many_values_is_refused(saved: Path) -> None:
    """30 MB of `{},` are 700 MB in memory."""
    _rewrite(saved, "model.json", b"[" + b"{}," * 10_000_000 + b"{}]")
    with pytest.raises(ModelFileError, match="more values than a saved rater has"):
        load(saved)
    (saved / "manifest.json").write_bytes(b"[" + b"{}," * 6_000_000 + b"{}]")
    with pytest.raises(ModelFileError, match=r"manifest.json is not JSON"):
        load(saved)


KILLED_SWAP = """
import os, signal, sys
from hybrid_sim.models.biases import Biases
from hybrid_sim.core.model_files import save
from hybrid_sim.testing import tiny_dataset

def kill(event, values):
    if event == "os.rename" and str(values[0]).endswith("new"):
        os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(kill)
save(Biases().fit(tiny_dataset()), sys.argv[1])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="a working folder is locked by flock")
def test_a_writer_killed_between_two_renames_leaves_the_earlier_model(tiny: Dataset, saved: Path) -> None:
    """Issue 10: it left none under its name, and a hidden copy of each."""

    def kill_a_writer() -> None:
        run = subprocess.run([sys.executable, "-c", KILLED_SWAP, str(saved)], check=False)
        assert run.returncode == -9
        assert not saved.exists()

    kill_a_writer()
    assert repr(load(saved)) == "Biases(reg_user=7.0, reg_item=2.5)"
    assert list(saved.parent.iterdir()) == [saved]
    kill_a_writer()
    save(Biases(reg_user=9.0).fit(tiny), saved)
    assert repr(load(saved)) == "Biases(reg_user=9.0, reg_item=2.5)"
    assert list(saved.parent.iterdir()) == [saved]


@pytest.mark.skipif(sys.platform == "win32", reason="a working folder is locked by flock")
def test_the_working_folder_of_a_living_writer_stays(tiny: Dataset, saved: Path) -> None:
    import fcntl

    work = saved.with_name(f".model.{'0' * 32}")
    work.mkdir()
    opened = os.open(work, os.O_RDONLY)
    fcntl.flock(opened, fcntl.LOCK_EX)
    save(Biases().fit(tiny), saved)
    assert work.is_dir()
    os.close(opened)
    save(Biases().fit(tiny), saved)
    assert list(saved.parent.iterdir()) == [saved]


FULL_DISK = """
import resource, signal, sys
from hybrid_sim.core.errors import StorageError
from hybrid_sim.models.surprise_raters import KNN
from hybrid_sim.core.model_files import save
from hybrid_sim.testing import tiny_dataset

rater = KNN().fit(tiny_dataset())
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
try:
    save(rater, sys.argv[1])
except StorageError as error:
    print(error)
    sys.exit(error.exit_code)
"""


@pytest.mark.parametrize("limit", [0, 700, 9000])
def test_a_full_disk_keeps_the_earlier_model_and_leaves_no_litter(limit: int, saved: Path) -> None:
    pytest.importorskip("resource", reason="file size limits are a matter of Unix")
    command = [sys.executable, "-c", FULL_DISK, str(saved), str(limit)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == StorageError.exit_code, run.stderr
    assert "cannot be saved in" in run.stdout
    assert "free some space" in run.stdout
    assert repr(load(saved)) == "Biases(reg_user=7.0, reg_item=2.5)"
    assert [path.name for path in saved.parent.iterdir()] == ["model"]


def test_a_folder_that_cannot_be_made_is_a_storage_error(tiny: Dataset, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match=r"cannot be saved in .*: Not a directory; check that the folder above"):
        save(Biases().fit(tiny), tmp_path / "file" / "model")


FAILED_SWAP = """
import sys
from pathlib import Path
from hybrid_sim.core.errors import StorageError
from hybrid_sim.models.surprise_raters import KNN
from hybrid_sim.core.model_files import save
from hybrid_sim.testing import tiny_dataset

folder, rater = sys.argv[1], KNN().fit(tiny_dataset())

def disk(event, values):
    if event == "os.rename" and str(values[1]) == folder and not str(values[0]).endswith("old"):
        raise OSError(5, "Input/output error")

sys.addaudithook(disk)
try:
    save(rater, folder)
except StorageError as error:
    sys.exit(error.exit_code)
"""


def test_a_disk_that_fails_while_the_folders_are_swapped_keeps_the_earlier_model(saved: Path) -> None:
    command = [sys.executable, "-c", FAILED_SWAP, str(saved)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == StorageError.exit_code, run.stderr
    assert repr(load(saved)) == "Biases(reg_user=7.0, reg_item=2.5)"
    assert [path.name for path in saved.parent.iterdir()] == ["model"]
