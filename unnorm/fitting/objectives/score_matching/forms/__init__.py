"""The forms of score matching, a module each. A support names its form in `Support.score_matching`.

A form is a module with two functions. `prepare(name, support, values, options)` returns what stays
fixed (the scales of the columns). `terms(log_density, value, support, scales, options)` returns
what ONE variable gives to the loss of one row, `log_density` being a function of its value alone: a
pair (a, r) that stands for a + r'r/2. Where a and r are affine in the parameters, the fit is a
linear solve. To add a form: its module, and its line in FORMS.
"""

from unnorm.fitting.objectives.score_matching.forms import (
    concrete,
    euclidean,
    ordinal,
    ratio_matching,
    simplex,
    sphere,
    weighted,
)

FORMS = {
    "plain": euclidean,
    "circle": euclidean,  # a circle has no end, and so no boundary term
    "generalized": weighted,
    "simplex": simplex,
    "sphere": sphere,
    "ordinal": ordinal,
    "ratio": ratio_matching,
    "concrete": concrete,
}
