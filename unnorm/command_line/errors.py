"""How a command ends: one sentence and an exit code."""

import contextlib
import os
from collections.abc import Iterator
from enum import IntEnum
from pathlib import Path
from typing import Any

import typer


class ExitCode(IntEnum):
    """How a command ended; 0 where the result passed."""

    VERDICT_FAILED = 1
    BAD_INPUT = 2


@contextlib.contextmanager
def sentences() -> Iterator[None]:
    """End with one sentence: a value that cannot be used with exit code 2, a run that failed with
    1.
    """
    try:
        yield
    except (typer.Exit, typer.Abort, typer.BadParameter):
        raise
    except OSError as error:
        end(str(error), ExitCode.VERDICT_FAILED)
    except (ValueError, TypeError) as error:
        end(str(error), ExitCode.BAD_INPUT)
    except RuntimeError as error:
        end(str(error), ExitCode.VERDICT_FAILED)
    except Exception as error:  # a density's own function may raise anything
        end(f"{type(error).__name__}: {error}", ExitCode.VERDICT_FAILED)


def end(sentence: str, code: ExitCode) -> None:
    """Print the sentence to standard error and exit."""
    typer.echo(f"Error: {' '.join(sentence.split())}", err=True)
    raise typer.Exit(code) from None


def end_by_verdict(result: Any, strict: bool = False) -> None:
    """Exit with 1 where the result did not pass; `strict`: where it has warnings too."""
    failed = not result.passed
    if strict:
        failed = failed or any(finding.severity == "warning" for finding in result.findings)
    if failed:
        raise typer.Exit(ExitCode.VERDICT_FAILED)


def check_output(output: Path | None, suffixes: tuple[str, ...]) -> None:
    """Refuse, before the run, a path that could not be written after it; "" stands for a folder."""
    if output is None:
        return
    if output.suffix.lower() not in suffixes:
        formats = " or ".join(suffix or "no ending, for a folder" for suffix in suffixes)
        raise typer.BadParameter(
            f"{output} ends with {output.suffix!r}; it must end with {formats}; change the name."
        )
    parent, is_folder = output.resolve().parent, not output.suffix
    occupied = output.is_file() if is_folder else output.is_dir()
    if occupied or not parent.is_dir() or not os.access(parent, os.W_OK):
        raise typer.BadParameter(
            f"{output} cannot be written; it must be {'a folder' if is_folder else 'a file'} in "
            "an existing folder that you may write to; choose another path."
        )
