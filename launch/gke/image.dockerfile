# The project in an image, from the hashed lock, with the TPU's runtime.
#
#   docker build -f launch/gke/image.dockerfile -t IMAGE . && docker push IMAGE
FROM python:3.12-slim

RUN apt-get update && apt-get install -y --no-install-recommends make && rm -rf /var/lib/apt/lists/*
WORKDIR /loev_jax
COPY Makefile pyproject.toml requirements.lock requirements-tpu.lock README.md LICENSE ./
COPY loev_jax loev_jax
RUN make setup \
    && .venv/bin/python -m pip install --no-cache-dir --require-hashes --no-deps -r requirements-tpu.lock
COPY configs configs
COPY launch launch
ENTRYPOINT [".venv/bin/python"]
