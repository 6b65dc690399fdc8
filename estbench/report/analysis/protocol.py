"""Notes on training that bear on a comparison: another objective than the bound, schedules, clipped gradients."""

from __future__ import annotations

from typing import Any

from estbench.report.analysis.frames import Frames


def describe_training(frames: Frames) -> list[str]:
    """Return what training did beside ascending the bound at a constant rate, each in one or two sentences."""
    setting = {**_table(frames, "training"), **_table(frames, "sweep")}
    lines = []
    if (weight := setting.get("kl_weight", 1)) != 1:
        lines.append(
            f"Training ascended another objective than the bounds: the KL had the weight {_course(weight)}. All bounds"
            " are the true ones, of weight 1."
        )
    if temperature := setting.get("temperature"):
        lines.append(f"The temperature of relaxed estimators went {_course(temperature)}.")
    if clip := setting.get("clip_norm"):
        lines.append(
            f"Gradients of the model were clipped to the norm {_course(clip)}. This acts most on noisy estimators and"
            " makes an unbiased one biased: ranks here are those of estimators with clipping."
        )
    if warm_up := setting.get("warmup_steps"):
        lines.append(
            f"Learning rates rose from zero in the first {_course(warm_up)} steps, which helps noisy estimators most."
        )
    if setting.get("optimizer") == "adamw":
        decay = _course(setting.get("weight_decay", "?"))
        lines.append(f"The optimiser was AdamW with a weight decay of {decay}, alike for all estimators.")
    return lines


def _table(frames: Frames, name: str) -> dict[str, Any]:
    table = frames.setting(name, default=None)
    return dict(table) if isinstance(table, dict) else {}


def _course(value: Any) -> str:
    """Return a number, several of a sweep, or a schedule in words."""
    match value:
        case {"start": int() | float() as start, "end": int() | float() as end, "steps": int() as steps, **rest}:
            how = " by equal ratios" if rest.get("shape") == "exponential" else ""
            return f"from {start:g} to {end:g} in {steps:,} steps{how}"
        case list() | tuple():
            return " or ".join(_course(each) for each in value)
        case int() | float():
            return f"{value:g}"
        case _:
            return str(value)
