"""Reproduction: claims of the literature, put to the test."""

from estbench.reproduce.card import Card, Expectation, find_cards, read_card, shipped_cards
from estbench.reproduce.outcome import Outcome, put_to_the_test

__all__ = ["Card", "Expectation", "Outcome", "find_cards", "put_to_the_test", "read_card", "shipped_cards"]
