"""Unadjusted Langevin: `un.sample` against torchebm's sampler and a plain torch loop (the extra
`bench`)."""

import numpy as np

import unnorm as un

try:
    import torch
    import torchebm.core
    import torchebm.samplers
except ImportError:
    raise SystemExit(
        "torch and torchebm are not installed (the extra `bench` has them): this part is left out"
    ) from None

from benchmarks.harness import medians, table
from benchmarks.targets import targets

STEP = 0.1
STEPS = {1: {"unnorm": 200_000, "torch": 1_000}, 1024: {"unnorm": 2_000, "torch": 200}}


def energies() -> dict:
    """The targets' energies −log p̃ in torch, with the same numbers."""
    values = {
        name: {k: torch.tensor(np.array(v)) for k, v in p.constants.items()}
        for name, p in targets().items()
    }
    mixture, gaussian, network = values.values()
    return dict(
        zip(
            values,
            (
                lambda x: (
                    -torch.logsumexp(-0.5 * ((x[:, None] - mixture["centres"]) ** 2).sum(-1), -1)
                ),
                lambda x: 0.5 * (gaussian["precision"] * x**2).sum(-1),
                lambda x: (
                    0.5 * (x**2).sum(-1)
                    - torch.tanh(torch.tanh(x @ network["w1"]) @ network["w2"]) @ network["w3"]
                ),
            ),
            strict=True,
        )
    )


class Energy(torchebm.core.BaseModel):
    def __init__(self, energy):
        super().__init__()
        self.energy = energy

    def forward(self, x):
        return self.energy(x)


def torchebm_langevin(energy, size: int, chains: int, steps: int):
    # Its noise is sqrt(2 * step) * noise_scale: the step and the scale of x + ε∇log p + √(2ε) z.
    sampler = torchebm.samplers.LangevinDynamics(Energy(energy), step_size=STEP, noise_scale=1.0)
    return lambda turn: sampler.sample(x=torch.randn(chains, size), n_steps=steps)


def torch_loop(energy, size: int, chains: int, steps: int):
    def run(turn):
        torch.manual_seed(turn)
        x = torch.randn(chains, size)
        for _ in range(steps):
            x.requires_grad_(True)
            (slope,) = torch.autograd.grad(energy(x).sum(), x)
            x = (x - STEP * slope + (2 * STEP) ** 0.5 * torch.randn_like(x)).detach()
        return x

    return run


def ours(density: un.Density, chains: int, steps: int):
    kernel = un.kernels.ULA(step_size=STEP)
    return lambda turn: un.sample(
        density,
        kernel,
        draws=steps,
        warmup=0,
        chains=chains,
        seed=turn,
        keep="last",
        progress=False,
    )


def main() -> None:
    un.use_devices(2)
    rows = []
    for (name, density), energy in zip(targets().items(), energies().values(), strict=True):
        size = density.variables["x"].axes[0]
        for chains, steps in STEPS.items():
            found = medians(
                {
                    "torchebm": torchebm_langevin(energy, size, chains, steps["torch"]),
                    "torch": torch_loop(energy, size, chains, steps["torch"]),
                    "unnorm": ours(density, chains, steps["unnorm"]),
                }
            )
            micro = {
                who: 1e6 * s / steps["unnorm" if who == "unnorm" else "torch"]
                for who, s in found.items()
            }
            ratios = [f"{micro[who] / micro['unnorm']:.1f}" for who in ("torchebm", "torch")]
            rows.append([name, chains, *(f"{value:.1f}" for value in micro.values()), *ratios])
            print(rows[-1], flush=True)
    print(
        table(
            [
                "target",
                "chains",
                "torchebm, µs a step",
                "torch",
                "unnorm",
                "to torchebm",
                "to torch",
            ],
            rows,
        )
    )


if __name__ == "__main__":
    main()
