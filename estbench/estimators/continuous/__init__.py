"""Estimators for continuous latents."""
