import os

import numpy as np
import pytest
import soundfile
import tensorflow_datasets as tfds
from array_record.python import array_record_module

from loev_jax.data import records


def write_data_set(directory, clips, labels=None, *, split="train", shards=1, shortest=None):
    """Writes clips (id, piece, int16 audio, label values) with the schema of `records`."""
    directory.mkdir(parents=True, exist_ok=True)
    schema = records.features(labels or {})
    template = tfds.core.ShardedFileTemplate(
        data_dir=directory, dataset_name="tiny", split=split, filetype_suffix="array_record"
    )
    lengths, size = [], 0
    for index, part in enumerate(np.array_split(np.arange(len(clips)), shards)):
        path = template.sharded_filepath(shard_index=index, num_shards=shards)
        writer = array_record_module.ArrayRecordWriter(os.fspath(path), records.SHARD_OPTIONS)
        for k in part:
            data = records.serialise(schema, clips[k])
            writer.write(data)
            size += len(data)
        writer.close()
        lengths.append(len(part))
    info = tfds.core.SplitInfo(
        name=split, shard_lengths=lengths, num_bytes=size, filename_template=template
    )
    records.describe(directory, "tiny", "1.0.0", labels or {}, [info], shortest or {})
    return directory


@pytest.fixture(name="write_data_set", scope="session")
def _write_data_set():
    return write_data_set


@pytest.fixture
def write_tone():
    """Writes seconds of sine tones, one frequency per channel, amplitude 0.5."""

    def write(path, *, rate=16000, seconds=2.0, hertz=(440.0,), **kwargs):
        time = np.arange(round(rate * seconds))[:, None] / rate
        path.parent.mkdir(parents=True, exist_ok=True)
        samples = 0.5 * np.sin(2 * np.pi * np.array(hertz)[None, :] * time)
        soundfile.write(path, samples, rate, **kwargs)
        return path

    return write
