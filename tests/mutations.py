"""Faults of files and folders, each made from a seeded generator: what a fuzz tries on loaders and commands."""

from __future__ import annotations

import copy
import io
import json
import os
import shutil

import pyarrow as pa
import pyarrow.parquet as pq

VALUES = [
    *(None, True, 0, -1, 10**30, 2**63, 1e308, -0.0, float("nan"), float("inf"), -float("inf")),
    *("", "x" * 3000, "a\x00b", "\x1b[2J", "\u202e", "\ud800", "../../x", "/etc/passwd", "<script>", "=1+1", "NaN"),
    *("reparam", "vae[latent_size=2]", "2026-01-01", "é"),
    *([], {}, [[]], {"": {}}, ["x"] * 50, {"a": [1, {"b": None}]}),
]
# What json.dumps does not write.
RAW = ["9" * 5000, "1e999", "[" * 3000, "-", "tru", '"\\ud800"', '"\\u0000"', "01", "{,}", "\ufeff1", "'x'"]
NAMES = ["", "x", "\ud800", "__class__", "schema", "cells", "é" * 300]
TOML_VALUES = [
    *("1", "-1", "nan", "inf", "1e999", "''", "'../../x'", "[]", "[[1]]", "{a=1}", "true", "1979-05-27", "é"),
    *('"a\\u0000b"', '"\\u202e"', '"reparam"', '["vae[latent_size=2]"]', "9" * 5000, "[" * 2000, f"'{'x' * 5000}'"),
]
TOML_KEYS = [
    "name",
    "seeds",
    "training.steps",
    "sweep.x",
    "jobs",
    "memory",
    "claim",
    "settings.a",
    "a.b.c",
    "__class__",
]


def paths_in(data, at=()):
    """The way to every part of plain data."""
    yield at
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in items:
        yield from paths_in(value, (*at, key))


def changed_json(rng, content):
    """A document with some of its values, keys or entries changed; bytes that are no document change as bytes."""
    try:
        data = json.loads(content)
        marks = {}
        for _ in range(rng.choice([1, 1, 2, 4])):
            paths = [path for path in paths_in(data) if path]
            if not paths:
                break
            _change_part(rng, data, rng.choice(paths), paths, marks)
        text = json.dumps(data)
    except (ValueError, LookupError, TypeError, RecursionError):
        return changed_bytes(rng, content)
    for mark, raw in marks.items():
        text = text.replace(f'"{mark}"', raw)
    return text.encode("utf-8", "surrogatepass")


def _change_part(rng, data, path, paths, marks):
    *parents, last = path
    home = data
    for step in parents:
        home = home[step]
    match rng.choice(["value", "value", "raw", "remove", "rename", "twice", "other"]):
        case "value":
            home[last] = copy.deepcopy(rng.choice(VALUES))
        case "raw":
            mark = f"@{len(marks)}@"
            marks[mark], home[last] = rng.choice(RAW), mark
        case "remove":
            del home[last]
        case "rename" if isinstance(home, dict):
            home[rng.choice(NAMES)] = home.pop(last)
        case "twice" if isinstance(home, list):
            home.append(copy.deepcopy(home[last]))
        case _:
            donor = data
            for step in rng.choice(paths):
                donor = donor[step]
            home[last] = copy.deepcopy(donor)


def changed_bytes(rng, content):
    """Bytes of which some are turned, cut off, put in, taken out or doubled."""
    content = bytearray(content)
    for _ in range(rng.choice([1, 1, 3, 10])):
        at = rng.randrange(len(content) + 1)
        match rng.choice(["flip", "cut", "insert", "remove", "copy"]):
            case "flip" if at < len(content):
                content[at] ^= 1 << rng.randrange(8)
            case "cut":
                del content[at:]
            case "insert":
                content[at:at] = rng.randbytes(rng.choice([1, 4, 100]))
            case "remove":
                del content[at : at + rng.choice([1, 4, 100])]
            case "copy":
                content[at:at] = content[at : at + 200]
    return bytes(content)


def changed_toml(rng, content):
    """A TOML file with some of its values or lines changed, or lines added."""
    lines = content.decode().splitlines()
    for _ in range(rng.choice([1, 1, 2, 4])):
        at = rng.randrange(len(lines) + 1)
        match rng.choice(["value", "value", "value", "add", "remove", "twice", "key"]):
            case "value" if at < len(lines) and "=" in lines[at]:
                lines[at] = f"{lines[at].partition('=')[0]}= {rng.choice(TOML_VALUES)}"
            case "remove" if at < len(lines):
                del lines[at]
            case "twice" if at < len(lines):
                lines.insert(at, lines[at])
            case "key" if at < len(lines) and "=" in lines[at]:
                lines[at] = f"{rng.choice(TOML_KEYS)} ={lines[at].partition('=')[2]}"
            case _:
                lines.insert(at, f"{rng.choice(TOML_KEYS)} = {rng.choice(TOML_VALUES)}")
    return "\n".join(lines).encode()


def changed_text(rng, content):
    """A text in which some signs are changed for others that mean something."""
    signs = list(content.decode())
    for _ in range(rng.choice([1, 1, 2, 5])):
        at = rng.randrange(len(signs) + 1)
        put_in = rng.choice([*"[]=,'\"\\ {}\n\0éx1.-", "[[", "1e999", "nan", "9" * 5000, "num_samples", "\u202e"])
        signs[at : at + rng.choice([0, 1, 1, 3])] = put_in
    return "".join(signs).encode()


def changed_table(rng, content):
    """A Parquet file that is whole, with other columns, types or values."""
    table = pq.read_table(io.BytesIO(content))
    for _ in range(rng.choice([1, 1, 2])):
        if not table.num_columns:
            break
        at = rng.randrange(table.num_columns)
        name, column = table.column_names[at], table.column(at)
        match rng.choice(["remove", "rename", "null", "type", "values", "twice", "nested", "none"]):
            case "remove":
                table = table.remove_column(at)
            case "rename":
                table = table.rename_columns(
                    [rng.choice(["x", "", "é"]) if n == name else n for n in table.column_names]
                )
            case "null":
                table = table.set_column(at, name, pa.nulls(len(column), column.type))
            case "type":
                new = rng.choice(
                    [pa.array(["1"] * len(column)), pa.array([b"x"] * len(column)), pa.array([True] * len(column))]
                )
                table = table.set_column(at, name, new)
            case "values":
                table = table.set_column(at, name, _odd_values(rng, column))
            case "twice":
                table = table.append_column(name, column)
            case "nested":
                table = table.set_column(at, name, pa.array([[1, 2]] * len(column)))
            case "none":
                table = table.slice(0, 0)
    file = io.BytesIO()
    pq.write_table(table, file, compression=rng.choice(["snappy", "snappy", "none", "gzip"]))
    return file.getvalue()


def _odd_values(rng, column):
    """Values of the column's type that nobody measured."""
    if pa.types.is_integer(column.type):
        odd = [-1, 0, 2**63 - 1, -(2**63)]
    elif pa.types.is_floating(column.type):
        odd = [float("nan"), float("inf"), -float("inf"), 1e308, -1e308, 0.0]
    elif pa.types.is_string(column.type):
        odd = ["", "x" * 3000, "\x1b[2J", "\u202e", "=1+1", "elbo", "test", "own"]
    else:
        return column
    share = rng.choice([0.02, 0.5, 1.0])
    return pa.array([rng.choice(odd) if rng.random() < share else each for each in column.to_pylist()], column.type)


def changed_entry(rng, path, victim):
    """Something else in a file's or folder's place."""
    whole_folder = path.is_dir()
    (shutil.rmtree if whole_folder else os.unlink)(path)
    match rng.choice(["link", "dangling", "pipe", "folder", "empty", "gone", "device", "twin"]):
        case "link":
            path.symlink_to(victim if not whole_folder else victim.parent)
        case "dangling":
            path.symlink_to(victim.parent / "nowhere")
        case "pipe":
            os.mkfifo(path)
        case "folder":
            (path / "inner").mkdir(parents=True)
        case "empty":
            path.write_bytes(b"")
        case "device":
            path.symlink_to("/dev/zero")
        case "twin":
            os.link(victim, path)


KINDS = {".json": changed_json, ".toml": changed_toml, ".parquet": changed_table}


def changed_file(rng, path):
    """Change a file as what it is, or as bytes."""
    content = path.read_bytes()
    kind = KINDS.get(path.suffix, changed_bytes)
    path.write_bytes(_tried(kind, rng, content) if rng.random() < 0.6 else changed_bytes(rng, content))


def _tried(kind, rng, content):
    try:
        return kind(rng, content)
    except (pa.ArrowException, ValueError, OSError):  # an earlier fault has left no file of this kind
        return changed_bytes(rng, content)


def damage(rng, folder, victim):
    """Put one to three faults into a folder; ``victim`` is a file outside, which links lead to."""
    for _ in range(rng.choice([1, 1, 1, 1, 2, 3])):
        entries = sorted(each for each in folder.rglob("*") if not each.is_symlink())
        files = [each for each in entries if each.is_file() and each.stat().st_nlink == 1]  # the victim stays
        if not files:
            break
        file = rng.choice(files)
        match rng.choice(["document", "any", "any", "entry", "swap"]):
            case "document":
                changed_file(rng, rng.choice([each for each in files if each.suffix == ".json"] or files))
            case "any":
                changed_file(rng, file)
            case "entry":
                changed_entry(rng, rng.choice(entries), victim)
            case "swap":
                file.write_bytes(rng.choice(files).read_bytes())
