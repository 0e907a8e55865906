"""JSON of others is plain values, or one ValueError, whatever is wrong with it."""

import pytest

from encoderlab.core.json_text import parsed, record_in


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "{", "", b"\xff", "1" * 5000])
def test_whatever_is_wrong_is_a_value_error(text):
    with pytest.raises(ValueError):
        parsed(text)


def test_a_record_is_a_mapping_in_a_file(tmp_path):
    file = tmp_path / "x.json"
    file.write_text('{"a": [1]}')
    assert record_in(file) == {"a": [1]}
    file.write_text("[1]")
    with pytest.raises(ValueError, match="it holds a list, not a mapping"):
        record_in(file)
    with pytest.raises(ValueError, match="directory"):
        record_in(tmp_path)
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(ValueError, match="symbolic links"):
        record_in(tmp_path / "loop")
