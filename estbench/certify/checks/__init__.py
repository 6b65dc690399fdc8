"""The checks that an estimator must pass, one kind of check a module."""
