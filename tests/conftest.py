"""Every test sees eight fake CPU devices, and silent rank promotion is an error."""

import os

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"

import hypothesis
import jax

jax.config.update("jax_numpy_rank_promotion", "raise")

# Compilation makes a first example slow: the suite's own limit is pytest-timeout's.
hypothesis.settings.register_profile("suite", deadline=None, max_examples=25, derandomize=True)
hypothesis.settings.load_profile("suite")
