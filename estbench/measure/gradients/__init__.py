"""Moments of gradients at frozen weights."""
