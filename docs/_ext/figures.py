"""The figures of a gallery script, those that pyplot does not know included."""

from pathlib import Path

from matplotlib.figure import Figure
from sphinx_gallery.scrapers import figure_rst


class FigureScraper:
    """Saves each matplotlib Figure that a block leaves in a name of its own."""

    def __init__(self) -> None:
        self.seen: list[Figure] = []

    def __repr__(self) -> str:  # part of Sphinx's stored configuration: it must not change
        return "FigureScraper"

    def __call__(self, block, block_vars, gallery_conf) -> str:
        paths = []
        for value in list(block_vars["example_globals"].values()):
            drawn = isinstance(value, Figure) and value.canvas.manager is None  # not by pyplot
            if drawn and not any(value is old for old in self.seen):
                self.seen.append(value)
                path = next(block_vars["image_path_iterator"])
                value.savefig(path, dpi=120)
                paths.append(str(Path(path)))
        return figure_rst(paths, gallery_conf["src_dir"])
