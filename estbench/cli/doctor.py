"""``estbench doctor``."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import rich_click as click

from estbench.cli.layout import Column
from estbench.cli.options import json_option


class Diagnosis(NamedTuple):
    """One check of the installation; ``ok`` is None if it is only information."""

    check: str
    ok: bool | None
    found: str


@click.command()
@json_option
def command(*, as_json: bool) -> int:
    """Check this machine and this installation; exit with 1 if something is broken."""
    from estbench.cli.console import print_json, print_rows

    diagnoses = [
        *_environment(),
        _check("shipped digits", _shipped_data),
        _check("results folder", _writable),
        _simulated_accelerator(),
        _data_folder(),
    ]
    if as_json:
        print_json([diagnosis._asdict() for diagnosis in diagnoses])
    else:
        marks = {True: "ok: ", False: "BROKEN: ", None: ""}
        rows = [(each.check, f"{marks[each.ok]}{each.found}") for each in diagnoses]
        print_rows("", (Column("check"), Column("found")), rows)
    return 1 if any(diagnosis.ok is False for diagnosis in diagnoses) else 0


def _environment() -> list[Diagnosis]:
    from estbench.devices import choose_device
    from estbench.measure import describe_environment

    environment = describe_environment(choose_device("auto"))
    return [Diagnosis(name, None, str(value)) for name, value in environment.items() if value is not None]


def _check(name: str, look: Callable[[], str]) -> Diagnosis:
    try:
        return Diagnosis(name, ok=True, found=look())
    except Exception as error:  # noqa: BLE001  (any error is the diagnosis)
        return Diagnosis(name, ok=False, found=f"{type(error).__name__}: {error}")


def _shipped_data() -> str:
    from estbench.datasets import load as load_dataset

    return ", ".join(f"{name}: {len(load_dataset(name).train)} training images" for name in ("mnist5k", "digits"))


def _writable() -> str:
    folder = Path("results") if Path("results").is_dir() else Path()
    with tempfile.TemporaryFile(dir=folder):
        return f"'{folder.resolve().name}' can be written to"


def _simulated_accelerator() -> Diagnosis:
    """Take two training steps of the quickstart's model where every wait for the device is counted."""
    from estbench.certify.simulated_device import SimulatedDevice, why_not

    if reason := why_not():
        return Diagnosis("simulated accelerator", None, f"none: {reason}")
    from estbench.execution import plan_of
    from estbench.experiment import Experiment
    from estbench.training import start_run, take_steps

    (cell,) = plan_of(Experiment(estimators=("reparam",), problems=("vae[dataset=digits,hidden=[8]]",)))
    with SimulatedDevice() as simulated, start_run(cell, simulated.device) as run:
        take_steps(run, 1)
        simulated.waits.clear()
        take_steps(run, 1)
    waits = ", ".join(f"{wait} in {simulated.places[wait]}" for wait in simulated.waits)
    found = (
        f"a training step waits for the device: {waits}" if waits else "a training step does not wait for the device"
    )
    return Diagnosis("simulated accelerator", not waits, found)


def _data_folder() -> Diagnosis:
    from estbench.datasets import DATASETS
    from estbench.datasets import info as dataset_info
    from estbench.datasets.files import DATA_DIR, data_folder, files

    states = {name: {file.state() for file in files(dataset_info(name).files)} for name in DATASETS.names()}
    complete = [name for name, files_of in states.items() if files_of == {"verified"}]
    damaged = [name for name, files_of in states.items() if "damaged" in files_of]
    message = f"in {data_folder()}: {', '.join(complete) or 'nothing; `estbench data fetch` downloads them'}"
    if damaged:
        return Diagnosis(DATA_DIR, ok=False, found=f"{message}; damaged: {', '.join(damaged)}")
    return Diagnosis(DATA_DIR, ok=True if complete else None, found=message)
