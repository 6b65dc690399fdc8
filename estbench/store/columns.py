"""The columns of every recorded table: type, meaning and unit, in one place."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import pyarrow as pa


class Column(NamedTuple):
    """One column; ``unit`` is empty for names, counts without a noun, and texts."""

    name: str
    type: pa.DataType
    meaning: str
    unit: str = ""
    before: Any = None  # its value in the rows of tables that were written before there was this column


class RecordedTable(NamedTuple):
    """A table of records, and in ``rows`` what one of its rows is."""

    rows: str
    columns: tuple[Column, ...]

    @property
    def schema(self) -> pa.Schema:
        """The columns as Arrow's schema."""
        return pa.schema([(column.name, column.type) for column in self.columns])


INTEGER, NUMBER, TEXT = pa.int64(), pa.float64(), pa.string()

# What a data frame of results has before the columns of a table, and after them for each swept setting of training.
LABELS = (
    Column("estimator", TEXT, "the estimator with the options that differ from their defaults"),
    Column("problem", TEXT, "the problem with the options that differ from their defaults"),
    Column("seed", INTEGER, "the seed of the run"),
)

CELLS = RecordedTable(
    "one row for each planned run, with its record if there is one",
    (
        Column("key", TEXT, "hash of everything that decides the run's numbers"),
        Column("folder", TEXT, "the name of its folder in cells/"),
        *LABELS,
        Column("status", TEXT, "done, diverged, failed, timeout or interrupted; missing if there is no record"),
        Column("stop_reason", TEXT, "why it ended before its last step; empty if it did not"),
        Column("step", INTEGER, "the last training step", "steps"),
        Column("examples", INTEGER, "examples that training has seen", "examples"),
        Column("evaluations", INTEGER, "calls of f in training, for one sample of one example each", "evaluations"),
        Column("training_seconds", NUMBER, "time of training, without anything else", "seconds"),
        Column("evaluation_seconds", NUMBER, "time of computing bounds", "seconds"),
        Column("probe_seconds", NUMBER, "time of measuring gradients", "seconds"),
        Column("writing_seconds", NUMBER, "time of writing records", "seconds"),
    ),
)

CURVES = RecordedTable(
    "one row for each step that is evaluated, split and metric",
    (
        Column("step", INTEGER, "training steps so far", "steps"),
        Column("examples", INTEGER, "examples that training has seen so far", "examples"),
        Column("evaluations", INTEGER, "calls of f in training so far", "evaluations"),
        Column("seconds", NUMBER, "time of training so far, without evaluations and probes", "seconds"),
        Column("split", TEXT, "train, validation or test"),
        Column(
            "metric",
            TEXT,
            "elbo, iwae, reconstruction, kl, active_units, gradient_norm, iwae_final, or a further metric by its name",
        ),
        Column(
            "value",
            NUMBER,
            "the mean over examples",
            "nats per example; latents for active_units, nats per unit of the weights for gradient_norm",
        ),
    ),
)

GRADIENTS = RecordedTable(
    "one row for each checkpoint, space, group and statistic",
    (
        Column("step", INTEGER, "training steps before the checkpoint", "steps"),
        Column("trajectory", TEXT, "own: the estimator's own run; shared: the reference run of all estimators"),
        Column("space", TEXT, "params: the variational parameters; weights: the weights of the model"),
        Column("group", TEXT, "encoder, decoder or prior; in the space params, the name of a variational parameter"),
        Column("statistic", TEXT, "variance, mean_norm2, snr, data_variance, bias2, bias_bound or cosine"),
        Column(
            "value",
            NUMBER,
            "the statistic of the gradient of the minibatch's mean",
            "(nats per unit of the parameter) squared; none for snr, bias_bound and cosine",
        ),
        Column("low", NUMBER, "lower end of the 95 % interval", "as value"),
        Column("high", NUMBER, "upper end of the 95 % interval", "as value"),
        Column("replicates", INTEGER, "independent draws of the gradient", "draws"),
    ),
)

PICTURES = RecordedTable(
    "one row for each picture of a trained model",
    (
        Column("kind", TEXT, "original, reconstruction, sample or map"),
        Column("number", INTEGER, "its place among those of its kind, from 0"),
        Column("shape", TEXT, "rows and columns, as 28x28; with channels in front, as 3x32x32", "pixels"),
        Column("pixels", pa.binary(), "a byte for each pixel, by rows", "1/255 of the largest intensity"),
    ),
)

# A row without seconds is of an estimator that diverged while it was timed, or of a step that torch cannot compile.
THROUGHPUT = RecordedTable(
    "one row for each timed round; rounds of one session are interleaved over the estimators, and ratios are paired",
    (
        Column("session", TEXT, "when the round's session began, in UTC"),
        Column("round", INTEGER, "the number of the round in its session"),
        Column("problem", TEXT, "the problem with the options that differ from their defaults"),
        Column("estimator", TEXT, "the estimator with the options that differ from their defaults"),
        Column("reference", TEXT, "the estimator in the denominator of the ratios"),
        Column("batch_size", INTEGER, "examples in a step", "examples"),
        Column("mode", TEXT, "how steps are taken: eager, or compiled by torch.compile", before="eager"),
        Column("steps", INTEGER, "training steps in the round", "steps"),
        Column("seconds", NUMBER, "time of the round", "seconds"),
        Column("evaluations_per_example", INTEGER, "calls of f for each example and step", "evaluations"),
        Column(
            "peak_memory_bytes",
            INTEGER,
            "the most memory that the estimator takes, above what was in use before it; absent if it is not known",
            "bytes",
        ),
        Column(
            "compile_seconds",
            NUMBER,
            "time of the first steps, in which a step is compiled; absent for eager ones",
            "seconds",
            before=math.nan,
        ),
        Column("graph_breaks", TEXT, "why a compiled step is no single graph; empty if it is one", before=""),
        Column("device", TEXT, "the type of device: cpu, cuda, ..."),
        Column("device_name", TEXT, "the name of the device, as its maker has it"),
        Column("threads", INTEGER, "threads of torch", "threads"),
        Column("machine", TEXT, "the machine; timings of different ones are never pooled"),
        Column("torch", TEXT, "the version of torch"),
        Column("code", TEXT, "hash of estimator and problem: the same label may have had other code"),
    ),
)

# The tables by the name that they have in ``Results``.
TABLES = {"cells": CELLS, "curves": CURVES, "gradients": GRADIENTS, "throughput": THROUGHPUT, "pictures": PICTURES}
