"""Errors: one sentence of up to four parts, and what kind of Python error each is."""

import copy
import errno
import pickle
import re

import pytest

from encoderlab.errors import MissingError, UsageError, WorkError, as_ours, did_you_mean, unknown


def test_a_sentence_of_four_parts():
    error = UsageError("k is too small", got=0, want="at least 1", hint="leave -k out for 5")
    assert str(error) == "k is too small: got 0; expected at least 1. Leave -k out for 5"


def test_an_unknown_name_offers_the_nearest():
    text = str(unknown("encoder", "siglp", ["clip", "siglip"], "encoderlab ls encoders"))
    assert "'siglp'" in text and "Did you mean 'siglip'?" in text
    assert "List them: encoderlab ls encoders" in text
    assert did_you_mean("zzz", ["clip"]) is None


def test_exit_codes_and_kinds():
    assert issubclass(UsageError, ValueError)
    assert [one.exit_code for one in (UsageError, MissingError, WorkError)] == [2, 3, 1]


@pytest.mark.parametrize("kind", [UsageError, MissingError, WorkError])
def test_errors_travel_between_processes(kind):
    error = kind("what", got=3, want="four", hint="five")
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert (again.what, again.got, again.want, again.hint) == ("what", 3, "four", "five")
        assert str(again) == str(error)


def test_a_path_that_no_disk_takes_is_named(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    for path, says in ((tmp_path / ("x" * 5000), "too long"), (tmp_path / "loop", "link to its")):
        with pytest.raises(OSError) as caught:
            path.read_bytes()
        ours = as_ours(caught.value)
        assert ours is not None and ours.exit_code == 2 and says in ours.what
        assert len(str(ours.got)) <= 120


@pytest.mark.parametrize(
    "error, code, says",
    [
        (OSError(errno.EROFS, "Read-only file system", "out"), 3, "read-only.*'out'"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "n"), 2, "path is too long.*'n'"),
        (RuntimeError("lance: IO: No space left on device (os error 28)"), 1, "the disk is full"),
        (FileNotFoundError(2, "No usable temporary directory found in ['/tmp']"), 1, "TMPDIR"),
    ],
    ids=["read-only", "long-name", "rust", "no-temporary-folder"],
)
def test_what_the_system_says_becomes_a_sentence(error, code, says):
    ours = as_ours(error)
    assert ours is not None and ours.exit_code == code
    assert re.search(says, str(ours))


def test_a_hint_is_one_line_whatever_file_it_names():
    assert UsageError("what", hint="see a\nb.png").hint == "see a b.png"
