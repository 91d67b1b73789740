"""Generated from protos/winnow/v1 by `make proto`; never edited."""
