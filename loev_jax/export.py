"""A trained model → a directory that can be used anywhere, with or without this package.

MODEL/config.json says what it is, model.safetensors holds the parameters, spaces.stablehlo the
computation from waveforms to every space (`jax.export`, for CPU, TPU and CUDA), README.md is the
model card.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from flax import nnx
from jax import export as jax_export

import loev_jax
from loev_jax import checkpoint, config, frontend, run_config
from loev_jax.embedder import ARTIFACT, CARD, PARAMETERS, Card, Embedder, Spaces
from loev_jax.errors import UserError
from loev_jax.model import Model

PLATFORMS = ("cpu", "tpu", "cuda")
README = "README.md"


def pure(model: Model, mel: frontend.LogMel) -> tuple[Spaces, dict[str, np.ndarray]]:
    """The model as a pure function from waveforms to spaces, and its parameters.

    Args:
        model: a trained model.
        mel: settings of its front end.

    Returns:
        The function, and every parameter by a flat name such as
        `encoder.stem.layers.0.convolution.kernel`.
    """
    graph, state = nnx.split(model)
    variables = {".".join(map(str, path)): path for path, _ in nnx.to_flat_state(state)}
    parameters = {
        ".".join(map(str, path)): np.asarray(leaf[...]) for path, leaf in nnx.to_flat_state(state)
    }

    def spaces(parameters: Mapping[str, jax.Array], waveform: jax.Array) -> dict[str, jax.Array]:
        leaves = [(variables[name], nnx.Param(value)) for name, value in parameters.items()]
        rebuilt = nnx.merge(graph, nnx.from_flat_state(leaves))
        return rebuilt.spaces(frontend.log_mel(mel, waveform))

    return spaces, parameters


def artifact(
    spaces: Spaces, parameters: dict[str, np.ndarray], mel: frontend.LogMel
) -> jax_export.Exported:
    """Lowers the function once for every platform, batch size and length of audio."""
    batch, samples = jax_export.symbolic_shape(
        "batch, samples", constraints=["batch >= 1", f"samples >= {mel.window}"]
    )
    arguments = (
        {name: jax.ShapeDtypeStruct(p.shape, p.dtype) for name, p in parameters.items()},
        jax.ShapeDtypeStruct((batch, samples), jnp.float32),
    )
    return jax_export.export(jax.jit(spaces), platforms=PLATFORMS)(*arguments)


def restore(workdir: Path, step: int | None) -> tuple[config.Recipe, int, Model]:
    """Reads a checkpoint of a training run.

    Args:
        workdir: of the run.
        step: of the checkpoint; the last one if None.

    Raises:
        UserError: no such run, or no such step.
    """
    recipe = run_config.load(workdir)
    if step is None:
        steps = checkpoint.steps(workdir)
        if not steps:
            raise UserError(f"{workdir}: no checkpoint yet; wait for the first, or train on")
        step = steps[-1]
    return recipe, step, checkpoint.restore_model(workdir, step, recipe)


def embedder(workdir: Path, step: int | None = None) -> Embedder:
    """An embedder straight from a training run, as `loev_jax.load` makes it.

    Raises:
        UserError: no such run, or no such step.
    """
    recipe, step, model = restore(workdir, step)
    spaces, parameters = pure(model, recipe.views.frontend)
    return Embedder(_card(workdir, recipe, step, spaces, parameters), spaces, parameters)


def save(workdir: Path, step: int | None, out: Path) -> Card:
    """Writes a checkpoint as a portable model: all of it, or nothing.

    Args:
        workdir: of the training run.
        step: of the checkpoint; the last one if None.
        out: directory to make.

    Returns:
        The model's card.

    Raises:
        UserError: no such run or step; `out` exists already or cannot be written.
    """
    workdir, out = Path(workdir), Path(out)
    if os.path.lexists(out):
        raise UserError(f"--out={out}: exists already; remove it or choose another name")
    recipe, step, model = restore(workdir, step)
    mel = recipe.views.frontend
    spaces, parameters = pure(model, mel)
    card = _card(workdir, recipe, step, spaces, parameters)
    contents = {
        CARD: json.dumps(dataclasses.asdict(card), indent=2).encode() + b"\n",
        PARAMETERS: safetensors.numpy.save(parameters, {"step": str(step)}),
        ARTIFACT: bytes(artifact(spaces, parameters, mel).serialize()),
        README: readme(card, parameters).encode(),
    }
    partial = out.with_name(f".{out.name}.partial-{os.getpid()}")
    try:
        partial.mkdir(parents=True)
        for name, content in contents.items():
            (partial / name).write_bytes(content)
        partial.rename(out)
    except OSError as error:
        raise UserError(f"--out={out}: {error.strerror}; choose another place") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return card


def _card(
    workdir: Path,
    recipe: config.Recipe,
    step: int,
    spaces: Spaces,
    parameters: dict[str, np.ndarray],
) -> Card:
    mel, seconds = recipe.views.frontend, recipe.views.seconds
    segment = round(seconds * mel.sample_rate)
    shapes = jax.eval_shape(
        spaces, parameters, jax.ShapeDtypeStruct((1, mel.samples(1)), jnp.float32)
    )
    return Card(
        sample_rate=mel.sample_rate,
        segment_samples=segment,
        window=mel.window,
        hop=mel.hop,
        spaces={name: shapes[name].shape[-1] for name in recipe.model.spaces},
        step=step,
        recipe=run_config.load_sections(workdir),
        versions={
            "loev_jax": loev_jax.__version__,
            "jax": jax.__version__,
            "flax": importlib.metadata.version("flax"),
        },
    )


def readme(card: Card, parameters: dict[str, np.ndarray]) -> str:
    """The model card: what the model is, and how to use it with or without this package."""
    recipe = card.recipe
    seconds = card.segment_samples / card.sample_rate
    kept = dict(recipe.get("heads", {}))

    def meaning(space: str) -> str:
        if space in kept:
            names = [kept[space]] if isinstance(kept[space], str) else list(kept[space])
            return f"invariant to every augmentation but {', '.join(names)}; unit length"
        if space == "invariant":
            return "invariant to every augmentation; unit length"
        return "the representation, for probes"

    rows = "\n".join(f"| `{name}` | {n} | {meaning(name)} |" for name, n in card.spaces.items())
    count = sum(p.size for p in parameters.values())
    return _README.format(
        encoder=recipe.get("encoder", {}).get("name", "cnn"),
        count=f"{count:,}",
        step=card.step,
        rate=card.sample_rate,
        seconds=f"{seconds:g}",
        samples=card.segment_samples,
        window=card.window,
        rows=rows,
        recipe=json.dumps(recipe, indent=2, sort_keys=True),
        versions=", ".join(f"{name} {version}" for name, version in card.versions.items()),
        parameters=PARAMETERS,
        artifact=ARTIFACT,
        platforms=", ".join(PLATFORMS),
    )


_README = """\
# A music encoder trained with LOEV

Encoder `{encoder}`, {count} parameters, step {step} of its training, on views of {seconds} s of
{rate} Hz mono audio. Exported by {versions}.

| space | size | what it is |
|---|---|---|
{rows}

## With loev_jax

```python
import loev_jax

model = loev_jax.load("MODEL")
embeddings = model.embed(audio, sample_rate=44100)  # audio: [samples] or [channels, samples]
```

`embeddings` holds every space by name, one row per {seconds} s of audio.

## Without loev_jax

`jax`, `flatbuffers` and `safetensors` are enough. The computation is compiled for the device at
hand ({platforms}); it takes any number of waveforms of one length, {window} samples or more.

```python
import numpy as np
from jax import export
from safetensors.numpy import load_file

parameters = load_file("MODEL/{parameters}")
with open("MODEL/{artifact}", "rb") as file:
    spaces = export.deserialize(bytearray(file.read()))
waveforms = np.zeros((2, {samples}), np.float32)  # [batch, samples] at {rate} Hz, full scale is 1
embeddings = spaces.call(parameters, waveforms)
```

## Configuration

```json
{recipe}
```
"""
