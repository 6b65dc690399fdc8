"""Reproduction: claims of the literature as cards, and the studies that put them to the test."""

from estbench.reproduce.card import Expectation, ReproductionCard, find_cards, read_card, shipped_cards
from estbench.reproduce.card_result import CardResult, run_card
from estbench.reproduce.studies import Panel, Study, StudyResult, figure_point, load_study, study

__all__ = [
    "CardResult",
    "Expectation",
    "Panel",
    "ReproductionCard",
    "Study",
    "StudyResult",
    "figure_point",
    "find_cards",
    "load_study",
    "read_card",
    "run_card",
    "shipped_cards",
    "study",
]
