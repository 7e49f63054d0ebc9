"""What one record holds, and how a prepared data set is opened and read.

A data set is a directory in TFDS's format with ArrayRecord shards: every record is a clip of mono
16 kHz audio, its `id`, the `piece` it belongs to (the unit of splitting) and its labels.
"""

from __future__ import annotations

import dataclasses
import operator
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, SupportsIndex

import numpy as np
import tensorflow_datasets as tfds
from etils import epath

from loev_jax.errors import UserError

AUDIO = "audio"
ID = "id"
PIECE = "piece"
RESERVED = (AUDIO, ID, PIECE)
"""Features that every record has; every other feature is a label."""

SHARD_OPTIONS = "group_size:1,uncompressed"
"""ArrayRecord: PCM hardly compresses, and uncompressed records read three times faster."""

_TELLING = 16  # records that tell a split from another
_SHORTEST = "shortest"  # key of the metadata: {split: {"id": str, "samples": int}}
_REMEDY = "prepare one with `python launch/prepare_data.py --source=corpus --out={path}`"


def features(labels: Mapping[str, type]) -> tfds.features.FeaturesDict:
    """The schema of a record.

    Args:
      labels: the type of each label by name: np.float32, np.int64 or str.

    Returns:
      TFDS's features: `audio` int16 [T] at 16 kHz, `id` and `piece` text, then the labels.
    """
    return tfds.features.FeaturesDict(
        {
            # Encoded as bytes, PCM writes 27 times and reads 6 times faster than as integers.
            AUDIO: tfds.features.Tensor(
                shape=(None,), dtype=np.int16, encoding=tfds.features.Encoding.BYTES
            ),
            ID: tfds.features.Text(),
            PIECE: tfds.features.Text(),
            **{
                name: tfds.features.Text() if kind is str else tfds.features.Scalar(kind)
                for name, kind in labels.items()
            },
        }
    )


def serialise(schema: tfds.features.FeaturesDict, record: Mapping[str, Any]) -> bytes:
    """Encodes a record; unlike `schema.serialize_example`, the same record gives the same bytes.

    Args:
      schema: from `features`.
      record: a value for each feature.

    Returns:
      A tf.train.Example with its features in sorted order.
    """
    serialiser = tfds.core.example_serializer.ExampleSerializer(schema.get_serialized_info())
    example = serialiser.get_tf_example(schema.encode_example(record))
    return example.SerializeToString(deterministic=True)


def metadata(shortest: Mapping[str, tuple[str, int]]) -> tfds.core.MetadataDict:
    """Metadata that lets a reader refuse too long a window when it opens the data set.

    Args:
      shortest: the id and the length in samples of the shortest clip of each split.
    """
    return tfds.core.MetadataDict(
        {_SHORTEST: {k: {"id": i, "samples": n} for k, (i, n) in shortest.items()}}
    )


def describe(
    directory: str | os.PathLike[str],
    name: str,
    version: str,
    labels: Mapping[str, type],
    splits: Sequence[tfds.core.SplitInfo],
    shortest: Mapping[str, tuple[str, int]],
) -> None:
    """Writes the JSON files that make a directory of ArrayRecord shards a TFDS data set.

    Args:
      directory: where the shards are.
      name: of the data set, as in the shards' names.
      version: of the data set, `major.minor.patch`.
      labels: as in `features`.
      splits: the shards of each split.
      shortest: as in `metadata`.
    """
    identity = tfds.core.dataset_info.DatasetIdentity(
        name=name,
        version=tfds.core.Version(version),
        data_dir=os.fspath(directory),
        module_name=__name__,
    )
    info = tfds.core.DatasetInfo(
        builder=identity, features=features(labels), metadata=metadata(shortest)
    )
    info.set_file_format(tfds.core.FileFormat.ARRAY_RECORD)
    info.set_splits(tfds.core.SplitDict(splits))
    info.write_to_directory(directory)


@dataclasses.dataclass(frozen=True)
class Clip:
    """A clip's name and length.

    Attributes:
      id: the record's `id`.
      samples: its length at 16 kHz.
    """

    id: str
    samples: int


class NoSplitError(UserError):
    """A data set has no split of this name."""


class Split:
    """Random access to the records of one split; safe to read from many threads.

    Attributes:
      path: directory of the data set.
      name: the split as it was asked for.
      label_names: every feature but `audio`, `id` and `piece`.
      shortest: the shortest clip, where the data set states it.
    """

    def __init__(
        self, path: str, name: str, source: Any, dtypes: Mapping[str, Any], shortest: Clip | None
    ):
        self.path = path
        self.name = name
        self.label_names = tuple(sorted(set(dtypes) - set(RESERVED)))
        self.shortest = shortest
        self._source = source
        self._dtypes = dtypes
        self._labels: dict[str, np.ndarray] | None = None

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: SupportsIndex) -> dict[str, Any]:
        """Reads one record: `audio` int16 [T] (read-only), texts as str, numbers as scalars.

        Raises:
          IndexError: `index` is outside [0, len).
        """
        position = operator.index(index)
        if not 0 <= position < len(self):
            raise IndexError(f"record {position} of {len(self)}")
        return {k: v.decode() if isinstance(v, bytes) else v for k, v in self._read(position)}

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Reads every record, in order, holding one at a time."""
        return (self[index] for index in range(len(self)))

    def identity(self) -> dict[str, Any]:
        """What tells the split from others, wherever it lies, as JSON holds it.

        Reads `_TELLING` records, spread evenly: another change than of one of these, or of how many
        there are, goes unseen.
        """
        total = 0
        for index in np.linspace(0, len(self) - 1, min(_TELLING, len(self))).round().astype(int):
            record = self[index]
            total = zlib.crc32(f"{record[ID]} {record[PIECE]}".encode(), total)
            total = zlib.crc32(record[AUDIO], total)
        return {"split": self.name, "clips": len(self), "crc32": f"{total:08x}"}

    def labels(self, name: str) -> np.ndarray:
        """One value per record, in order; also of `id` and `piece`.

        The first call reads the whole split once and keeps every label, never the audio.

        Args:
          name: a label, `id` or `piece`.

        Returns:
          [N]: float32 or int64 as declared, or str.

        Raises:
          UserError: there is no such label.
        """
        names = (ID, PIECE, *self.label_names)
        if name not in names:
            raise UserError(
                f"data set {self.path} has no label {name!r}: choose from {', '.join(names)}"
            )
        if self._labels is None:
            columns: dict[str, list[Any]] = {key: [] for key in names}
            for record in self:
                for key, column in columns.items():
                    column.append(record[key])
            self._labels = {
                key: np.array(column, str if self._dtypes[key] == np.object_ else self._dtypes[key])
                for key, column in columns.items()
            }
        return self._labels[name]

    def _read(self, position: int) -> list[tuple[str, Any]]:
        try:
            return list(self._source[position].items())
        except Exception as error:  # array_record raises bare C++ errors of several kinds
            raise UserError(
                f"data set {self.path}: record {position} of split {self.name!r} cannot be read "
                f"({error}): the data set is damaged, prepare it again"
            ) from error


def open_split(path: str | os.PathLike[str], split: str) -> Split:
    """Opens one split of a prepared data set, without reading a record.

    Args:
      path: directory of the data set, local or on a bucket.
      split: `train`, `validation`, `test`, or a slice of one in TFDS's notation
        (`validation[:100]`).

    Returns:
      The split.

    Raises:
      UserError: there is no data set at `path`, or it is damaged or of another kind.
      NoSplitError: it has no such split.
    """
    directory = epath.Path(path).expanduser()
    remedy = _REMEDY.format(path=os.fspath(path))
    if not directory.is_dir():
        raise UserError(f"data set {path} does not exist: {remedy}")
    present = {entry.name for entry in directory.iterdir()}
    if not {"dataset_info.json", "features.json"} <= present:
        raise UserError(f"{path} is not a data set (no dataset_info.json, features.json): {remedy}")
    try:
        builder = tfds.builder_from_directory(directory)
    except Exception as error:  # TFDS parses two JSON files here and lets any of their errors out
        raise UserError(f"data set {path} is damaged ({error}): prepare it again") from error
    spec = {name: feature.np_dtype for name, feature in builder.info.features.items()}
    if spec.get(AUDIO) != np.int16 or not {ID, PIECE} <= set(spec):
        raise UserError(
            f"data set {path} holds {', '.join(sorted(spec))}, not int16 audio, id and piece: "
            f"{remedy}"
        )
    splits = sorted(builder.info.splits)
    try:
        shards = builder.info.splits[split].filenames
        if missing := sorted(set(shards) - present):
            raise UserError(f"data set {path} lacks its shard {missing[0]}: prepare it again")
        source = builder.as_data_source(split)
    except (KeyError, ValueError, AssertionError) as error:
        raise NoSplitError(
            f"data set {path} has no split {split!r}: choose from {', '.join(splits)}"
        ) from error
    stated = (builder.info.metadata or {}).get(_SHORTEST, {}).get(split)
    shortest = Clip(stated["id"], stated["samples"]) if stated else None
    return Split(os.fspath(path), split, source, spec, shortest)
