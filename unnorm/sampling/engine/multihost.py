"""Many hosts: processes that share nothing but a coordinator, which passes small messages between
their chunks.
"""

import io
import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from unnorm.core.findings import NOTE, WARNING, Finding, FindingCode
from unnorm.core.jax_compat import distributed_state
from unnorm.sampling.output.atomic_files import StoreError
from unnorm.statistics.mcmc import ConvergenceCriteria, potential_scale_reduction


@dataclass(frozen=True)
class MessagingOptions:
    """How processes talk to each other.

    Args:
        timeout_ms: how long a process waits for the others between two parts.
        message_bytes: of one message of the coordinator.
    """

    timeout_ms: int = 120_000
    message_bytes: int = 2**20


_OF = re.compile(r"process-\d+-of-\d+$")


def lost(processes: int) -> str:
    """What is said where another process has died."""
    return (
        f"one of the {processes} processes has stopped answering; expected all to be alive; start "
        "all of them again, with the same --store, to go on from it."
    )


def join(coordinator: str, processes: int, process: int) -> None:
    """Join the processes of a run, before JAX starts.

    Raises:
        ValueError: numbers that do not fit, or a coordinator that is no HOST:PORT.
    """
    if ":" not in coordinator or not 0 <= process < processes:
        raise ValueError(
            f"process {process} of {processes} with coordinator {coordinator!r} cannot join; "
            "expected HOST:PORT, and processes numbered from 0; give --coordinator, --processes "
            "and --process-id to every process."
        )
    # Else the coordination service would abort the processes that are left, without a word of ours.
    jax.config.update("jax_enable_recoverability", True)
    jax.distributed.initialize(
        coordinator,
        processes,
        process,
        initialization_timeout=MessagingOptions().timeout_ms // 1000,
    )


def run_child(
    command: list[str], environment: dict[str, str], *, grace: float = 5.0
) -> tuple[int, str]:
    """Run a command to its end and return its exit status and what it wrote to stderr; end it if
    this process ends.

    A SIGTERM or SIGHUP to this process is passed on; a child that outlives it by `grace` seconds is
    killed (JAX's coordination service takes a SIGTERM for notice of a preemption, and goes on). A
    SIGKILL of this process ends the child on Linux, by `die_with_parent`.
    """
    child = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)

    def end(number: int, _: Any) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        _, said = child.communicate()
        return child.returncode, said
    finally:
        if child.poll() is None:
            child.terminate()
            try:
                child.wait(grace)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        for number, handler in before.items():
            signal.signal(number, handler)


def die_with_parent() -> None:
    """Ask Linux to kill this process when its parent dies, however that comes about."""
    if sys.platform != "linux":
        return
    import ctypes

    parent = os.getppid()
    set_parent_death_signal = 1  # PR_SET_PDEATHSIG of prctl(2)
    ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)
    if os.getppid() != parent:  # it died in between
        os.kill(os.getpid(), signal.SIGKILL)


class Hosts:
    """The processes of `jax.distributed`, or this one alone. No collective runs on a device."""

    def __init__(self, options: MessagingOptions = MessagingOptions()) -> None:
        self.options = options
        state = distributed_state()
        self.client = state.client
        self.count = 1 if state.client is None else state.num_processes
        self.own = 0 if state.client is None else state.process_id

    def own_folder(self, store: Path) -> Path:
        """Each process keeps its own chains in its own store.

        Raises:
            StoreError: the store is of another number of processes.
        """
        found = {
            int(path.name.rpartition("-")[2])
            for path in store.glob("process-*-of-*")
            if _OF.match(path.name)
        }
        found |= {1} if (store / "meta.json").exists() else set()
        if found - {self.count}:
            raise StoreError(
                f"store {store} holds a run of {max(found - {self.count})} processes, and "
                f"{self.count} was given; "
                "expected the same; start as many processes, or name another store."
            )
        return store if self.count == 1 else store / f"process-{self.own}-of-{self.count}"

    def agree(self, part: int) -> None:
        """Wait for the others after a part; where one has died, end with a sentence."""
        if self.count > 1:
            self._ask(self.client.wait_at_barrier, f"unnorm-part-{part}")

    def _ask(self, question: Any, name: str) -> Any:
        """What the coordinator answers; any failure means that a process has died."""
        try:
            return question(name, self.options.timeout_ms)
        except Exception as error:
            raise RuntimeError(lost(self.count)) from error

    def common_seed(self, seed: int) -> int:
        """The first process's seed."""
        if self.count == 1:
            return seed
        if self.own == 0:
            self.client.key_value_set("unnorm-seed", str(seed))
        return int(self._ask(self.client.blocking_key_value_get, "unnorm-seed"))

    def gather(self, label: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Arrays (chain, ...) of all processes, the chains in their order."""
        if self.count == 1 or not arrays:
            return arrays
        buffer = io.BytesIO()
        marked: dict[str, Any] = {f"a_{name}": value for name, value in arrays.items()}
        np.savez(buffer, **marked)
        content = buffer.getvalue()
        size = self.options.message_bytes
        pieces = [content[i : i + size] for i in range(0, len(content), size)]
        for i, piece in enumerate(pieces):
            self.client.key_value_set_bytes(f"unnorm-{label}-{self.own}-{i}", piece)
        self.client.key_value_set(f"unnorm-{label}-{self.own}", str(len(pieces)))
        parts = [self._receive(label, process) for process in range(self.count)]
        return {name: np.concatenate([part[f"a_{name}"] for part in parts]) for name in arrays}

    def _receive(self, label: str, process: int) -> dict[str, Any]:
        name = f"unnorm-{label}-{process}"
        count = int(self._ask(self.client.blocking_key_value_get, name))
        pieces = [
            self._ask(self.client.blocking_key_value_get_bytes, f"{name}-{i}") for i in range(count)
        ]
        with np.load(io.BytesIO(b"".join(pieces))) as held:
            return {name: held[name] for name in held.files}


def over_hosts(hosts: Hosts, events: dict) -> Finding:
    """R-hat of all chains where each host keeps its own: their halves' means and variances are
    enough.
    """
    halves: dict = {}
    for name, values in events.items():
        flat = values.reshape(*values.shape[:2], -1)
        middle = flat.shape[1] // 2
        cut = np.concatenate([flat[:, :middle], flat[:, middle : 2 * middle]]).astype(float)
        halves |= {
            f"{name} mean": cut.mean(1),
            f"{name} variance": cut.var(1, ddof=1),
            f"{name} n": cut[:, 0] * 0 + middle,
        }
    halves = hosts.gather("halves", halves)
    worst = 0.0
    for name in events:
        means, variances = (halves[f"{name} {kind}"] for kind in ("mean", "variance"))
        ratios = potential_scale_reduction(means, variances, halves[f"{name} n"][0])
        worst = max(worst, float(ratios.max()))
    what = (
        f"this store holds the chains of process {hosts.own}; over all {hosts.count} the worst "
        f"R-hat is {worst:.3f}"
    )
    level = NOTE if worst <= ConvergenceCriteria().max_r_hat else WARNING
    return Finding(
        what,
        "" if level == NOTE else "run longer",
        level,
        code=FindingCode.NOT_MIXED,
    )
