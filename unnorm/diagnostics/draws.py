"""Read draws, from `un.sample` or from elsewhere, into one form."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from unnorm.core.containers import to_numbers

if TYPE_CHECKING:
    import xarray as xr

AXES = ("chain", "draw")


class Draws(NamedTuple):
    """Draws in the form that all checks take: arrays start with the axes chain and draw."""

    posterior: "xr.Dataset"
    stats: dict[str, np.ndarray]
    attrs: dict[str, Any]

    @property
    def chains(self) -> int:
        return self.posterior.sizes["chain"]

    @property
    def draws(self) -> int:
        return self.posterior.sizes["draw"]

    @property
    def values(self) -> dict[str, np.ndarray]:
        """The draws by variable, with the axes (chain, draw, *event)."""
        return {str(name): array.values for name, array in self.posterior.data_vars.items()}

    def labels(self) -> dict[str, list[str]]:
        """The names of the scalar entries of each variable, in C order: ``x[Ozone]``."""
        return {
            str(name): _labels(str(name), array) for name, array in self.posterior.data_vars.items()
        }

    def columns(self) -> dict[str, np.ndarray]:
        """Every scalar entry by its name, with the axes (chain, draw)."""
        values, labels = self.values, self.labels()
        return {
            label: column
            for name, value in values.items()
            for label, column in zip(labels[name], np.moveaxis(_flat(value), -1, 0), strict=True)
        }


def _flat(value: np.ndarray) -> np.ndarray:
    return value.reshape(*value.shape[:2], -1)


def _labels(name: str, array: "xr.DataArray") -> list[str]:
    dims = array.dims[2:]
    if not dims:
        return [name]
    names = [array[dim].values if dim in array.coords else range(array.sizes[dim]) for dim in dims]
    names = [axis if len(set(map(str, axis))) == len(axis) else range(len(axis)) for axis in names]
    return [
        f"{name}[{', '.join(str(axis[i]) for axis, i in zip(names, index, strict=True))}]"
        for index in np.ndindex(array.shape[2:])
    ]


def read_draws(draws: Any) -> Draws:
    """Return the draws in one form.

    Args:
        draws: what `un.sample` returns, any ArviZ data with a posterior group, a Dataset, or a dict
            ``{name: array (chain, draw, ...)}``.

    Raises:
        TypeError, ValueError: something else, or draws without the axes chain and draw.
    """
    import xarray as xr

    if isinstance(draws, Mapping) and not isinstance(draws, xr.DataTree | xr.Dataset):
        draws = _from_mapping(draws)
    if isinstance(draws, xr.Dataset):
        return Draws(_validate(draws, "posterior"), {}, dict(draws.attrs))
    posterior = group_of(draws, "posterior")
    if posterior is None:
        groups = list(draws.children) if isinstance(draws, xr.DataTree) else type(draws).__name__
        raise (ValueError if isinstance(draws, xr.DataTree) else TypeError)(
            f"draws hold no posterior group, and {groups!r} was found; expected what un.sample "
            "returns; pass its result, or a dict of arrays with the axes (chain, draw, ...)."
        )
    stats = group_of(draws, "sample_stats")
    return Draws(
        _validate(posterior, "posterior"),
        _scalar_stats(stats),
        dict(getattr(draws, "attrs", None) or {}),
    )


def group_of(draws: Any, name: str) -> "xr.Dataset | None":
    """A group as a Dataset, from a DataTree or from the older InferenceData."""
    import xarray as xr

    if isinstance(draws, xr.DataTree):
        return draws[name].to_dataset() if name in draws.children else None
    group = getattr(draws, name, None)
    return group if isinstance(group, xr.Dataset) else None


def _from_mapping(draws: Mapping) -> Any:
    import arviz_base

    groups = (
        dict(draws) if isinstance(draws.get("posterior"), Mapping) else {"posterior": dict(draws)}
    )
    groups = {
        group: {name: to_numbers(value, f"draws of {name}") for name, value in held.items()}
        for group, held in groups.items()
    }
    for name, value in groups["posterior"].items():
        if np.ndim(value) < 2:
            raise ValueError(
                f"draws of {name} have the shape {np.shape(value)}; expected the axes (chain, "
                f"draw, ...); pass {name}[None] if this is one chain."
            )
    shapes = {np.shape(value)[:2] for value in groups["posterior"].values()}
    if len(shapes) > 1:
        raise ValueError(
            f"draws have the leading shapes {sorted(shapes)}; expected the same (chain, draw) for "
            "all variables; make them agree."
        )
    return arviz_base.from_dict(groups)


def _validate(posterior: "xr.Dataset", group: str) -> "xr.Dataset":
    if not posterior.data_vars:
        raise ValueError(
            f"The {group} group holds no variables; expected draws; pass what un.sample returned."
        )
    for name, array in posterior.data_vars.items():
        if not set(AXES) <= set(array.dims):
            raise ValueError(
                f"draws of {name} have the axes {array.dims}; expected chain and draw among "
                "them; rename or add them."
            )
        if array.dtype.kind not in "fiub":
            raise ValueError(
                f"draws of {name} have the dtype {array.dtype}; expected numbers; convert or "
                f"drop {name}."
            )
        if 0 in array.shape:
            raise ValueError(
                f"draws of {name} have the shape {array.shape}; expected at least one draw; "
                "sample again."
            )
    return posterior.transpose(*AXES, ...)


def _scalar_stats(stats: "xr.Dataset | None") -> dict[str, np.ndarray]:
    """The sampler's statistics with one scalar per draw; others are left out."""
    if stats is None:
        return {}
    scalar = {
        str(name): array for name, array in stats.data_vars.items() if set(array.dims) == set(AXES)
    }
    return {name: array.transpose(*AXES).values for name, array in scalar.items()}
