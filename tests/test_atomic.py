"""A file that is written whole or not at all."""

import pytest

from loev_jax import atomic


def test_what_was_there_stays_until_all_is_written(tmp_path):
    path = tmp_path / "result.json"
    path.write_text("old")
    with atomic.replacing(path) as partial:
        partial.write_text("half")
        assert path.read_text() == "old"
        partial.write_text("new")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_what_fails_leaves_what_was_there_and_nothing_else(tmp_path, error):
    path = tmp_path / "result.json"
    path.write_text("old")

    def write():
        with atomic.replacing(path) as partial:
            partial.write_text("half")
            raise error

    with pytest.raises(error):
        write()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_without_a_place_to_write_the_error_is_that_of_writing(tmp_path):
    with (
        pytest.raises(FileNotFoundError, match="gone"),
        atomic.replacing(tmp_path / "gone" / "result.json") as partial,
    ):
        partial.write_text("new")
