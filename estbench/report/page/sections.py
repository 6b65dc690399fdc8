"""The sections of the page, in their order: figures and tables say in which of them they stand."""

from __future__ import annotations

# A section's key, which is its id in the page, and its title in the page's navigation.
SECTIONS: tuple[tuple[str, str], ...] = (
    ("summary", "Summary"),
    ("completion", "Completion"),
    ("sensitivity", "Sensitivity"),
    ("convergence", "Convergence"),
    ("variance", "Gradient"),
    ("throughput", "Throughput and memory"),
    ("target", "Time to target"),
    ("pairwise", "Pairwise"),
    ("certificates", "Certificates"),
    ("provenance", "Environment"),
    ("reproduce", "Reproduce"),
    ("cite", "Cite"),
)
