"""Files and commands of a page, run in an empty folder in the order in which a reader types them.

`{file} NAME` writes a file, and `{shell}` runs commands and shows what they print; its option
`:writes: report.html` links to a file that they wrote. A page's blocks are run again when one of
them or the package changes. A command that fails, fails the build.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.directives.code import CodeBlock
from sphinx.errors import ExtensionError

BLOCK = re.compile(r"^```\{(file|shell)\} *([^\n]*)\n((?::\w+:[^\n]*\n)*)(.*?)^```$", re.M | re.S)
LANGUAGES = {".py": "python", ".csv": "text"}


def run(blocks: list[tuple[str, str, str]], folder: Path) -> list[str]:
    """Return what each block prints, run in this empty folder."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    printed = []
    for kind, name, text in blocks:
        if kind == "file":
            (folder / name).write_text(text, encoding="utf-8")
            continue
        done = subprocess.run(
            ["bash", "-ec", text],
            cwd=folder,
            env=os.environ | {"PATH": path, "COLUMNS": "100"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode:
            raise ExtensionError(f"{text}ended with {done.returncode}:\n{done.stdout}")
        printed.append(done.stdout.rstrip())
    return printed


def execute(app: Sphinx, page: str, content: list[str]) -> None:
    """Run the blocks of a page, or look up what they printed when they were last run."""
    blocks = [(kind, name, text) for kind, name, _, text in BLOCK.findall(content[0])]
    if not blocks:
        return
    key = hashlib.sha256(json.dumps(blocks).encode()).hexdigest()[:16]
    folder = Path(app.config.nb_execution_cache_path) / "shell" / key
    printed = folder / "printed.json"
    if not printed.is_file():
        with TemporaryDirectory() as name:
            text = json.dumps(run(blocks, Path(name)))
            shutil.copytree(name, folder, dirs_exist_ok=True)
        printed.write_text(text, encoding="utf-8")
    app.env.temp_data["shell"] = folder, iter(json.loads(printed.read_text(encoding="utf-8")))


class File(CodeBlock):
    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        name = self.arguments[0]
        self.arguments, self.options["caption"] = [LANGUAGES[Path(name).suffix]], name
        return super().run()


class Shell(CodeBlock):
    optional_arguments = 0
    option_spec: ClassVar = {"writes": directives.path}

    def run(self) -> list[nodes.Node]:
        self.arguments = ["bash"]
        folder, printed = self.env.temp_data["shell"]
        cell = nodes.container("", classes=["cell"])
        cell += nodes.container("", *super().run(), classes=["cell_input"])
        if text := next(printed):
            output = nodes.literal_block(text, text, language="none", classes=["output"])
            cell += nodes.container("", output, classes=["cell_output"])
        return [cell, *self.link(folder)]

    def link(self, folder: Path) -> list[nodes.Node]:
        """Keep the file that the commands wrote beside the page, and link to it."""
        if not (name := self.options.get("writes")):
            return []
        page = Path(self.env.docname)
        kept = Path(self.env.app.outdir) / page.parent / "_written" / page.name / name
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / name, kept)
        reference = nodes.reference("", f"Open {name}", refuri=f"_written/{page.name}/{name}")
        return [nodes.paragraph("", "", reference)]


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("source-read", execute)
    app.add_directive("file", File)
    app.add_directive("shell", Shell)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
