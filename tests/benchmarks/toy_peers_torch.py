"""torchebm and ebmkit on the toys, by the loops of their documentation."""

import time
from collections.abc import Callable

import ebm
import numpy as np
import torch
import torchebm.core
import torchebm.losses
import torchebm.samplers

torch.set_num_threads(1)


class Energy(torchebm.core.BaseModel):
    """|x|²/10 − net(x), from the same weights as ours."""

    def __init__(self, width: int, seed: int) -> None:
        super().__init__()
        board, linear = _board(), []
        for weight, bias in board.weights(width, seed):
            layer = torch.nn.Linear(*weight.shape[::-1])
            layer.weight.data, layer.bias.data = torch.tensor(weight), torch.tensor(bias)
            linear += [layer, torch.nn.SiLU()]
        self.net, self.confinement = torch.nn.Sequential(*linear[:-1]), board.CONFINEMENT

    def forward(self, x, **_):
        return self.confinement * (x**2).sum(-1) - self.net(x).squeeze(-1)


def _board():
    """The module of the board; imported late, because it imports this one."""
    from benchmarks import toy_peers

    return toy_peers


def _torch_chains(persistent: bool) -> Callable:
    def make(model, board):
        sampler = torchebm.samplers.LangevinDynamics(model, step_size=board.STEP)
        return torchebm.losses.ContrastiveDivergence(
            model, sampler, k_steps=board.K, persistent=persistent
        )

    return make


TORCHEBM: dict[str, Callable] = {
    "CD": _torch_chains(False),
    "persistent CD": _torch_chains(True),
    "score matching": lambda m, b: torchebm.losses.ScoreMatching(m),
    "sliced": lambda m, b: torchebm.losses.SlicedScoreMatching(m, n_projections=b.PROJECTIONS),
    "denoising": lambda m, b: torchebm.losses.DenoisingScoreMatching(m, noise_scale=b.SIGMA),
}
EBMKIT: dict[str, Callable] = {
    # Without a buffer its chains start at standard normal draws, not at the data.
    "CD": lambda b: ebm.ContrastiveDivergence(ebm.LangevinDynamics(b.STEP, b.K)),
    "persistent CD": lambda b: ebm.ContrastiveDivergence(
        ebm.LangevinDynamics(b.STEP, b.K), buffer=ebm.ReplayBuffer(8192, (2,))
    ),
    "score matching": lambda b: ebm.ExactScoreMatching(),
    "sliced": lambda b: ebm.SlicedScoreMatching(n_projections=b.PROJECTIONS),
    "denoising": lambda b: ebm.DenoisingScoreMatching(sigma=b.SIGMA),
    "noise levels": lambda b: ebm.MultiSigmaDenoisingScoreMatching(
        ebm.geometric_sigmas(b.LEVELS[1], b.LEVELS[0], b.LEVELS[2])
    ),
    "NCE": lambda b: ebm.NoiseContrastiveEstimation(noise_ratio=b.RATIO),
    "energy discrepancy": lambda b: ebm.EnergyDiscrepancy(m_particles=b.RATIO),
}


def has(who: str, objective: str) -> bool:
    return objective in {"torchebm": TORCHEBM, "ebmkit": EBMKIT}[who]


def torchebm_loop(objective: str, data: np.ndarray, width: int, steps: int, seed: int):
    torch.manual_seed(seed)
    board, model = _board(), Energy(width, seed)
    loss = TORCHEBM[objective](model, board)

    def value(x):
        found = loss(x)
        return found[0] if isinstance(found, tuple) else found

    return _train(value, model.parameters(), model, data, steps)


def ebmkit_loop(objective: str, data: np.ndarray, width: int, steps: int, seed: int):
    torch.manual_seed(seed)
    board, model = _board(), Energy(width, seed)
    by_level = objective == "noise levels"
    if by_level:
        model = ebm.nets.NoiseConditionalMLPEnergy(2, (width, width))
    loss = EBMKIT[objective](board)
    every = [*model.parameters(), *loss.parameters()]
    at = (lambda x: model(x, board.LEVELS[0])) if by_level else model
    return _train(lambda x: loss(model, x).loss, every, at, data, steps)


def _train(value: Callable, parameters, energy: Callable, data: np.ndarray, steps: int):
    """Adam on a cosine schedule, as ours; CPU seconds, and minus the energy on the grid."""
    board, rows, every = _board(), torch.tensor(data), list(parameters)
    optimizer = torch.optim.Adam(every, lr=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    began = time.process_time()
    for _ in range(steps):
        loss = value(rows[torch.randint(len(rows), (board.BATCH,))])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(every, 10.0)
        optimizer.step()
        schedule.step()
    seconds = time.process_time() - began
    with torch.no_grad():
        parts = [-energy(part).double().numpy() for part in torch.tensor(board.GRID).split(50_000)]
    return {"seconds": seconds}, np.concatenate(parts)


PEERS = {"torchebm": torchebm_loop, "ebmkit": ebmkit_loop}
