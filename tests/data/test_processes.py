import os
import shutil

import pytest

from loev_jax.data import processes
from loev_jax.errors import UserError


def test_workers_start_where_the_initialiser_leaves_them(tmp_path):
    with processes.pool(1, os.chdir, (tmp_path,)) as pool:
        assert pool.submit(os.getcwd).result() == os.fspath(tmp_path.resolve())
    assert os.getcwd() != os.fspath(tmp_path.resolve())


def test_a_killed_worker_is_one_line_with_the_remedy():
    with (
        pytest.raises(UserError, match=r"worker process was killed.*fewer --workers"),
        processes.pool(1) as pool,
    ):
        pool.submit(os._exit, 1).result()


def test_a_full_disk_is_one_line_with_the_remedy(tmp_path):
    for error in (OSError(28, "No space left on device"), RuntimeError("write: No space left")):
        with pytest.raises(UserError, match="is full: free some space and run the same command"):
            processes.raise_if_disk_full(error, tmp_path)
    processes.raise_if_disk_full(OSError(13, os.strerror(13)), tmp_path)


def test_a_full_disk_is_told_with_figures_where_they_are_known(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=2_000))
    message = str(processes.disk_full(tmp_path, 1_000_000))
    assert f"{tmp_path} is full (1,000,000 bytes more are needed and 2,000 are free): " in message
