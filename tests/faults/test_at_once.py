"""Several processes at one store, one index, one run's folder: nothing lost, nothing doubled, and
one that dies is no harm to the others.
"""

from pathlib import Path

import pytest
from tests.faults.jobs import CHUNK, Job, rows_of
from tests.faults.runs import KILLED, bytes_of, leftovers

from encoderlab.feature_store.store import FeatureStore
from encoderlab.retrieval.image_index import Index


@pytest.mark.slow
@pytest.mark.parametrize("name", ["index", "features"])
def test_four_at_once_leave_what_one_leaves(name, job, server, tmp_path):
    one = job(name)
    runs = [server.start(one.argv, tmp_path, chunk=CHUNK) for _ in range(4)]
    assert [run.wait() for run in runs] == [0] * 4, "\n".join(run.said for run in runs)
    _same(one, tmp_path / "out")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["index", "features"])
def test_one_that_is_killed_does_not_hinder_the_other(name, job, server, tmp_path):
    one = job(name)
    # By the files of both: how many of them the one that dies writes is a matter of chance.
    dies = server.start(one.argv, tmp_path, chunk=CHUNK, kill_at_file=one.files // 2)
    other = server.start(one.argv, tmp_path, chunk=CHUNK)
    assert dies.wait() == KILLED
    assert other.wait() == 0, other.said
    _same(one, tmp_path / "out")


def _same(one: Job, out: Path) -> None:
    whole = one.base / "whole" / "out"
    assert leftovers(out) == leftovers(whole)
    if one.argv[0] == "index":
        one.same(out, whole)
        return
    settings = ("run.json", "config.yaml")
    assert bytes_of(out, leave_out=settings) == bytes_of(whole, leave_out=settings)
    assert not list((out / ".locks").iterdir())
    for table in FeatureStore(out).tables():
        assert table.state(verify=True).damaged == ()


@pytest.mark.slow
def test_a_reader_sees_whole_rows_while_a_writer_works(job, server, tmp_path):
    one = job("index")
    writer = server.start(one.argv, tmp_path, chunk=CHUNK)
    final = rows_of(one.base / "whole" / "out")
    query = next(iter(final.values()))[1]
    reader, seen = None, set()
    while True:
        finished = not _is_running(writer.pid)
        if reader is None and (tmp_path / "out" / "index.json").exists():
            reader = Index.open(tmp_path / "out")
        if reader is not None:
            reader._follow()
            count = len(reader)
            seen.add(count)
            if count:
                paths = [hit.path for hit in reader.search(query, min(count, 16), exact=True)]
                assert len(set(paths)) == len(paths) and set(paths) <= final.keys()
        if finished:
            break
    assert writer.wait() == 0, writer.said
    assert max(seen) == len(final)


def _is_running(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"


@pytest.mark.slow
def test_a_second_training_in_the_same_folder_is_refused(job, server, tmp_path):
    one = job("train")
    first = server.start([*one.argv, "--epochs", "400"], tmp_path)
    while not (tmp_path / "out" / "checkpoints" / "latest.ckpt").exists():
        assert _is_running(first.pid), first.said
    second = server.start(one.argv, tmp_path)
    assert second.wait() == 2
    assert "another run is writing to this folder" in second.said and "'out'" in second.said
    assert _is_running(first.pid)
    first.kill()
    assert first.wait() == KILLED
    # A lock dies with its process.
    assert server.start(one.argv, tmp_path).wait() == 0
