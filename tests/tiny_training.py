"""The command that trains a tiny recipe, as a user gives it."""

STEPS = 60
TINY = {
    "frontend.n_fft": 512,
    "frontend.window": 360,
    "frontend.hop": 200,
    "frontend.bands": 24,
    "views.seconds": 0.5,
    "views.spread_seconds": 0.5,
    "encoder.channels": "(8,8)",
    "encoder.kernels": "(3,3)",
    "encoder.strides": "(2,1)",
    "encoder.dilations": "(1,2)",
    "encoder.branch_layers": "1",
    "projection.hidden": "(16,)",
    "projection.outputs": 8,
    "training.clips": 4,
    "training.steps": STEPS,
    "training.log_every": 5,
    "training.inspect_every": 0,
    "training.checkpoint_every": 10,
    "training.keep_checkpoints": 0,
}


def command(workdir, corpus, *more, base="loev_tempo_pitch.py:small"):
    settings = TINY | {"data.path": corpus}
    return [
        "launch/train.py",
        f"--config=configs/{base}",
        f"--workdir={workdir}",
        *(f"--config.{name}={value}" for name, value in settings.items()),
        *more,
    ]
