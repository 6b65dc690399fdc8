"""Settings: small problems in double precision whose gradients are known exactly, to check estimators in."""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from estbench.certify.settings.base import Setting
from estbench.certify.settings.continuous import CONTINUOUS
from estbench.certify.settings.small import SMALL
from estbench.certify.settings.wide import WIDE
from estbench.estimators.requirements import families

__all__ = ["CONTINUOUS", "SMALL", "WIDE", "Setting", "settings_for"]


def settings_for(supports: AbstractSet[str], bounds: AbstractSet[str]) -> list[Setting]:
    """The settings for such latents and objectives: at least four for each family of latents."""
    names = families(supports)
    return [
        setting for setting in (*SMALL, *CONTINUOUS, *WIDE) if setting.latents.name in names and setting.bound in bounds
    ]
