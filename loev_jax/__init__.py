"""Music encoders that keep what you choose: LOEV and LOEV++ pretraining in JAX."""

__version__ = "0.1.0"
