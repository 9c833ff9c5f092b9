"""Tables and draws from files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

TABLES = (".csv", ".parquet", ".npz", ".nc")


def read_table(path: Path, columns: str = "") -> Any:
    """Return the table of a file as `un.fit` takes it, with these columns alone.

    Raises:
        ValueError: no such file, another format, a file that cannot be read, no such column.
    """
    table = _read(path)
    if not columns:
        return table
    names = [name.strip() for name in columns.split(",") if name.strip()]
    known = list(table) if isinstance(table, dict) else list(getattr(table, "columns", table))
    for name in names:
        if name not in known:
            from unnorm.core.messages import choose_from

            raise ValueError(
                f"column {name!r} is not in {path}; {choose_from(name, map(str, known))}."
            )
    return {name: table[name] for name in names} if isinstance(table, dict) else table[names]


def without(table: Any, columns: str) -> str:
    """Return the columns that are left for the density, as an option reads them."""
    apart = {name.strip() for name in columns.split(",")}
    return ",".join(str(name) for name in table if str(name) not in apart)


def _read(path: Path) -> Any:
    suffix = path.suffix.lower()
    if suffix not in TABLES:
        raise ValueError(
            f"{path} ends with {path.suffix!r}; it must be a table ({', '.join(TABLES)}); convert "
            "it."
        )
    if not path.is_file():
        raise ValueError(f"{path} does not exist; it must be a table; check the path.")
    try:
        return _READERS[suffix](path)
    except ImportError as error:
        raise ValueError(
            f"{path} needs the package {error.name}; install it, or give a .csv."
        ) from None
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise ValueError(
            f"{path} cannot be read ({reason}); it must be a {suffix} table; correct the file."
        ) from None


def _csv(path: Path) -> Any:
    import pandas as pd

    return pd.read_csv(path)


def _parquet(path: Path) -> Any:
    import pandas as pd

    return pd.read_parquet(path)


def _npz(path: Path) -> dict[str, Any]:
    import numpy as np

    with np.load(path, allow_pickle=False) as arrays:
        return dict(arrays)


def _netcdf(path: Path) -> Any:
    import xarray as xr

    return xr.load_dataset(path)


_READERS = {".csv": _csv, ".parquet": _parquet, ".npz": _npz, ".nc": _netcdf}


def read_draws(path: Path) -> Any:
    """Return the draws of a netCDF file, or of a run folder, as a DataTree."""
    import xarray as xr

    found = path / "draws.nc" if path.is_dir() else path
    if not found.is_file():
        raise ValueError(
            f"{found} does not exist; it must be the draws that `unnorm sample --output` wrote; "
            "check the path."
        )
    try:
        return xr.open_datatree(found, engine="h5netcdf").load()
    except Exception as error:
        raise ValueError(
            f"{found} cannot be read ({type(error).__name__}); it must hold draws as netCDF; "
            "write them by `unnorm sample --output`."
        ) from None


def options_of(**named: str) -> dict[str, str]:
    """Return the options that were given: an empty one was not."""
    return {name: value for name, value in named.items() if value}


__all__: Sequence[str] = ("TABLES", "options_of", "read_draws", "read_table", "without")
