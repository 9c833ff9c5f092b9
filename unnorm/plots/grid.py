"""Draws of images, side by side."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from unnorm.core.figures import PALE, new_figure, set_text
from unnorm.core.validation import verb
from unnorm.diagnostics.draws import group_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@verb
def plot_grid(
    draws: Any,
    *,
    shape: tuple[int, ...] | None = None,
    columns: int = 8,
    most: int = 64,
    name: str | None = None,
) -> "Figure":
    """Draw images in a grid, all on one scale of grey.

    Args:
        draws: an array (n, height, width), (n, height, width, 3) in colour, or (n, pixels) with
            `shape`; or what `un.sample` returned, of which draws are taken evenly, the last of each
            chain among them.
        shape: (height, width) of one image; None: as the array has it, or a square.
        columns: images side by side.
        most: images that are drawn.
        name: the variable, where the draws hold several.

    Returns:
        A Matplotlib Figure.

    Raises:
        ValueError: an array of another shape.

    Example:
        >>> import numpy as np, unnorm as un
        >>> len(un.plot_grid(np.random.default_rng(0).random((12, 8, 8))).axes)
        1

    References:
        Tufte (1983), The Visual Display of Quantitative Information (small multiples).
    """
    images = _images(draws, shape, name)
    count = min(len(images), most)
    chosen = images[np.linspace(0, len(images) - 1, count).round().astype(int)]
    columns = min(columns, count)
    rows = -(-count // columns)
    tile, low, high = _tile(chosen, rows, columns)
    figure = new_figure(0.75 * columns + 0.4, 0.75 * rows * tile.shape[0] / rows
        / (tile.shape[1] / columns) + 0.5)  # fmt: skip
    ax = figure.add_subplot()
    ax.imshow(tile, cmap="gray", vmin=low, vmax=high, interpolation="nearest")
    ax.set_axis_off()
    grey = "" if tile.ndim == 3 else f"; black is {low:.3g}, white is {high:.3g}"
    set_text(
        ax.set_title, f"{count} of {len(images):,} images{grey}", 90, loc="left", fontsize=8,
        color=PALE,
    )  # fmt: skip
    return figure


def _images(draws: Any, shape: Any, name: str | None) -> np.ndarray:
    """All images, (n, height, width) or (n, height, width, 3)."""
    array = np.asarray(_array(draws, name), float)
    if shape is not None and array.ndim >= 2 and array[0].size == np.prod(shape):
        return array.reshape(len(array), *shape)
    side = round(np.sqrt(array.shape[-1])) if array.ndim == 2 else 0
    if side and side**2 == array.shape[-1]:
        return array.reshape(-1, side, side)
    if array.ndim == 3 or (array.ndim == 4 and array.shape[-1] in (1, 3)):
        return array[..., 0] if array.ndim == 4 and array.shape[-1] == 1 else array
    raise ValueError(
        f"draws have the shape {array.shape}; they must be (n, height, width), or (n, pixels) with "
        "shape=(height, width); pass the shape of one image."
    )


def _array(draws: Any, name: str | None) -> Any:
    """The array of one variable, chains joined so that evenly chosen draws come from all."""
    posterior: Any = group_of(draws, "posterior") if not isinstance(draws, np.ndarray) else None
    if posterior is None and isinstance(draws, Mapping):
        posterior = draws
    if posterior is None:
        return draws
    names = [str(one) for one in posterior]
    chosen = name or (names[0] if len(names) == 1 else None)
    if chosen not in names:
        raise ValueError(
            f"name is {name!r}; it must be one of the variables {', '.join(names)}; pass name=."
        )
    array = np.asarray(posterior[chosen])
    return array.reshape(-1, *array.shape[2:])


def _tile(images: np.ndarray, rows: int, columns: int) -> tuple[np.ndarray, float, float]:
    """One large image with white lines between; and the scale."""
    finite = images[np.isfinite(images)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    high = high if high > low else low + 1.0
    height, width, *colour = images.shape[1:]
    if colour:
        images, low, high = (images - low) / (high - low), 0.0, 1.0
    tile = np.full((rows * (height + 1) - 1, columns * (width + 1) - 1, *colour), high)
    for at, image in enumerate(images):
        top, left = (at // columns) * (height + 1), (at % columns) * (width + 1)
        tile[top : top + height, left : left + width] = image
    return tile, low, high
