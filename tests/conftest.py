"""Every test sees eight fake CPU devices, and silent rank promotion is an error."""

import atexit
import os
import shutil
import tempfile

os.environ["JAX_PLATFORMS"] = "cpu"
# Most of the suite's time is compiling, of programs that run once: LLVM's optimiser saves a test
# nothing, and neither do the emitters that make fast loops of fusions: without these the step of a
# tiny recipe compiles in 4 s of a processor instead of 9. XLA's own passes over the graph are those
# of any run.
os.environ["XLA_FLAGS"] = " ".join(
    [
        "--xla_force_host_platform_device_count=8",
        "--xla_backend_optimization_level=0",
        "--xla_cpu_use_fusion_emitters=false",
        "--xla_cpu_parallel_codegen_split_count=1",
    ]
)
# What one test, or one run of an entry point, has compiled no other compiles again, whichever of
# xdist's processes it runs in: these inherit the environment of the first.
if "PYTEST_XDIST_WORKER" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="loev_jax_tests_")
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
# As many processes as there are cores compute already, and BLAS's threads wait by spinning.
os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"

import hypothesis
import jax

from loev_jax import memory

# As entry points do.
memory.collect_rarely()
jax.config.update("jax_numpy_rank_promotion", "raise")

# Compilation makes a first example slow: the suite's own limit is pytest-timeout's.
hypothesis.settings.register_profile("suite", deadline=None, max_examples=25, derandomize=True)
hypothesis.settings.load_profile("suite")
