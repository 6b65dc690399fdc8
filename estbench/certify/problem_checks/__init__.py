"""The checks that every problem must pass, by what they are about."""
