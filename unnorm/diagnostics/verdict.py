"""What every result carries: findings, each with what was seen and what to do, and whether it passed."""

from dataclasses import dataclass

ERROR, WARNING, NOTE = "error", "warning", "note"


@dataclass(frozen=True)
class Finding:
    """One thing that was noticed: what it is, what to do about it, and how much it matters."""

    what: str
    advice: str
    severity: str = ERROR

    def __str__(self) -> str:
        return f"[{self.severity}] {self.what}; {self.advice}."


class Unreliable(RuntimeError):
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

    def _told(self) -> str:
        """The findings as lines, for `str`."""
        return "\n".join(str(finding) for finding in self.findings)


def listed(names: list[str], most: int = 4) -> str:
    """Return "a, b and 3 more"."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
