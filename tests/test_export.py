"""An exported model computes what the training model computes, on every platform and shape."""

import json
import re
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import safetensors.numpy
import tiny_encoders
import tiny_run
from flax import nnx
from jax import export as jax_export

import loev_jax
from loev_jax import checkpoint, config, export, frontend, run_config
from loev_jax import model as models
from loev_jax.embedder import ARTIFACT, CARD, PARAMETERS
from loev_jax.encoders import resnet
from loev_jax.encoders.encoder import SETTINGS
from loev_jax.errors import UserError
from loev_jax.heads import Projection
from loev_jax.model import ModelSpec

SECONDS = 0.5


def write_and_export(root, compute_dtype):
    tiny_run.write(root / "run", compute_dtype=compute_dtype, steps=(1, 2))
    export.save(root / "run", None, root / "MODEL")
    return root / "run", root / "MODEL"


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """(training directory, exported model) in float32."""
    return write_and_export(tmp_path_factory.mktemp("f32"), "float32")


@pytest.fixture(scope="module", params=["float32", "bfloat16"])
def exported_each(request, exported, tmp_path_factory):
    """The same for each compute dtype."""
    if request.param == "float32":
        return exported
    return write_and_export(tmp_path_factory.mktemp("bf16"), "bfloat16")


def training_model(workdir, waveforms):
    """Spaces from the restored nnx model itself."""
    recipe = run_config.load(workdir)
    model = checkpoint.restore_model(workdir, 2, recipe)
    compute = nnx.jit(lambda m, w: m.spaces(frontend.log_mel(recipe.views.frontend, w)))
    return jax.device_get(compute(model, waveforms))


def noise(*shape, seed=0):
    return 0.1 * np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def call_artifact(model, waveforms):
    spaces = jax_export.deserialize(bytearray((model / ARTIFACT).read_bytes()))
    parameters = safetensors.numpy.load_file(model / PARAMETERS)
    return jax.device_get(spaces.call(parameters, waveforms))


@pytest.mark.parametrize("shape", [(1, 8000), (3, 8000), (4, 12345)])
def test_artifact_equals_training_model_for_any_batch_and_length(exported_each, shape):
    workdir, model = exported_each
    waveforms = noise(*shape)
    expected, actual = training_model(workdir, waveforms), call_artifact(model, waveforms)
    assert actual.keys() == expected.keys() == {"encoder", "invariant", "tempo", "pitch"}
    for name, space in expected.items():
        assert np.std(space, axis=0).max() > 0 or shape[0] == 1
        np.testing.assert_allclose(actual[name], space, rtol=0, atol=1e-5)


ENCODERS = {
    "cnn": tiny_encoders.CNN,
    "resnet": tiny_encoders.RESNET,
    "sf_nfnet_f0": tiny_encoders.NFNET,
}
MEL = frontend.LogMel(n_fft=256, window=180, hop=160, bands=20)


def random_model(encoder, branched):
    """A model none of whose parameters is zero, as residual paths of an NFNet begin."""
    spec = ModelSpec(
        bands=MEL.bands,
        frame_rate=100.0,
        heads={"tempo": ("time_stretch",)},
        readouts={},
        encoder=ENCODERS[encoder],
        projection=Projection(hidden=(8,), outputs=4),
        branched=branched,
    )
    model, rng = models.create(spec, 0), np.random.default_rng(1)
    for _, leaf in nnx.to_flat_state(nnx.state(model)):
        leaf[...] += 0.3 * rng.normal(size=leaf.shape).astype(np.float32)
    return model


# A `cnn` of one space is exported by all other tests.
@pytest.mark.parametrize(
    ("encoder", "branched"),
    [
        ("cnn", True),
        pytest.param("resnet", False, marks=pytest.mark.slow),
        ("resnet", True),
        ("sf_nfnet_f0", False),
        pytest.param("sf_nfnet_f0", True, marks=pytest.mark.slow),
    ],
)
def test_every_encoder_is_exported_for_any_batch_and_length(encoder, branched, monkeypatch):
    """Its branches by name, too; the form of its convolutions depends on the platform."""
    monkeypatch.setattr(resnet, "WIDTH", 8)
    model = random_model(encoder, branched)
    spaces, parameters = export.pure(model, MEL)
    exported = export.artifact(spaces, parameters, MEL)
    assert exported.platforms == export.PLATFORMS
    again = jax_export.deserialize(exported.serialize())
    waveforms = noise(3, 5777)  # 35 frames: no stride divides them
    actual = jax.device_get(again.call(parameters, waveforms))
    compute = nnx.jit(lambda model, w: model.spaces(frontend.log_mel(MEL, w)))
    expected = jax.device_get(compute(model, waveforms))
    branches = {"encoder/invariant", "encoder/tempo"} if branched else set()
    assert actual.keys() == expected.keys() == {"encoder", "invariant", "tempo"} | branches
    for name, space in expected.items():
        assert np.std(space, axis=0).max() > 1e-3
        np.testing.assert_allclose(actual[name], space, rtol=1e-5, atol=1e-5)
    if branched:
        parts = [actual["encoder/invariant"], actual["encoder/tempo"]]
        np.testing.assert_array_equal(actual["encoder"], np.concatenate(parts, axis=1))
        assert np.abs(parts[0] - parts[1]).max() > 1e-2


def test_every_encoder_there_is_is_exported():
    assert ENCODERS.keys() == SETTINGS.keys()


def test_loaded_model_and_run_equal_training_model(exported_each):
    workdir, model = exported_each
    audio = noise(5 * 8000)
    expected = training_model(workdir, audio.reshape(5, 8000))
    for path in (model, workdir):
        actual = loev_jax.load(path).embed(audio, sample_rate=16_000)
        assert list(actual)[:2] == ["encoder", "invariant"]
        assert actual.keys() == expected.keys()
        for name, space in expected.items():
            assert actual[name].dtype == np.float32
            np.testing.assert_allclose(actual[name], space, rtol=0, atol=1e-5)


def test_artifact_covers_every_platform_and_refuses_audio_below_a_window(exported):
    _, model = exported
    spaces = jax_export.deserialize(bytearray((model / ARTIFACT).read_bytes()))
    assert set(spaces.platforms) == {"cpu", "tpu", "cuda"}
    window = json.loads((model / CARD).read_text())["window"]
    with pytest.raises(ValueError, match="shapes"):
        call_artifact(model, noise(1, window - 1))


def test_safetensors_hold_every_parameter_by_name(exported):
    workdir, model = exported
    stored = safetensors.numpy.load_file(model / PARAMETERS)
    assert stored["encoder.stem.layers.0.convolution.kernel"].shape == (3, 24, 8)
    restored = checkpoint.restore_model(workdir, 2, run_config.load(workdir))
    leaves = jax.tree.leaves(nnx.state(restored))
    assert len(stored) == len(leaves)
    assert sum(p.size for p in stored.values()) == sum(leaf.size for leaf in leaves)
    np.testing.assert_array_equal(
        stored["heads.tempo.output.bias"], restored.heads["tempo"].output.bias[...]
    )


def test_config_describes_the_model(exported):
    workdir, model = exported
    card = json.loads((model / CARD).read_text())
    assert card["step"] == 2
    assert card["sample_rate"] == 16_000
    assert card["segment_samples"] == round(SECONDS * 16_000)
    assert card["spaces"] == {"encoder": 40, "invariant": 6, "tempo": 6, "pitch": 6}
    assert config.read(card["recipe"]) == run_config.load(workdir)


def test_model_card_code_runs_without_this_package(exported):
    _, model = exported
    text = (model / "README.md").read_text()
    code = re.findall(r"```python\n(.*?)```", text, re.DOTALL)[1]
    assert "loev_jax" not in code
    waveforms = noise(2, 8000)
    np.save(model.parent / "waveforms.npy", waveforms)
    code = code.replace("np.zeros((2, 8000), np.float32)", "np.load('waveforms.npy')")
    assert "waveforms.npy" in code
    code += (
        "np.savez('embeddings.npz', **embeddings)\n"
        "import sys\n"
        "assert not {'loev_jax', 'flax', 'tensorflow'} & sys.modules.keys()\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=model.parent, check=True, timeout=120)
    expected = call_artifact(model, waveforms)
    with np.load(model.parent / "embeddings.npz") as actual:
        for name, space in expected.items():
            np.testing.assert_allclose(actual[name], space, rtol=0, atol=1e-5)


def test_steps_are_chosen_and_checked(exported, tmp_path):
    workdir, _ = exported
    assert export.save(workdir, 1, tmp_path / "one").step == 1
    first, last = (loev_jax.load(workdir, step=step) for step in (1, None))
    audio = noise(8000)
    different = first.embed(audio, sample_rate=16_000)["encoder"]
    assert np.abs(different - last.embed(audio, sample_rate=16_000)["encoder"]).max() > 1e-2
    with pytest.raises(UserError, match="no checkpoint of step 7; checkpoints: 1, 2"):
        export.save(workdir, 7, tmp_path / "seven")
    with pytest.raises(UserError, match=r"step=1.*exported at step 2"):
        loev_jax.load(exported[1], step=1)
    assert not (tmp_path / "seven").exists()


def test_an_existing_model_is_never_overwritten(exported, tmp_path):
    (tmp_path / "MODEL").mkdir()
    (tmp_path / "MODEL" / "notes").write_text("mine")
    with pytest.raises(UserError, match="exists already"):
        export.save(exported[0], None, tmp_path / "MODEL")
    assert [p.name for p in tmp_path.rglob("*")] == ["MODEL", "notes"]


def test_a_failed_write_leaves_nothing(exported, tmp_path, monkeypatch):
    def full(self, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UserError, match=r"No space left on device"):
        export.save(exported[0], None, tmp_path / "MODEL")
    assert list(tmp_path.iterdir()) == []


def test_a_run_without_checkpoints_says_so(exported, tmp_path):
    (tmp_path / CARD).write_text((exported[0] / CARD).read_text())
    with pytest.raises(UserError, match="no checkpoint yet"):
        export.save(tmp_path, None, tmp_path / "MODEL")
