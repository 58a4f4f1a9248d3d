"""The journal: what is committed stays, what is damaged is never used, and one process owns a run."""

from __future__ import annotations

import gzip
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from llm_asking import asking, question, questions

from hybrid_sim.core.errors import RunError, StorageError
from hybrid_sim.llm.batch import OpenBatch, OpenBatches
from hybrid_sim.llm.budget import Ledger, PromptUsage
from hybrid_sim.llm.journal import Journal
from hybrid_sim.llm.question import Answer, Failure, Message, Question, Usage

N_HARMS = 15
COUNTED = Usage(prompt_tokens=100, completion_tokens=20, cached_tokens=64)


def key_of(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def text_of(number: int) -> str:
    """Replies of very different lengths, some longer than a page of the file."""
    return f'{{"rating": {number % 5 + 1}, "reason": "{"because " * (number * 37 % 700)}"}}'


def fill(journal: Journal, numbers: range) -> None:
    for number in numbers:
        attempt = journal.start(key_of(number), "rate", 900, size=400)
        journal.finish(attempt, Answer(text_of(number), None, COUNTED, "m"), 500)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "run" / "journal.sqlite"


def child(program: str, *arguments: object) -> subprocess.Popen[str]:
    """A process that has the names of this module's helpers."""
    text = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n" + textwrap.dedent(program)
    command = [sys.executable, "-c", text, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def killed(file: Path, n_answers: int) -> None:
    """Leave a journal as a process leaves it that dies with one request under way."""
    program = """
        import os, signal
        from pathlib import Path
        from test_journal import Journal, fill
        journal = Journal(Path(sys.argv[1]))
        fill(journal, range(int(sys.argv[2])))
        journal.start("k", "rate", 900, size=400)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    process = child(program, file, n_answers)
    _, errors = process.communicate()
    assert process.returncode == -signal.SIGKILL, errors


def test_what_was_committed_comes_back_word_for_word(file: Path) -> None:
    texts = ["{}", "", "\x00 \x1b[31m ‮", "lone \ud800 surrogate", "x" * 100_000]
    with Journal(file) as journal:
        for number, text in enumerate(texts):
            journal.finish(
                journal.start(key_of(number), "p", None), Answer(text, None, Usage(7), f"m\udc80{number}"), None
            )
    with Journal(file) as journal:
        found = journal.find([key_of(number) for number in range(9)])
        assert [found[key_of(number)].text for number in range(len(texts))] == texts
        assert len(found) == len(texts)
        assert found[key_of(1)].usage == Usage(7, None, None)
        assert found[key_of(1)].model == "m\udc801"


def test_thousands_of_keys_are_found_at_once(file: Path) -> None:
    with Journal(file) as journal:
        fill(journal, range(1200))
        assert journal.find([key_of(number) for number in range(1300)]).keys() == {key_of(n) for n in range(1200)}
        assert journal.find([]) == {}


def test_a_later_answer_replaces_an_earlier_one(file: Path) -> None:
    with Journal(file) as journal:
        for text in ("old", "new"):
            journal.finish(journal.start("k", "p", 5), Answer(text, None, COUNTED), 3)
        assert journal.find(["k"])["k"].text == "new"
        assert journal.ledger().money == 6


def test_the_ledger_counts_what_was_paid_and_what_may_have_been(file: Path) -> None:
    with Journal(file) as journal:
        assert journal.ledger().calls == 0
        journal.finish(journal.start("a", "p", 900, size=10), Answer("{}", None, COUNTED), 500)
        journal.finish(journal.start("b", "p", 900, size=10), Answer("{}", None), None)
        journal.fail(journal.start("c", "p", 900), Failure("cut", "cut off", COUNTED), 400, possibly_paid=False)
        journal.fail(journal.start("d", "p", 700), Failure("passing", "timed out"), None, possibly_paid=True)
        journal.fail(journal.start("e", "p", 900), Failure("passing", "refused"), None, possibly_paid=False)
        journal.start("f", "p", 600)
        journal.start("g", "p", None)
        assert journal.failures() == {"cut": 1, "passing": 2}
    with Journal(file) as journal:
        ledger = journal.ledger()
        assert ledger == Ledger(
            calls=7, answered=2, failed=3, possibly_paid=3, prompt_tokens=200, completion_tokens=40, money=900,
            at_worst=900 + 700 + 600, unknown_cost=4, unpriced=1, seconds=ledger.seconds,
        )  # fmt: skip
        assert journal.usage_by_prompt() == [
            PromptUsage("p", 7, 2, counted=1, size=10, prompt_tokens=100, completion_tokens=20, cost=500)
        ]


def test_the_working_time_goes_on_after_a_restart(file: Path) -> None:
    with Journal(file) as journal:
        attempt = journal.start("a", "p", 1)
        before = journal.seconds
        journal.finish(attempt, Answer("{}", None), 1)
    with Journal(file) as journal:
        assert journal.seconds >= before > 0


def test_notes_are_kept_and_replaced(file: Path) -> None:
    with Journal(file) as journal:
        journal.write_note("batch", "batch_1")
        journal.write_note("other", "x")
        journal.write_note("batch", "batch_2")
    with Journal(file) as journal:
        assert (journal.note("batch"), journal.note("other"), journal.note("none")) == ("batch_2", "x", None)


def test_row_27_a_killed_process_loses_no_commit_and_its_open_request_is_counted(file: Path) -> None:
    killed(file, 30)
    assert (file.parent / "journal.sqlite-wal").stat().st_size > 0, "the commits were not pending, so nothing is tested"
    with Journal(file) as journal:
        assert journal.damage is None
        found = journal.find([key_of(number) for number in range(30)])
        assert [found[key_of(number)].text for number in range(30)] == [text_of(number) for number in range(30)]
        ledger = journal.ledger()
        assert (ledger.calls, ledger.answered, ledger.possibly_paid, ledger.at_worst) == (31, 30, 1, 900)


def test_row_30_a_second_process_is_refused_by_name_and_a_dead_owner_frees_the_run(file: Path) -> None:
    program = """
        import time
        from pathlib import Path
        from test_journal import Journal, fill
        journal = Journal(Path(sys.argv[1]))
        fill(journal, range(3))
        print("open", flush=True)
        time.sleep(60)
    """
    owner = child(program, file)
    try:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "open\n"
        with pytest.raises(RunError, match=rf"run is in use by process {owner.pid} on \S+; wait for it to end"):
            Journal(file)
        with Journal(file, replay=True) as reader:
            assert len(reader.find([key_of(0), key_of(2)])) == 2
        owner.kill()
        owner.wait()
        with Journal(file) as journal:
            assert journal.ledger().answered == 3
            with pytest.raises(RunError, match=f"in use by process {os.getpid()} on"):
                Journal(file)
    finally:
        owner.kill()
        owner.communicate()


def test_row_32_a_run_of_other_settings_is_refused_and_each_difference_named(file: Path) -> None:
    settings = {"llm": {"model": "a", "temperature": 0.0}, "data": "1234", "seed": 1}
    with Journal(file, settings=settings) as journal:
        journal.finish(journal.start("key", "p", 1), Answer("3", None), 1)
    with Journal(file, settings={"seed": 1, "data": "1234", "llm": {"temperature": 0.0, "model": "a"}}):
        pass
    other = {"llm": {"model": "b", "temperature": 0.7}, "data": "1234", "prompts": "x"}
    with pytest.raises(RunError) as refused:
        Journal(file, settings=other)
    message = str(refused.value)
    assert "llm.model: 'a' in the run, 'b' now; llm.temperature: 0.0 in the run, 0.7 now" in message
    assert "prompts: not set in the run, 'x' now; seed: 1 in the run, not set now" in message
    assert message.endswith("use the settings of the run, or another folder")
    assert "data" not in message
    with pytest.raises(RunError, match="of other settings"):
        Journal(file, settings=other, replay=True)
    with Journal(file) as journal:
        assert journal.ledger().calls == 1


def test_a_run_that_sent_nothing_yet_may_begin_with_other_settings(file: Path) -> None:
    with Journal(file, settings={"llm": {"model": "a"}}):
        pass
    with Journal(file, settings={"llm": {"model": "b"}}) as journal:
        journal.start("key", "p", 1)
    with pytest.raises(RunError, match=r"llm\.model: 'b' in the run, 'a' now"):
        Journal(file, settings={"llm": {"model": "a"}})


def test_row_33_samples_of_one_question_have_keys_of_their_own(file: Path) -> None:
    messages = (Message("user", "?"),)
    questions = [Question("p", messages, {}, str, sample=sample) for sample in range(5)]
    keys = [question.key({"model": "m"}) for question in questions]
    with Journal(file) as journal:
        for number, key in enumerate(keys):
            assert journal.find([key]) == {}
            journal.finish(journal.start(key, "p", 1), Answer(str(number), None), 1)
        assert [journal.find(keys)[key].text for key in keys] == ["0", "1", "2", "3", "4"]


def test_row_34_failures_are_never_found(file: Path) -> None:
    with Journal(file) as journal:
        journal.fail(journal.start("a", "p", 1), Failure("refused", "I cannot", COUNTED), 1, possibly_paid=False)
        journal.fail(journal.start("b", "p", 1), Failure("cut", '{"rating": 4', COUNTED), 1, possibly_paid=False)
        journal.start("c", "p", 1)
        assert journal.find(["a", "b", "c"]) == {}


def snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.iterdir()}


def test_replay_writes_nothing_and_locks_nobody_out(file: Path) -> None:
    with Journal(file) as journal:
        fill(journal, range(5))
    before = snapshot(file.parent)
    with Journal(file, replay=True) as one, Journal(file, replay=True) as other:
        assert one.find([key_of(3)])[key_of(3)].text == other.find([key_of(3)])[key_of(3)].text == text_of(3)
        assert one.ledger().answered == 5
        assert snapshot(file.parent) == before
        with pytest.raises(RunError, match="is being replayed: nothing is written"):
            one.start("k", "p", 1)
        with Journal(file) as writer:
            writer.start("k", "p", 1)
    with pytest.raises(RunError, match=r"none\.sqlite is not there, so there is nothing to replay"):
        Journal(file.with_name("none.sqlite"), replay=True)
    assert not file.with_name("none.sqlite").exists()


def test_replay_of_a_damaged_journal_says_so_and_leaves_it_alone(file: Path) -> None:
    with Journal(file) as journal:
        fill(journal, range(5))
    content = file.read_bytes()
    file.write_bytes(b"no database" + content[11:])
    with pytest.raises(RunError, match=r"journal\.sqlite is damaged: .*run the same command again without replay"):
        Journal(file, replay=True)
    assert file.read_bytes()[11:] == content[11:]


def test_row_31_a_replay_does_not_use_an_answer_whose_seal_is_broken(file: Path) -> None:
    with Journal(file) as journal:
        for number, text in enumerate(['{"rating": 4}', '{"rating": 2}']):
            journal.finish(journal.start(key_of(number), "p", 1), Answer(text, None), 1)
    file.write_bytes(file.read_bytes().replace(b'"rating": 4', b'"rating": 5'))
    with Journal(file, replay=True) as journal:
        assert journal.find([key_of(0), key_of(1)]).keys() == {key_of(1)}


def test_row_31_a_damaged_row_is_reported_though_sqlite_finds_the_file_in_order(file: Path) -> None:
    with Journal(file) as journal:
        for number, text in enumerate(['{"rating": 4}', '{"rating": 2}']):
            journal.finish(journal.start(key_of(number), "p", 7), Answer(text, None), 1)
    file.write_bytes(file.read_bytes().replace(b'"rating": 4', b'"rating": 5'))
    with Journal(file) as journal:
        assert "was damaged; 1 answers are rescued" in str(journal.damage)
        assert journal.find([key_of(0), key_of(1)]).keys() == {key_of(1)}
        assert (journal.ledger().calls, journal.ledger().money) == (2, 2)


def test_only_an_attempt_of_an_earlier_process_is_resumed_and_only_a_whole_one(file: Path) -> None:
    with Journal(file) as journal:
        journal.start("k", "prompt of k", 500)
        assert journal.resume("k") is None
        journal.fail(journal.start("ended", "p", 1), Failure("empty", ""), 0, possibly_paid=False)
    with Journal(file) as journal:
        assert (journal.resume("ended"), journal.resume("k"), journal.resume("k")) == (None, (1, 500), None)
        journal.finish(1, Answer("{}", None), 3)
        assert (journal.ledger().answered, journal.ledger().at_worst) == (1, 0)


@pytest.fixture(scope="module")
def closed_and_killed(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two journals of 60 answers: one that was closed, and one whose owner died, with its commits still pending."""
    closed, dead = (tmp_path_factory.mktemp(name) / "journal.sqlite" for name in ("closed", "dead"))
    with Journal(closed, settings={"seed": 1}) as journal:
        fill(journal, range(60))
    killed(dead, 60)
    return [closed, dead]


def copied(journal: Path, folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(journal.parent, folder)
    return folder / journal.name


def flip(path: Path, rng: random.Random) -> None:
    content = bytearray(path.read_bytes())
    for _ in range(rng.choice([1, 1, 3, 30])):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def cut(path: Path, rng: random.Random) -> None:
    with path.open("r+b") as file:
        file.truncate(rng.randrange(path.stat().st_size))


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("harm", [flip, cut])
def test_row_31_a_damaged_journal_never_gives_a_wrong_answer(
    which: int, harm: object, closed_and_killed: list[Path], tmp_path: Path
) -> None:
    assert callable(harm)
    keys = [key_of(number) for number in range(60)]
    rng = random.Random(f"{which}{harm}"[:6])
    n_found = n_damaged = 0
    for _ in range(N_HARMS):
        file = copied(closed_and_killed[which], tmp_path / "run")
        harm(rng.choice([file, file, *file.parent.glob("*-wal")]), rng)
        before = sorted((path.name, path.stat().st_size) for path in file.parent.glob("journal.sqlite*"))
        with Journal(file) as journal:
            found = journal.find(keys)
            assert all(found[key_of(n)].text == text_of(n) for n in range(60) if key_of(n) in found)
            assert journal.ledger().answered >= len(found)
            n_found += len(found)
            n_damaged += journal.damage is not None
            if journal.damage:
                kept = file.with_name("journal.sqlite.damaged-1")
                assert kept.name in journal.damage
                assert ("journal.sqlite", kept.stat().st_size) in before
            fill(journal, range(60))
            assert len(journal.find(keys)) == 60
        with Journal(file) as journal:
            assert journal.damage is None
            assert len(journal.find(keys)) == 60
    assert n_damaged >= (1, N_HARMS // 2)[which == 0], "the harm was too small to test anything"
    assert n_found > N_HARMS * 60 * 0.3, "too little was rescued"


def test_row_31_all_answers_survive_a_destroyed_first_page(closed_and_killed: list[Path], tmp_path: Path) -> None:
    for which, journal_file in enumerate(closed_and_killed):
        file = copied(journal_file, tmp_path / f"run{which}")
        content = file.read_bytes()
        file.write_bytes(random.Random(1).randbytes(4096) + content[4096:])
        with Journal(file) as journal:
            assert "60 answers are rescued" in str(journal.damage)
            assert len(journal.find([key_of(number) for number in range(60)])) == 60
            assert journal.ledger().answered == 60


def test_row_31_an_older_version_of_an_attempt_does_not_replace_its_answer(file: Path) -> None:
    with Journal(file) as journal:
        attempt = journal.start(key_of(1), "rate", 900, size=400)
    older = file.read_bytes()
    with Journal(file) as journal:
        assert journal.resume(key_of(1)) == (attempt, 900)
        journal.finish(attempt, Answer(text_of(1), None, COUNTED, "m"), 500)
    file.write_bytes(bytes(4096) + file.read_bytes()[4096:] + older[4096:])
    with Journal(file) as journal:
        assert "was damaged" in str(journal.damage)
        assert (journal.ledger().answered, journal.ledger().possibly_paid) == (1, 0)


def test_row_31_pending_commits_behind_a_damaged_one_are_not_forgotten(
    closed_and_killed: list[Path], tmp_path: Path
) -> None:
    """SQLite alone drops, without a word, all commits behind the first frame whose checksum is wrong."""
    file = copied(closed_and_killed[1], tmp_path / "run")
    log = file.with_name("journal.sqlite-wal")
    content = bytearray(log.read_bytes())
    content[len(content) // 2] ^= 255
    log.write_bytes(content)
    with Journal(file, replay=True) as journal:
        n_left_by_sqlite = journal.ledger().answered
    assert n_left_by_sqlite < 50, "SQLite lost nothing, so nothing is tested"
    with Journal(file) as journal:
        assert "was damaged" in str(journal.damage)
        assert len(journal.find([key_of(number) for number in range(60)])) >= 59
    assert log.with_name("journal.sqlite.damaged-1-wal").read_bytes() == content


def test_row_31_a_lost_attempt_counts_as_paid_at_worst(file: Path, tmp_path: Path) -> None:
    with Journal(file) as journal:
        for number in range(60):
            attempt = journal.start(key_of(number), "rate", 900, size=400)
            journal.fail(attempt, Failure("invalid", "no JSON", COUNTED), 500, possibly_paid=False)
    content, n_lost = file.read_bytes(), 0
    for page in range(1, len(content) // 4096):
        damaged = copied(file, tmp_path / "damaged")
        damaged.write_bytes(content[: page * 4096] + bytes(4096) + content[(page + 1) * 4096 :])
        with Journal(damaged) as journal:
            ledger = journal.ledger()
            assert ledger.money + ledger.at_worst >= 500 * 60 or ledger.calls < 60
            assert ledger.at_worst == 900 * ledger.possibly_paid
            n_lost += ledger.possibly_paid
    assert n_lost > 0, "nothing was lost, so nothing is tested"


def test_a_rescue_that_was_killed_before_its_last_step_is_completed(
    closed_and_killed: list[Path], tmp_path: Path
) -> None:
    file = copied(closed_and_killed[1], tmp_path / "run")
    shutil.copy2(closed_and_killed[0], file.with_name("journal.sqlite.rescued"))
    file.write_bytes(b"rubbish" * 1000)
    with Journal(file, settings={"seed": 1}) as journal:
        assert "is rescued" in str(journal.damage)
        assert len(journal.find([key_of(number) for number in range(60)])) == 60
    assert not file.with_name("journal.sqlite.rescued").exists()


LIMITED = """
    import resource
    from pathlib import Path
    from test_journal import Answer, Journal, StorageError, fill, key_of, text_of
    journal = Journal(Path(sys.argv[1]))
    fill(journal, range(10))
    resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, resource.RLIM_INFINITY))
    try:
        fill(journal, range(10, 5000))
    except StorageError as error:
        done = sum(bool(journal.find([key_of(number)])) for number in range(5000))
        print(done, error)
        try:
            journal.start("k", "p", 1)
        except StorageError:
            sys.exit(error.exit_code)
"""

FULL = """
    import os
    from pathlib import Path
    from test_journal import Answer, Journal, StorageError, fill, key_of, text_of
    journal = Journal(Path(sys.argv[1]))
    open_attempts = [journal.start(key_of(number), "rate", 900) for number in range(200)]
    try:
        with (Path(sys.argv[1]).parent / "rubbish").open("wb", buffering=0) as rubbish:
            while True:
                rubbish.write(bytes(4096))
    except OSError:
        pass
    try:
        for number in range(200, 2000):
            journal.start(key_of(number), "rate", 900)
    except StorageError as error:
        refused = error
    for number, attempt in enumerate(open_attempts):
        journal.finish(attempt, Answer(text_of(number), None), 500)
    print(len(journal.find([key_of(number) for number in range(200)])), refused)
    try:
        journal.start("k", "p", 1)
    except StorageError:
        print("and nothing more is sent")
    sys.exit(refused.exit_code)
"""


def test_row_29_a_full_disk_stops_before_sending_and_keeps_what_was_committed(file: Path) -> None:
    pytest.importorskip("resource", reason="file size limits are a matter of Unix")
    process = child(LIMITED, file)
    out, errors = process.communicate()
    assert process.returncode == StorageError.exit_code, errors
    done, message = out.split(" ", 1)
    assert "journal.sqlite: " in message
    assert "free some space or name another folder" in message
    with Journal(file) as journal:
        assert journal.damage is None
        found = journal.find([key_of(number) for number in range(5000)])
        assert len(found) == int(done) >= 10
        assert all(found[key_of(number)].text == text_of(number) for number in range(len(found)))


@pytest.mark.skipif(shutil.which("unshare") is None, reason="a small file system of one's own is a matter of Linux")
def test_row_29_answers_in_flight_fit_on_a_disk_that_is_full(tmp_path: Path) -> None:
    mount = f'mount -t tmpfs -o size=24m none {tmp_path} || exit 77; exec "$@"'
    text = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n" + textwrap.dedent(FULL)
    command = ["unshare", "-rm", "sh", "-c", mount, "sh", sys.executable, "-c", text, str(tmp_path / "journal.sqlite")]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode == 77 or "unshare" in run.stderr:
        pytest.skip("no file system may be mounted here")
    assert run.returncode == StorageError.exit_code, run.stderr
    assert run.stdout.startswith("200 ")
    assert "is full" in run.stdout
    assert run.stdout.endswith("and nothing more is sent\n")


@pytest.mark.parametrize("replay", [False, True])
def test_a_journal_written_before_the_modules_were_rearranged_is_read(replay: bool, file: Path) -> None:
    """Made at commit 783854d: 10 questions asked, the fourth refused; the 11th under way, the next two in a batch."""
    file.parent.mkdir()
    file.write_bytes(gzip.decompress((Path(__file__).parent / "data" / "journal-earlier.sqlite.gz").read_bytes()))
    with asking(file.parent, "http://127.0.0.1:9/v1", replay=replay) as llm:
        assert [result.value for result in llm.ask([*questions(3), *questions(10)[4:]])] == [1, 2, 3, 5, 1, 2, 3, 4, 5]
        assert llm.counts.calls == 0
        journal = llm.journal
        ledger, keys = journal.ledger(), [question(n).key(llm.settings.sampling) for n in (3, 10, 11, 12)]
        assert ledger == Ledger(
            calls=13, answered=9, failed=1, possibly_paid=3, prompt_tokens=144, completion_tokens=36, money=288_000,
            at_worst=694_300, unknown_cost=4, unpriced=0, seconds=ledger.seconds,
        )  # fmt: skip
        assert journal.usage_by_prompt() == [PromptUsage("rate@1", 13, 9, 9, 1764, 144, 36, 288_000)]
        assert (journal.find(keys), journal.failures()) == ({}, {"refused": 1})
        (batch,) = OpenBatches(journal).read()
        assert (batch.id, list(batch.keys)) == ("batch_1", keys[2:])
        assert journal.resume(keys[2]) == (12, 700)
    with pytest.raises(RunError, match="seed: 1 in the run, 2 now"):
        Journal(file, settings={"llm": {"model": "loopback"}, "seed": 2})


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("x")
    with pytest.raises(StorageError, match="taken"):
        Journal(tmp_path / "taken" / "journal.sqlite")


def test_a_batch_stays_open_while_results_in_it_have_not_been_delivered(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal.sqlite") as journal:
        batches = OpenBatches(journal)
        batch = batches.write(OpenBatch("a", "id-1", ["k1", "k2"]))
        batches.remove(batch, ["k1"])
        assert batches.keys() == {"k2"}
        batches.remove(batch, ["k1", "k2"])
        assert batches.read() == []
