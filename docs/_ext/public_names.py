"""A page for each public name, from its docstring; the build fails where a part is missing."""

import inspect
import re
from pathlib import Path

from inventory import GROUPS, Public, lacks, public_names
from sphinx.application import Sphinx
from sphinx.ext.napoleon import GoogleDocstring
from sphinx.util import logging

from unnorm.declaration.density import Density
from unnorm.supports import Annotation

LOGGER = logging.getLogger(__name__)
# Methods of these are listed on the pages of their classes.
WITH_METHODS = ("un.Density", "un.Fit", "un.LogZ", "un.Diagnosis")
MARKUP = re.compile(r"(``[^`]+``|`[^`]+`|(?<![\w.])[A-Za-z]+://\S+)|([|*\\])|(?<=\w)_(?![\w])")


def escape(text: str) -> str:
    """A docstring as reStructuredText: |x|, x* and x_ are formulas there, never markup."""
    lines, in_code, indent = [], False, 0
    for line in text.splitlines():
        stripped = line.lstrip()
        here = len(line) - len(stripped)
        if stripped.startswith(">>>") or stripped.endswith("::"):
            in_code, indent = True, here
        elif in_code and stripped and not stripped.startswith("..."):
            in_code = here >= indent and not stripped.endswith(":")
        lines.append(line if in_code else MARKUP.sub(escaped, line))
    return "\n".join(lines)


def escaped(match: re.Match) -> str:
    if match[1]:
        return match[1]
    return "\\" + match[0]


def signature(public: Public) -> str:
    """The call as users write it: names and defaults, without types, which the text describes."""
    thing = public.thing
    if isinstance(thing, Annotation) or not callable(thing) or not made_by_users(public):
        return ""
    function = thing.function if isinstance(thing, Density) else inspect.unwrap(thing)
    keep = inspect.signature(function).parameters.values()
    annotated = isinstance(thing, Density)
    shown = [p if annotated else p.replace(annotation=p.empty) for p in keep if p.name != "self"]
    text = str(inspect.Signature(shown))
    return re.sub(r"<(?:function|class) '?([\w.]+)'?[^>]*>", r"\1", text).replace("'", '"')


def made_by_users(public: Public) -> bool:
    error = inspect.isclass(public.thing) and issubclass(public.thing, Exception)
    return not error and public.group != "results"


def body(text: str, app: Sphinx, kind: str, thing) -> list[str]:
    lines = GoogleDocstring(escape(text), app.config, app, kind, "", thing).lines()
    return "\n".join(lines).splitlines()  # one of them may hold several


def indented(lines: list[str]) -> list[str]:
    return [f"   {line}" if line else "" for line in lines]


def methods(public: Public, app: Sphinx) -> list[str]:
    if public.name not in WITH_METHODS:
        return []
    found: list[str] = []
    for name, member in inspect.getmembers_static(public.thing):
        text = inspect.getdoc(getattr(public.thing, name)) if name[0] != "_" else None
        if text and isinstance(member, property):
            found += ["", f".. py:property:: {name}", "", *indented(body(text, app, "property", 0))]
        elif text and inspect.isfunction(inspect.unwrap(member)):
            call = signature(Public("", name, member))
            found += ["", f".. py:method:: {name}{call}", ""]
            found += indented(body(text, app, "method", member))
    return found


def uses(public: Public, scripts: dict[str, str]) -> list[str]:
    pattern = rf"\b{re.escape(public.name)}\b"
    if public.registered:
        pattern += f"|{public.registered}"
    return [path for path, text in scripts.items() if re.search(pattern, text)]


def page(public: Public, app: Sphinx, scripts: dict[str, str]) -> str:
    is_class = inspect.isclass(public.thing)
    kind = "class" if is_class else "function" if callable(public.thing) else "data"
    if isinstance(public.thing, Annotation):
        kind = "data"
    lines = [
        public.name,
        "=" * len(public.name),
        "",
        f".. py:{kind}:: {public.name}{signature(public)}",
    ]
    lines += ["   :no-index-entry:"] if not public.description else []
    lines += ["", *indented(body(public.description, app, kind, public.thing))]
    lines += indented(methods(public, app))
    if public.registered:
        lines += ["", f"Its registry name is ``{public.registered}``."]
    if found := uses(public, scripts):
        heading = f"Examples that use {public.label}"
        lines += ["", heading, "-" * len(heading), "", f".. minigallery:: {' '.join(found)}"]
    return "\n".join(lines) + "\n"


def group_page(group: str, members: list[Public]) -> str:
    title, what = GROUPS[group]
    lines = [
        title,
        "=" * len(title),
        "",
        escape(what),
        "",
        ".. list-table::",
        "   :widths: 30 70",
        "",
    ]
    for public in members:
        lines += [
            f"   * - :doc:`{public.label} <{group}/{public.page}>`",
            f"     - {escape(public.summary)}",
        ]
    lines += ["", ".. toctree::", "   :hidden:", ""]
    lines += [f"   {p.label} <{group}/{p.page}>" for p in members]
    return "\n".join(lines) + "\n"


def write(app: Sphinx) -> None:
    """Write generated/api. A file whose text has not changed is left, so that it is not read."""
    source = Path(app.srcdir)
    folder = source / "generated" / "api"
    everything = list(public_names())
    for public in everything:
        if missing := lacks(public):
            LOGGER.warning("the docstring of %s lacks %s", public.name, " and ".join(missing))
    scripts = {
        f"{path.parent.name}/{path.name}": path.read_text(encoding="utf-8")
        for part in ("gallery", "cases")
        for path in sorted((source / part).glob("*.py"))
    }
    pages = {
        folder / public.group / f"{public.page}.rst": page(public, app, scripts)
        for public in everything
    }
    for group in GROUPS:
        members = [public for public in everything if public.group == group]
        if members:
            pages[folder / f"{group}.rst"] = group_page(group, members)
    for old in set(folder.rglob("*.rst")) - set(pages):
        old.unlink()
    for path, text in pages.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("builder-inited", write, priority=400)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
