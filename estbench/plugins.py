"""Plugins: Python files that register estimators, problems, datasets, metrics, tables or figures.

No other code from outside is run. A plugin may import modules and packages of its folder, relatively or by name. They
belong to this plugin, so two plugins in two folders may each have a ``utils.py``. ``sys.path`` is not changed. A module
of the folder comes before an installed one, except for Python's standard library, estbench and the packages that
estbench uses.
"""

from __future__ import annotations

import builtins
import importlib
import importlib.util
import re
import sys
import traceback
import zlib
from collections.abc import Mapping, Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from estbench.errors import EstbenchError
from estbench.failures import described

PREFIX = "estbench_plugin_"
# Packages that a file in a plugin's folder never replaces.
PROTECTED = {
    *sys.stdlib_module_names,
    "estbench",
    "numpy",
    "pandas",
    "pyarrow",
    "pydantic",
    "scipy",
    "sklearn",
    "torch",
}


def load_plugin(path: str | Path) -> ModuleType:
    """Run a Python file, or the ``__init__.py`` of a folder, and return its module; again if it was loaded before."""
    file = _file_of(Path(path))
    folder = _root(file)
    package = f"{PREFIX}{zlib.crc32(str(folder).encode()):08x}"
    if not _finder_is_there():
        sys.meta_path.insert(0, _Finder())
    importlib.invalidate_caches()
    _forget_changed(package)
    if package not in sys.modules:
        root = ModuleType(package)
        root.__path__ = [str(folder)]
        sys.modules[package] = root
    name = ".".join([package, *file.relative_to(folder).parent.parts, *([] if _is_init(file) else [_stem(file)])])
    spec = importlib.util.spec_from_file_location(
        name,
        file,
        loader=_Loader(name, str(file)),
        submodule_search_locations=[str(file.parent)] if _is_init(file) else None,
    )
    assert spec is not None
    try:
        if (parent := name.rpartition(".")[0]) != package:
            importlib.import_module(parent)
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        _Loader(name, str(file)).exec_module(module)
    except EstbenchError as error:
        sys.modules.pop(name, None)
        raise EstbenchError(f"plugin '{_shown(path)}': {error}") from error
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        sys.modules.pop(name, None)
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
        line = f", line {frames[-1].lineno}" if frames else ""
        raise EstbenchError(f"plugin '{_shown(path)}'{line}: {described(error)}") from error
    return module


def is_current(path: str | Path) -> bool:
    """Whether a plugin is loaded, and no module of its folder was changed since."""
    file = _file_of(Path(path))
    package = f"{PREFIX}{zlib.crc32(str(_root(file)).encode()):08x}"
    modules = _modules(package)
    return any(module.__file__ == str(file) for module in modules) and not any(map(_is_changed, modules))


class _Loader(SourceFileLoader):
    """Runs a module of a plugin from its source, and lets it import modules of its folder.

    Bytecode is neither written nor read, because it would seem to be up to date if a file was changed within a second.
    """

    text: str | None = None

    def get_code(self, fullname: str) -> CodeType:
        self.text = super().get_source(fullname)
        return self.source_to_code(self.get_data(self.path), self.path)

    def get_source(self, fullname: str) -> str | None:
        """Return the source with which the module was loaded."""
        return self.text if self.text is not None else super().get_source(fullname)

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self
        vars(module)["__builtins__"] = {**vars(builtins), "__import__": self._import}
        super().exec_module(module)

    def beside(self, name: str) -> str | None:
        """Return the full name of the module that ``import name`` finds in a folder of this plugin, or None."""
        top = name.partition(".")[0]
        if top in PROTECTED:
            return None
        package, folder = (
            (self.name if _is_init(Path(self.path)) else self.name.rpartition(".")[0]),
            Path(self.path).parent,
        )
        while package:
            if (folder / f"{top}.py").is_file() or (folder / top / "__init__.py").is_file():
                return f"{package}.{name}"
            if (folder / top).is_dir() and any((folder / top).glob("*.py")) and importlib.util.find_spec(top) is None:
                return f"{package}.{name}"
            package, folder = package.rpartition(".")[0], folder.parent
        return None

    def _import(
        self,
        name: str,
        globals: Mapping[str, object] | None = None,  # noqa: A002  (the names of Python's own)
        locals: Mapping[str, object] | None = None,  # noqa: A002
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> Any:
        found = self.beside(name) if level == 0 else None
        if found is None:
            return builtins.__import__(name, globals, locals, fromlist or (), level)
        module = importlib.import_module(found)
        if fromlist:
            return builtins.__import__(found, globals, locals, fromlist, 0)
        depth = name.count(".")
        return sys.modules[found.rsplit(".", depth)[0]] if depth else module


class _Finder:
    """Finds the modules in a plugin's folder by their full names."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not fullname.startswith(PREFIX):
            return None
        spec = PathFinder.find_spec(fullname, path)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(fullname, spec.loader.path)
        return spec


def _finder_is_there() -> bool:
    return any(isinstance(finder, _Finder) for finder in sys.meta_path)


def _file_of(path: Path) -> Path:
    file = path / "__init__.py" if (path / "__init__.py").is_file() else path
    if not file.is_file():
        raise EstbenchError(f"no plugin file '{_shown(path)}'; --plugin takes the path of a Python file")
    if file.suffix != ".py":
        raise EstbenchError(f"'{_shown(path)}' is no Python file; --plugin takes the path of a .py file")
    return file.resolve()


def _shown(path: str | Path) -> Path:
    """Return a path relative to the working folder, if it is below that."""
    path, here = Path(path), Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def _root(file: Path) -> Path:
    """Return the folder of a plugin; if it is part of a package, the folder that contains the package."""
    folder = file.parent
    while (folder / "__init__.py").is_file() and folder != folder.parent:
        folder = folder.parent
    return folder


def _is_init(file: Path) -> bool:
    return file.name == "__init__.py"


def _stem(file: Path) -> str:
    """Return a module's name for any file: the file's own name if that can be imported."""
    if file.stem.isidentifier():
        return file.stem
    return f"{re.sub(r'[^0-9A-Za-z_]', '_', file.stem)}_{zlib.crc32(file.name.encode()):08x}"


def _modules(package: str) -> list[ModuleType]:
    return [module for name, module in list(sys.modules.items()) if name.startswith(f"{package}.")]


def _is_changed(module: ModuleType) -> bool:
    loader = module.__loader__
    if not isinstance(loader, _Loader):
        return False
    try:
        return loader.text != SourceFileLoader(loader.name, loader.path).get_source(loader.name)
    except (ImportError, OSError, SyntaxError, UnicodeError):
        return True


def _forget_changed(package: str) -> None:
    """Forget all modules of a folder if one of them was edited, because others may have imported from it."""
    modules = _modules(package)
    if any(map(_is_changed, modules)):
        for module in modules:
            del sys.modules[module.__name__]
