"""Reproduction: claims of the literature, put to the test."""

from estbench.reproduction.card import Card, Expectation, find_cards, read_card, shipped_cards
from estbench.reproduction.outcome import Outcome, put_to_the_test

__all__ = ["Card", "Expectation", "Outcome", "find_cards", "put_to_the_test", "read_card", "shipped_cards"]
