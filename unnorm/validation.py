"""One layer of checks for what users give: ranges are declared where an option is, and the sentence is generated."""

from typing import Any

from unnorm.supports import Support


def refuse_other_measure(what: str, name: str, support: Support, law: Any) -> None:
    """Refuse a discrete distribution for a continuous value and the reverse: one has no density in the other's measure.

    `law` is a NumPyro distribution; others do not say what they are.
    """
    discrete = getattr(getattr(law, "support", None), "is_discrete", None)
    if discrete is None or bool(discrete) == support.discrete:
        return
    found, expected = ("discrete", "continuous") if discrete else ("continuous", "discrete")
    example = "Normal(0, 1)" if discrete else "Poisson(1)"
    raise ValueError(
        f"The {what} {name} is {type(law).__name__}, which is {found}, and {name} is {support!r}; expected a "
        f"{expected} distribution; pass one such as numpyro.distributions.{example}."
    )
