"""What an estimator must prove, one kind of check a module."""
