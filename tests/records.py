"""A results folder as a run would leave it, written through the store in a second, with numbers like real ones."""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from estbench.experiment import Cell, Experiment, content_hash, make_plan
from estbench.experiment.plan import code_of
from estbench.experiment.spec import experiment_from
from estbench.registry import Resolved
from estbench.store import ResultsFolder, Status
from estbench.variant import Variant

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

START = -545.0
# How the time of a step grows, and what compiling saves.
FIXED, COMPILED = 0.75, 0.8


class Behaviour(NamedTuple):
    """What a fake estimator does: where its test ELBO ends, its encoder's gradient variance, its cost."""

    elbo: float
    variance: float
    milliseconds: float
    evaluations: int = 1
    unbiased: bool = True


BEHAVIOURS = {
    "reparam": Behaviour(-123.0, 2e-1, 3.0),
    "stl": Behaviour(-121.0, 8e-2, 3.6),
    "rloo[num_samples=4]": Behaviour(-127.0, 4e1, 5.5, 4),
    "reinforce[baseline=ema]": Behaviour(-168.0, 3e3, 2.9),
    "reinforce": Behaviour(-520.0, 2e5, 2.8),
    "detached": Behaviour(-206.0, 3e-3, 2.4, 1, unbiased=False),
}
ESTIMATORS = tuple(BEHAVIOURS)
# Size of each group's variance, relative to the encoder's.
GROUPS = {
    ("weights", "encoder"): 1.0,
    ("weights", "decoder"): 0.05,
    ("params", "loc"): 0.02,
    ("params", "log_scale"): 0.004,
}
ENVIRONMENT = {
    "estbench": "0.1.0",
    "python": "3.11.2",
    "torch": "2.13.0",
    "numpy": "2.4.6",
    "platform": "Linux-6.1-x86_64",
    "processor": "x86_64",
    "cores": 2,
    "threads": 2,
    "device": "cpu",
    "device_name": "cpu",
    "machine": "m-1",
    "commit": "0123abc",
    "uncommitted": False,
}


def behaviour(label: str) -> Behaviour:
    """The behaviour of a known estimator; others behave like ``reparam``."""
    return BEHAVIOURS.get(label, BEHAVIOURS["reparam"])


def write_results(
    path: Path,
    estimators: Sequence[str] = ESTIMATORS,
    seeds: Any = 3,
    *,
    problems: Sequence[str] = ("vae",),
    statuses: Mapping[tuple[str, int], str | None] | None = None,
    stops: Mapping[tuple[str, int], int] | None = None,
    labels: Mapping[str, str] | None = None,
    environments: Mapping[int, dict[str, Any]] | None = None,
    replicates: int = 100,
    rounds: int = 8,
    shared: bool = False,
    final_num_samples: int = 0,
    **experiment: Any,
) -> Path:
    """Write a results folder.

    ``statuses`` and ``stops`` give the outcome of (estimator, seed) where it is not ``done`` at the last step: a status
    (``None`` for a missing cell) and the step at which the cell ended. ``labels`` overrides how variants are
    called, ``environments`` changes the environment by seed. With ``shared``, gradients are also measured at the
    checkpoints of a neutral run, where all estimators have the same decoder gradient.
    """
    labels, statuses, stops = labels or {}, statuses or {}, stops or {}
    spec = experiment_from(
        {
            "name": "comparison",
            "question": "How do the estimators compare on the same VAE?",
            "expect": "stl and reparam end close together, reinforce far below.",
            "estimators": list(estimators),
            "problems": list(problems),
            "seeds": seeds,
            "evaluation": {"final_num_samples": final_num_samples},
            "probe": {"replicates": replicates},
            "throughput": {"rounds": rounds},
            **experiment,
        }
    )

    def resolve(written: str) -> Resolved:
        variant = Variant.parse(written)
        return Resolved(variant.name, variant.options, 1, labels.get(written, str(variant)))

    plan = make_plan(spec, resolve, resolve)
    names = {labels.get(written, str(Variant.parse(written))): written for written in estimators}
    folder = ResultsFolder(path)
    folder.create()
    folder.record_plan(plan)
    for cell in plan:
        outcome = (names[cell.estimator.label], cell.seed)
        status = statuses.get(outcome, Status.DONE)
        if status is None:
            continue
        stop = stops.get(outcome, spec.training.steps)
        known = behaviour(outcome[0])
        record = {
            "cell": cell.as_dict(),
            "status": status,
            "stop_reason": "" if status == Status.DONE else f"stopped at step {stop}",
            "step": stop,
            "examples": stop * cell.training.batch_size,
            "evaluations": stop * cell.training.batch_size * known.evaluations,
            "clocks": {"training": stop * known.milliseconds / 1e3, "evaluation": 1.5, "probe": 0.8, "writing": 0.1},
            "environment": ENVIRONMENT | (environments or {}).get(cell.seed, {}),
            "facts": {
                "summary": f"a fake of {outcome[0]}",
                "unbiased": known.unbiased,
                "supports": ["normal"],
                "evaluations": known.evaluations,
                "needs_differentiable_f": True,
                "reference": "kingma2014",
            },
        }
        diverged = status == Status.DIVERGED
        folder.commit(
            cell,
            record,
            curve_rows(cell, known, stop, diverged=diverged),
            [
                row
                for trajectory in (("own", "shared") if shared else ("own",))
                for row in gradient_rows(cell, known, stop, trajectory)
            ]
            if replicates
            else [],
            picture_rows(cell) if status == Status.DONE else [],
            keep_checkpoint=False,
        )
    if rounds:
        known = {label: behaviour(name) for label, name in names.items()}
        folder.append_throughput(throughput_rows(spec, known, codes(path)))
    return path


def curve_rows(cell: Cell, known: Behaviour, stop: int, *, diverged: bool = False) -> list[dict[str, Any]]:
    """Bounds that rise from the same start to the estimator's end; NaN at the step of a divergence."""
    shared, own = _rng(cell.seed, cell.problem.label), _rng(cell.seed, cell.estimator.label, cell.problem.label)
    offset = float(shared.normal(0, 0.8))
    last = cell.training.steps
    rows = []
    # The best learning rate is the default.
    end = known.elbo - 4 * math.log10(cell.training.learning_rate / 1e-3) ** 2
    for step in sorted({*(at for at in cell.evaluation.steps(last) if at <= stop), stop}):
        elbo = end + (START - end) * math.exp(-7 * math.sqrt(step / last))
        elbo += (offset + float(own.normal(0, 0.25))) * step / last
        if diverged and step == stop:
            elbo = math.nan
        x = {
            "step": step,
            "examples": step * cell.training.batch_size,
            "evaluations": step * cell.training.batch_size * known.evaluations,
            "seconds": step * known.milliseconds / 1e3 * (1 + 0.02 * cell.seed),
        }
        for split, better in (("train", 1.0), ("validation", -0.5), ("test", 0.0)):
            rows.append({**x, "split": split, "metric": "elbo", "value": elbo + better})
            rows.append({**x, "split": split, "metric": "iwae", "value": elbo + better + 4})
            kl = 20 * step / last
            rows.append({**x, "split": split, "metric": "reconstruction", "value": elbo + better + kl})
            rows.append({**x, "split": split, "metric": "kl", "value": kl})
            rows.append({**x, "split": split, "metric": "active_units", "value": float(round(18 * step / last))})
        if step == last and cell.evaluation.final_num_samples:
            rows.append({**x, "split": "test", "metric": "iwae_final", "value": elbo + 6})
    return rows


def picture_rows(cell: Cell, side: int = 4) -> list[dict[str, Any]]:
    """A few tiny images: the same originals for all, reconstructions and samples of the estimator's own."""
    same, own = _rng("pictures"), _rng(cell.seed, cell.estimator.label, "pictures")
    kinds = {"original": same, "reconstruction": own, "sample": own}
    return [
        {"kind": kind, "number": number, "shape": f"{side}x{side}", "pixels": rng.bytes(side * side)}
        for kind, rng in kinds.items()
        for number in range(3)
    ]


def gradient_rows(cell: Cell, known: Behaviour, stop: int, trajectory: str = "own") -> list[dict[str, Any]]:
    """Variances that fall along the run, at log-spaced checkpoints up to where the cell stopped."""
    own = (cell.estimator.label, "probe") if trajectory == "own" else ("probe", trajectory)
    rng = _rng(cell.seed, *own)
    R = cell.probe.replicates
    steps = np.unique(np.geomspace(1, cell.training.steps, cell.probe.points).round().astype(int))
    rows = []
    for step in (int(step) for step in steps if step <= stop):
        for (space, group), factor in GROUPS.items():
            size = 0.2 if trajectory == "shared" and group == "decoder" else known.variance
            variance = size * factor * (1 + step) ** -0.3 * math.exp(rng.normal(0, 0.15))
            statistics = {
                "variance": (variance, 1.15),
                "mean_norm2": (0.02 * factor, 1.3),
                "snr": (math.sqrt(0.02 * factor / variance), 1.3),
                "data_variance": (0.1 * factor, 1.2),
            }
            for statistic, (value, spread) in statistics.items():
                low, high = value / spread, value * spread
                where = {"step": step, "trajectory": trajectory, "space": space, "group": group}
                rows.append(
                    {**where, "statistic": statistic, "value": value, "low": low, "high": high, "replicates": R}
                )
    return rows


def codes(path: Path) -> dict[tuple[str, str], str]:
    """What each problem and estimator of a results folder stands for, by their labels."""
    cells = ResultsFolder(path).read_plan()["cells"]
    return {
        (cell["problem"]["label"], cell["estimator"]["label"]): code_of(cell["problem"], cell["estimator"])
        for cell in cells
    }


def throughput_rows(
    spec: Experiment,
    known: Mapping[str, Behaviour],
    code: Mapping[tuple[str, str], str],
    session: str = "2025-01-01T00:00:00",
    machine: str = "m-1",
) -> list[dict[str, Any]]:
    """Timed rounds in which a slow phase of the machine hits all estimators alike.

    Of a step's time, ``FIXED`` of that at the size of the training does not grow with the minibatch; a compiled step
    takes ``COMPILED`` of an eager one's.
    """
    own = spec.training.batch_size
    sizes = dict.fromkeys([own, *spec.throughput.batch_sizes])
    return [
        {
            "session": session,
            "round": number,
            "problem": problem,
            "estimator": label,
            "code": code.get((problem, label), ""),
            "reference": spec.throughput.reference,
            "batch_size": size,
            "mode": mode,
            "steps": spec.throughput.steps,
            "seconds": spec.throughput.steps
            * each.milliseconds
            / 1e3
            * (FIXED + (1 - FIXED) * size / own)
            * (COMPILED if mode == "compiled" else 1)
            * math.exp(_rng(number, "machine").normal(0, 0.2) + _rng(number, label).normal(0, 0.02)),
            "evaluations_per_example": each.evaluations,
            "peak_memory_bytes": 300 * 2**20 + each.evaluations * 2**20,
            "compile_seconds": 7.0 if mode == "compiled" else None,
            "graph_breaks": "",
            "device": "cpu",
            "device_name": "cpu",
            "threads": 2,
            "machine": machine,
            "torch": "2.13.0",
        }
        for number in range(spec.throughput.rounds)
        for problem in spec.problems
        for label, each in known.items()
        for size in sizes
        for mode in spec.throughput.modes
    ]


def analyse(path: str | Path) -> Any:
    """Return the analysis of a results folder."""
    from estbench.report.analysis import Analysis
    from estbench.store import load

    return Analysis(load(path))


@contextlib.contextmanager
def drawn_alone(*names: str) -> Iterator[None]:
    """Within, a report has of all figures only these: drawing takes most of its time."""
    from estbench.report.figures import FIGURES

    known = dict(FIGURES)
    for name in known.keys() - set(names):
        del FIGURES[name]
    try:
        yield
    finally:
        FIGURES.clear()
        FIGURES.update(known)


def _rng(*key: Any) -> np.random.Generator:
    return np.random.default_rng(int(content_hash(list(key))[:8], 16))
