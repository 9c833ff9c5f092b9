"""What every result carries: findings, each with what was seen and what to do, and whether it
passed.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from unnorm.core.display import Card, html_of, rich_of
from unnorm.core.messages import join_names as join_names

ERROR, WARNING, NOTE = "error", "warning", "note"


class FindingCode(StrEnum):
    """What kind of finding it is, for a program to branch on; the words of a finding are for
    people.
    """

    OTHER = "other"

    # any verb
    CHOSEN_METHOD = "chosen_method"
    DECLARED_STARTS = "declared_starts"
    INTERRUPTED = "interrupted"
    NOT_FINITE = "not_finite"
    OVERFLOW = "overflow"
    PRECISION = "precision"
    IMPURE_FUNCTION = "impure_function"

    # log Z
    NOT_NORMALIZABLE = "not_normalizable"
    MASS_NOT_SEEN = "mass_not_seen"
    ESTIMATES_DISAGREE = "estimates_disagree"
    TOO_FEW_ESTIMATES = "too_few_estimates"
    UNRELIABLE_WEIGHTS = "unreliable_weights"
    LARGE_ERROR = "large_error"

    # fits
    NO_FINITE_ESTIMATE = "no_finite_estimate"
    NOT_IDENTIFIED = "not_identified"
    NOT_CONVERGED = "not_converged"
    NO_STANDARD_ERRORS = "no_standard_errors"
    MORE_PARAMETERS_THAN_ROWS = "more_parameters_than_rows"
    SMALL_SAMPLE = "small_sample"
    FEW_CLUSTERS = "few_clusters"
    OBJECTIVE_CONDITIONS = "objective_conditions"
    MISSING_VALUES = "missing_values"
    KIND_OF_WEIGHTS = "kind_of_weights"
    DRAWS_UNLIKE_DATA = "draws_unlike_data"
    FAR_FROM_MAXIMUM_LIKELIHOOD = "far_from_maximum_likelihood"
    LIKELIHOOD_BOUND = "likelihood_bound"
    SEVERAL_OPTIMA = "several_optima"
    UNSUITABLE_NOISE = "unsuitable_noise"
    INFLUENTIAL_ROW = "influential_row"
    NEAR_BOUND = "near_bound"
    NO_LOG_Z = "no_log_z"
    BIASED_OBJECTIVE = "biased_objective"
    TRAINING_DIVERGED = "training_diverged"
    GRID_END = "grid_end"
    FIT_DID_NOT_PASS = "fit_did_not_pass"
    ROWS_SEEN_IN_FIT = "rows_seen_in_fit"
    CRITERIA_DISAGREE = "criteria_disagree"
    FLOW_PRIOR = "flow_prior"

    # draws
    DIVERGENCES = "divergences"
    NOT_MIXED = "not_mixed"
    STEIN_MISMATCH = "stein_mismatch"
    EQUAL_CHAINS = "equal_chains"
    OTHER_MODES = "other_modes"
    STUCK_CHAIN = "stuck_chain"
    LOW_ESS = "low_ess"
    LOW_ACCEPTANCE = "low_acceptance"
    TREE_DEPTH = "tree_depth"
    LOW_ENERGY = "low_energy"
    TOO_FEW_DRAWS = "too_few_draws"
    OUTSIDE_SUPPORT = "outside_support"
    BIASED_KERNEL = "biased_kernel"
    NO_WARMUP = "no_warmup"
    TOO_FEW_CHAINS = "too_few_chains"


@dataclass(frozen=True)
class Finding:
    """One observation about a result.

    Attributes:
        what: what was observed.
        advice: what the user should do; empty where nothing needs doing, as in many notes.
        severity: `ERROR`, `WARNING` or `NOTE`.
        code: the kind of finding, for a program to branch on.
    """

    what: str
    advice: str = ""
    severity: str = ERROR
    code: FindingCode = FindingCode.OTHER

    @property
    def sentence(self) -> str:
        """The observation and the advice, as one sentence."""
        return f"{self.what}; {self.advice}." if self.advice else f"{self.what}."

    def __str__(self) -> str:
        return f"[{self.severity}] {self.sentence}"


class Unreliable(RuntimeError):  # noqa: N818  # users catch it by this name
    """Raised by `strict=True` where a result did not pass; its text is the findings."""


class Result:
    """Base of every result: `passed` unless a finding is an error."""

    findings: list[Finding]

    @property
    def passed(self) -> bool:
        return not any(finding.severity == ERROR for finding in self.findings)

    def raise_unless_passed(self) -> None:
        """What `strict=True` does."""
        if not self.passed:
            raise Unreliable(" ".join(str(f) for f in self.findings if f.severity == ERROR))

    def _findings_text(self) -> str:
        """The findings, one per line, for `str`."""
        return "\n".join(str(finding) for finding in self.findings)

    def _card(self) -> Card:
        """What a notebook and a terminal show."""
        return Card(repr(self), "passed" if self.passed else "not passed")

    def _repr_html_(self) -> str:
        """The result for a notebook."""
        return html_of(self, self._card())

    def __rich__(self) -> Any:
        """The result for rich's console: ``rich.print(result)``."""
        return rich_of(self, self._card())
