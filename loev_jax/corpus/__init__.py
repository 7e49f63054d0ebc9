"""The built-in corpus: real music, rendered on the user's machine, with exact labels."""
