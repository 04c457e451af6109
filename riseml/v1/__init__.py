"""Generated stubs of riseml.v1; made by `make proto`, never edited."""
