"""The eval job: what each space of a checkpoint knows about music, beside a random-init model."""
