"""Estimators for bits and categories."""
