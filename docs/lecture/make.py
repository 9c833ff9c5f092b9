"""Every objective that serves networks on every toy: `make gallery-lecture [ONLY=name,...]`.

Each cell fits one network (the same width, steps and batch) to 4,000 points, and is measured on a
grid: KL(truth ‖ fit), the error of the reported log Z, held-out log-likelihood below the truth's,
CPU seconds, and the verdict. The page build/lecture/index.html holds a table and the pictures.
"""

import base64
import html
import io
import sys
import time
from pathlib import Path

import numpy as np
from scipy.special import logsumexp

import unnorm as un
from unnorm.models.toys import SAMPLERS

WIDTH, STEPS, ROWS = 64, 3_000, 4_000
SIDE, CELLS = 12.0, 400  # of the grid
LOG_Z = {
    "eight_gaussians": np.log(8 * 2 * np.pi * 0.2**2),
    "two_moons": np.log(200 * 2 * np.pi * 0.1**2),
    "two_spirals": np.log(400 * 2 * np.pi * 0.1**2),
    "checkerboard": np.log(8),
}
OBJECTIVES = {
    "contrastive divergence, persistent": lambda o: o.ContrastiveDivergence(
        k=10, persistent=True, reinitialise=0.05
    ),
    "score matching": lambda o: o.ScoreMatching(),
    "sliced score matching": lambda o: o.SlicedScoreMatching(),
    "denoising score matching": lambda o: o.DenoisingScoreMatching(sigma=0.1),
    "many noise levels": lambda o: o.DenoisingScoreMatching(sigma=(0.1, 4.0, 12)),
    "noise contrastive estimation": lambda o: o.NCE(noise_ratio=5),
    "ranking NCE": lambda o: o.RankingNCE(),
    "conditional NCE": lambda o: o.ConditionalNCE(),
    "energy discrepancy": lambda o: o.EnergyDiscrepancy(),
    "flow contrastive estimation": lambda o: o.FlowContrastive(),
    "adversarial": lambda o: o.Adversarial(),
}

AXIS = (np.arange(CELLS) + 0.5) * SIDE / CELLS - SIDE / 2
GRID = np.stack(np.meshgrid(AXIS, AXIS, indexing="ij"), -1).reshape(-1, 2).astype(np.float32)
LOG_CELL = 2 * np.log(SIDE / CELLS)


def on_grid(p):
    """log p̃ on the grid, and its log Z there."""
    values = np.asarray(p(GRID), float)
    return values, logsumexp(values) + LOG_CELL


def cell(toy, objective):
    """One fit, measured: a dict of figures, and the picture."""
    truth = getattr(un.models, toy)
    data, held = (
        SAMPLERS[toy](np.random.default_rng(seed), rows).astype(np.float32)
        for seed, rows in ((0, ROWS), (1, 2_000))
    )
    start = time.process_time()
    levels = getattr(objective, "sigma", None)
    levels = levels if isinstance(levels, tuple) else None
    make = un.models.noise_conditional_energy if levels else un.models.fully_connected_energy
    fit = un.fit(make(2, width=WIDTH), data, objective, steps=STEPS, seed=0, progress=False)
    seconds = time.process_time() - start
    p = fit.density.given(sigma=levels[0]) if levels else fit.density
    values, log_z = on_grid(p)
    true_values = np.asarray(truth(GRID), float) - LOG_Z[toy]
    inside = np.isfinite(true_values)
    weight = np.exp(true_values[inside] + LOG_CELL)
    kl = float(weight @ (true_values[inside] - (values - log_z)[inside]))
    reported = un.log_z(p, seed=0, progress=False)
    gap = np.mean(np.asarray(truth(held), float) - LOG_Z[toy])
    gap -= np.mean(np.asarray(p(held), float)) - log_z
    figure = un.plot_density(p, data=held[:500], window=[(-3.2, 3.2), (-3.2, 3.2)])
    return {
        "KL": f"{kl:.3f}",
        "log Z − grid": f"{reported.value - log_z:+.3f} ({reported.verdict})",
        "below the truth": f"{gap:.3f}",
        "CPU s": f"{seconds:.0f}",
        "verdict": "passed" if fit.passed else "did not pass",
    }, figure


def as_image(figure):
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=60)
    return (
        f'<img alt="" src="data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}">'
    )


def main(only, folder=Path("build/lecture")):
    folder.mkdir(parents=True, exist_ok=True)
    parts = []
    for toy in LOG_Z:
        for name, make in OBJECTIVES.items():
            if only and not {toy, name} & only:
                continue
            try:
                figures, picture = cell(toy, make(un.objectives))
                text = "".join(f"<td>{html.escape(v)}</td>" for v in figures.values())
                picture = as_image(picture)
            except ValueError as refusal:
                text, picture = f"<td colspan=5>{html.escape(str(refusal))}</td>", ""
            parts.append(f"<tr><td>{toy}</td><td>{name}</td>{text}<td>{picture}</td></tr>")
            print(toy, name, html.unescape(text).replace("</td><td>", " | ")[4:-5], flush=True)
            write(folder, parts)


def write(folder, parts):
    head = ("toy", "objective", "KL", "log Z − grid", "below the truth", "CPU s", "verdict", "")
    header = "".join(f"<th>{one}</th>" for one in head)
    page = (
        "<!doctype html><meta charset=utf-8><title>Objectives on toys</title>"
        "<style>body{font:15px system-ui;margin:2rem}td,th{padding:.3rem .8rem;text-align:left;"
        "border-bottom:1px solid #ddd}</style><h1>Objectives on toys</h1>"
        f"<p>Network of width {WIDTH}, {STEPS:,} steps, {ROWS:,} points, seed 0. Nats.</p>"
        f"<table><tr>{header}</tr>{''.join(parts)}</table>"
    )
    (folder / "index.html").write_text(page)


if __name__ == "__main__":
    main({one.strip() for one in ",".join(sys.argv[1:]).split(",") if one.strip()})
