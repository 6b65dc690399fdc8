"""Families of latent variables: how q is made from what an encoder emits, its KL, its samples."""
