"""Every test sees eight fake CPU devices, and silent rank promotion is an error."""

import atexit
import os
import shutil
import tempfile

os.environ["JAX_PLATFORMS"] = "cpu"
# Most of the suite's time is compiling, of programs that run once: LLVM's optimiser saves a test
# nothing and takes over a quarter of it. XLA's own passes over the graph are those of any run.
os.environ["XLA_FLAGS"] = " ".join(
    ["--xla_force_host_platform_device_count=8", "--xla_backend_optimization_level=0"]
)
# What one test, or one run of an entry point, has compiled another does not compile again.
os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="loev_jax_tests_")
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"

import hypothesis
import jax

atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)
jax.config.update("jax_numpy_rank_promotion", "raise")

# Compilation makes a first example slow: the suite's own limit is pytest-timeout's.
hypothesis.settings.register_profile("suite", deadline=None, max_examples=25, derandomize=True)
hypothesis.settings.load_profile("suite")
