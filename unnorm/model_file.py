"""The density NAME of FILE.py, imported as Python imports a script: with the modules beside it."""

import importlib.machinery
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any


def density_of(model: str, fit: Path | None = None) -> Any:
    """The density that "FILE.py:NAME" names, at the parameters of a saved fit if one is given.

    Raises:
        ValueError: no such file or name, a file that is no Python or raises while it is imported,
            no density.
        StoreError: the file of the fit is absent, damaged or of another density.
    """
    if fit is not None:
        from unnorm import load

        return load(fit, density_of(model)).density
    from unnorm import Density
    from unnorm.core.messages import choose_from

    file, _, name = model.rpartition(":")
    if not file or not name or not Path(file).is_file():
        raise ValueError(
            f"{model} does not name a density; expected FILE.py:NAME with an existing file; check "
            "the path."
        )
    module = _import_file(Path(file).resolve())
    if not hasattr(module, name):
        known = sorted(n for n, value in vars(module).items() if isinstance(value, Density))
        raise ValueError(
            f"{name} in {file} does not exist; it must be one of its densities; "
            f"{choose_from(name, known)}."
        )
    found = getattr(module, name)
    if not isinstance(found, Density):
        raise ValueError(
            f"{name} in {file} is {found!r:.200}; expected a density; give the name of one."
        )
    return found


def _import_file(path: Path) -> ModuleType:
    """The file as a module of its own name, unless another module has that name."""
    name = path.stem if path.stem not in sys.modules else f"model_file_{path.stem}"
    loader = importlib.machinery.SourceFileLoader(name, str(path))
    spec = importlib.util.spec_from_loader(name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their own module up
    sys.path.insert(0, str(path.parent))
    try:
        _run(loader, module, name)
    except SyntaxError as error:
        raise ValueError(
            f"{error.filename or path}, line {error.lineno}, is not valid Python ({error.msg}); "
            "expected a Python file; correct that line."
        ) from None
    except (Exception, SystemExit) as error:  # whatever a file does when it is imported
        said = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise ValueError(
            f"{path}, line {_line(error, path)}, raised {said}; expected a file that can be "
            "imported; correct that line."
        ) from error
    return module


def _run(loader: importlib.machinery.SourceFileLoader, module: ModuleType, name: str) -> None:
    try:
        loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise


def _line(error: BaseException, path: Path) -> int | str:
    """Where in the file the error began."""
    found: int | str = "?"
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            found = trace.tb_lineno
        trace = trace.tb_next
    return found
