"""Checks of seeds and of state: the same seed gives the same model, and what is saved is all that there is."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

import numpy as np
import torch

from estbench.certify.check_result import CheckResult, failed, passed
from estbench.certify.problem_under_test import (
    ProblemUnderTest,
    call,
    copy_state,
    find_changed,
    observe_examples,
)
from estbench.training import take_steps

STEPS = 3


def check_initial_weights(tested: ProblemUnderTest) -> CheckResult:
    """Check that the initial weights are drawn from torch's seeded generator only."""
    first = copy_state(tested.build())
    states = random.getstate(), np.random.get_state()  # noqa: NPY002  (the generator that plugins know)
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    try:
        second = copy_state(tested.build())
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
    changed = find_changed(first, second)
    if not changed:
        return passed(f"built again with the same seed, {len(first)} weights and buffers are the same bits")
    return failed(
        f"built again with the same seed, {', '.join(changed[:5])} differs, so estimators would start from other"
        " weights; draw initial weights only from torch's global generator, which is seeded for this",
    )


def check_save_and_load(tested: ProblemUnderTest) -> CheckResult:
    """Check that a new instance with the saved state gives the same objective, after some steps of training."""
    with tested.start(STEPS) as run:
        take_steps(run, STEPS)
        trained = run.problem.eval()
        saved = {name: value.clone() for name, value in trained.state_dict().items()}
        restored = tested.build(seed=1).eval()
        restored.load_state_dict(saved)
        x = observe_examples(trained)
        different = find_changed(call(trained, x), call(restored, x))
    if not different:
        return passed(f"{len(saved)} tensors of state give the same objective in a new instance, after {STEPS} steps")
    return failed(
        f"after {STEPS} steps, a new instance with the saved state gives another {', '.join(different)}; register state"
        " as buffers, and learned parts as parameters",
    )


def check_resume(tested: ProblemUnderTest) -> CheckResult:
    """Check that a run that is saved and resumed halfway ends in the bits of one that is not."""
    with tested.start(2 * STEPS) as whole:
        surrogates = take_steps(whole, 2 * STEPS)
        expected = {**copy_state(whole.problem), "the surrogate": torch.stack(surrogates[STEPS:])}
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "checkpoint.pt"
        with tested.start(2 * STEPS) as half:
            take_steps(half, STEPS)
            half.save(checkpoint, {})
        with tested.start(2 * STEPS) as resumed:
            if resumed.restore(checkpoint) is None:
                message = "its checkpoint does not fit a new instance; build the same modules from the same options"
                return failed(message)
            surrogates = take_steps(resumed, STEPS)
            found = {**copy_state(resumed.problem), "the surrogate": torch.stack(surrogates)}
    changed = find_changed(expected, found)
    if not changed:
        steps = f"{2 * STEPS} steps of {tested.estimator_name}"
        return passed(f"{steps} are the same bits as {STEPS}, a checkpoint and {STEPS} more")
    return failed(
        f"{STEPS} steps, a checkpoint and {STEPS} more give another {', '.join(changed[:5])} than {2 * STEPS} steps at"
        " once; register what changes in training as buffers, and draw noise from torch's generator",
    )
