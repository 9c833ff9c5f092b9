"""Many hosts: processes that share nothing but a coordinator, which passes small messages between their chunks."""

import io
from pathlib import Path
from typing import Any

import numpy as np

PATIENCE = 120_000  # milliseconds that a process waits for the others between two parts
_PIECE = 2**20  # bytes of one message


class Hosts:
    """The processes of `jax.distributed`, or this one alone. No collective runs on a device."""

    def __init__(self):
        from jax._src import distributed

        state = distributed.global_state
        self.client = state.client
        self.count = 1 if state.client is None else state.num_processes
        self.own = 0 if state.client is None else state.process_id

    def own_folder(self, store: Path) -> Path:
        """Each process keeps its own chains in its own store."""
        return store if self.count == 1 else store / f"process-{self.own}-of-{self.count}"

    def agree(self, part: int) -> None:
        """Wait for the others after a part; where one has died, end with a sentence."""
        if self.count == 1:
            return
        try:
            self.client.wait_at_barrier(f"unnorm-part-{part}", PATIENCE)
        except Exception as error:
            raise RuntimeError(
                f"a process of the {self.count} did not reach part {part + 1} of the run within "
                f"{PATIENCE // 1000} seconds; expected all to be alive; start all of them again, with the same store, "
                "to go on from it."
            ) from error

    def shared_seed(self, seed: int) -> int:
        """The first process's seed."""
        if self.count == 1:
            return seed
        if self.own == 0:
            self.client.key_value_set("unnorm-seed", str(seed))
        return int(self.client.blocking_key_value_get("unnorm-seed", PATIENCE))

    def gathered(self, label: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Arrays (chain, ...) of all processes, the chains in their order."""
        if self.count == 1 or not arrays:
            return arrays
        buffer = io.BytesIO()
        np.savez(buffer, **{f"a_{name}": value for name, value in arrays.items()})
        content = buffer.getvalue()
        pieces = [content[i : i + _PIECE] for i in range(0, len(content), _PIECE)]
        for i, piece in enumerate(pieces):
            self.client.key_value_set_bytes(f"unnorm-{label}-{self.own}-{i}", piece)
        self.client.key_value_set(f"unnorm-{label}-{self.own}", str(len(pieces)))
        parts = [self._received(label, process) for process in range(self.count)]
        return {name: np.concatenate([part[f"a_{name}"] for part in parts]) for name in arrays}

    def _received(self, label: str, process: int) -> dict[str, Any]:
        count = int(self.client.blocking_key_value_get(f"unnorm-{label}-{process}", PATIENCE))
        pieces = [
            self.client.blocking_key_value_get_bytes(f"unnorm-{label}-{process}-{i}", PATIENCE) for i in range(count)
        ]
        with np.load(io.BytesIO(b"".join(pieces))) as held:
            return {name: held[name] for name in held.files}
