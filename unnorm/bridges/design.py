"""`un.design`: a formula and a table become the matrix of a vector covariate and its response."""

import re
import warnings
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from unnorm.core.messages import pluralize
from unnorm.core.validation import verb


@dataclass(frozen=True)
class Design:
    """What a formula makes of a table.

    Attributes:
        matrix: a DataFrame with a column for each term, factors as contrasts; the data of a
            covariate that is declared as a vector, `z: un.Covariate["term"]`.
        response: the left-hand side as a Series, or None.
        names: the names of the columns, which label the parameters.
        offset: the sum of the offsets, `offset(column)` in the formula, as a Series, or None.

    Example:
        >>> import pandas as pd
        >>> import unnorm as un
        >>> frame = pd.DataFrame({"y": [1, 0, 1], "dose": [0.1, 0.2, 0.4], "sex": ["f", "m", "f"]})
        >>> un.design("y ~ dose + C(sex)", frame).names
        ['Intercept', 'dose', 'C(sex)[T.m]']
    """

    matrix: Any
    response: Any
    names: list[str]
    offset: Any = None
    _spec: Any = field(default=None, repr=False)
    _offsets: tuple[str, ...] = field(default=(), repr=False)

    def __repr__(self) -> str:
        """One line: the rows and the terms."""
        terms = ", ".join(self.names)
        return f"Design of {pluralize(len(self.matrix), 'row')}: {terms}"

    def transform(self, frame: Any) -> "Design":
        """Return the design of other rows, with the columns of this one.

        The levels of factors, and what a term learned from the table, such as the mean in
        `center(x)`, are those of the first table. The rows need no response.

        Args:
            frame: a pandas DataFrame with the columns that the right-hand side names.

        Returns:
            `Design`; pass ``{"z": d.matrix}`` to `fit.predict`.

        Raises:
            ValueError: a column that is not there, a missing value, a level that the first table
                does not have.

        Example:
            >>> import pandas as pd
            >>> import unnorm as un
            >>> frame = pd.DataFrame({"y": [1, 0, 1], "sex": ["f", "m", "f"]})
            >>> design = un.design("y ~ C(sex)", frame)
            >>> design.transform(pd.DataFrame({"sex": ["m"]})).matrix.values.tolist()
            [[1.0, 1.0]]
        """
        _check_frame(frame)
        needed = [str(name) for name in self._spec.required_variables]
        for name in [*needed, *self._offsets]:
            _refuse_missing(frame, name)
        found = _evaluate(self._spec.get_model_matrix, "the right-hand side", frame)
        return _design(found, None, frame, self._offsets)


@verb
def design(formula: str, frame: Any) -> Design:
    """Build the design matrix of a regression from a formula.

    η = X β (+ offset): the columns of X are the terms of the right-hand side, an intercept first
    unless the formula says 0; a factor `C(name)` of k levels has k − 1 columns against its first
    level. Rows with missing values are refused, not dropped.

    Args:
        formula: such as ``"y ~ dose + C(sex) + offset(log_exposure)"``, in the grammar of
            formulaic (that of R and patsy); an offset is a column's name inside `offset(...)`.
        frame: a pandas DataFrame.

    Returns:
        `Design`: matrix, response, names, offset; pass ``{"y": d.response, "z": d.matrix}`` to
            `un.fit`.

    Raises:
        ValueError: a formula that cannot be read, a column that is not there, a missing value (by
            column and row).

    Example:
        >>> import jax.numpy as jnp
        >>> import pandas as pd
        >>> import unnorm as un
        >>> @un.density(log_z=lambda z, b: jnp.logaddexp(0.0, z @ b))
        ... def logistic(y: un.Binary, *, z: un.Covariate["term"], b: un.Real["term"] = 0.0):
        ...     return y * (z @ b)
        >>> frame = pd.DataFrame({"y": [0, 1, 0, 1, 1, 0], "sex": list("ffffmm")})
        >>> d = un.design("y ~ C(sex)", frame)
        >>> fit = un.fit(logistic, {"y": d.response, "z": d.matrix}, seed=0, progress=False)
        >>> fit.density.dimensions, bool(abs(fit.density.parameters["b"]).max() < 1e-6)
        ({'term': 2}, True)

    References:
        Wilkinson and Rogers (1973), doi:10.2307/2346786 (formulas).
    """
    _check(formula, frame)
    formula, offsets = _without_offsets(formula)
    try:
        import formulaic
    except ImportError:
        raise ValueError(
            "un.design needs the package formulaic, which is not installed; install it by pip "
            "install formulaic."
        ) from None
    try:
        needed = [str(name) for name in formulaic.Formula(formula).required_variables]
    except Exception as error:
        raise ValueError(
            f"formula is {formula!r}, which cannot be read ({_first_line(error)}); it must have a "
            "form such as 'y ~ dose + C(sex)'; correct it."
        ) from None
    columns = [name for name in needed if name in frame.columns]
    for name in [*columns, *offsets]:
        _refuse_missing(frame, name)
    build = partial(formulaic.model_matrix, formula)
    found = _evaluate(build, f"formula {formula!r}", frame)
    left, right = (found.lhs, found.rhs) if hasattr(found, "lhs") else (None, found)
    if left is not None and left.shape[1] != 1:
        raise ValueError(
            f"The left-hand side of {formula!r} has {left.shape[1]} columns; it must be one "
            "numeric column; code it as numbers."
        )
    return _design(right, left, frame, tuple(offsets))


def _evaluate(build: Any, what: str, frame: Any) -> Any:
    from formulaic.errors import DataMismatchWarning

    try:
        with warnings.catch_warnings():
            # A level without a column would count as the reference level.
            warnings.simplefilter("error", DataMismatchWarning)
            return build(frame, na_action="raise", output="pandas")
    except Exception as error:
        raise ValueError(
            f"{what} cannot be evaluated on frame ({_first_line(error)}); its names must be "
            f"columns of frame ({', '.join(map(str, frame.columns))}), and a factor's values its "
            "levels; correct one of the two."
        ) from None


def _design(right: Any, left: Any, frame: Any, offsets: tuple[str, ...]) -> Design:
    import pandas as pd

    matrix = pd.DataFrame(right).astype(float)
    return Design(
        matrix,
        None if left is None else pd.Series(left.iloc[:, 0]),
        [str(name) for name in matrix.columns],
        frame[list(offsets)].astype(float).sum(axis=1) if offsets else None,
        right.model_spec,
        offsets,
    )


def _check(formula: Any, frame: Any) -> None:
    if not isinstance(formula, str):
        raise ValueError(
            f"formula is {formula!r}; it must be a string such as 'y ~ dose + C(sex)'; pass the "
            "formula as text."
        )
    _check_frame(frame)


def _check_frame(frame: Any) -> None:
    if not (hasattr(frame, "iloc") and hasattr(frame, "columns")):
        raise ValueError(
            f"frame is a {type(frame).__name__}; it must be a pandas DataFrame; convert it."
        )


def _without_offsets(formula: str) -> tuple[str, list[str]]:
    """The formula without its offsets, and the columns that these name."""
    pattern = r"\+?\s*offset\(\s*([^()]+?)\s*\)"
    names = [name.strip("`") for name in re.findall(pattern, formula)]
    rest = re.sub(pattern, "", formula)
    if "offset(" in rest:
        raise ValueError(
            f"formula {formula!r} has an offset that is not the name of a column; it must be "
            "offset(column); add the column to frame first."
        )
    rest = re.sub(r"~\s*\+", "~ ", rest)
    return (rest + " 1" if rest.rstrip().endswith("~") else rest), names


def _refuse_missing(frame: Any, name: str) -> None:
    if name not in frame.columns:
        raise ValueError(
            f"formula has the column {name}, and frame has {', '.join(map(str, frame.columns))}; "
            "it must be a column's name; correct it."
        )
    missing = frame[name].isna().to_numpy()
    if missing.any():
        row = int(missing.argmax())
        label = frame.index[row]
        where = f"row {row}" if label == row else f"row {row} (index {label!r})"
        raise ValueError(
            f"Column {name!r} has a missing value at {where}; it must be complete, because no row "
            "is dropped silently; drop the row, or impute it."
        )


def _first_line(error: Exception) -> str:
    """The error in one line, without the colours of a terminal."""
    text = re.sub(r"\x1b\[[0-9;]*m|[⧛⧚]|\[1;31m|\[0m", "", str(error)).strip()
    return text.splitlines()[0].rstrip(".") if text else type(error).__name__


__all__ = ["Design", "design"]
