"""Audio to records, and records to training batches."""
