"""Build the API page with the guides: ``python .ci/api_page.py OUT``.

One page for each package and module of `blastogan`, with its guide and its public names. pdoc shows
what ``__all__`` lists, so names that a package loads on first use are loaded here, and the packages
are added to the list of `blastogan`. Links between guides become links between pages; other links
into the repository become plain text.
"""

from __future__ import annotations

import re
import sys
import warnings
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from types import ModuleType

import pdoc

import blastogan

ROOT = Path(blastogan.__file__).parent
LINK = re.compile(r'<a href="([^":#]+\.(?:md|py|ipynb))(?:#[^"]*)?">(.*?)</a>', re.S)


def show(module: ModuleType, *more: str) -> None:
    """Load the public names of a package, and list them and those given in ``__all__``."""
    names = list(getattr(module, "__all__", ()))
    for name in names:
        setattr(module, name, getattr(module, name))
    setattr(module, "__all__", [*names, *more])  # noqa: B010


def relink(html: str, folder: Path, up: str) -> str:
    """Point links to guides at their pages.

    Args:
        html: A page.
        folder: The folder that links in its guide start from.
        up: From the page to the folder of all pages, such as ``../``.
    """

    def page(link: re.Match[str]) -> str:
        path, text = (folder / link[1]).resolve(), link[2]
        if path.name not in ("GUIDE.md", "GLOSSARY.md"):
            return text
        name = path.parent.relative_to(ROOT.parent).as_posix()
        return f'<a href="{up}{name}.html">{text}</a>'

    return LINK.sub(page, html)


def main(out: Path) -> None:
    """Write all pages; a warning of pdoc is an error."""
    warnings.filterwarnings("error", module=r"pdoc\.")
    rooms = [info.name for info in iter_modules(blastogan.__path__) if info.name[0] != "_"]
    for name in rooms:
        room = import_module(f"blastogan.{name}")
        if hasattr(room, "__path__"):
            show(room)
    show(blastogan, *rooms)
    pdoc.render.configure(docformat="google")
    pdoc.pdoc("blastogan", output_directory=out)
    for path in [out / "blastogan.html", *(out / "blastogan").glob("*.html")]:
        up = "../" if path.parent.name == "blastogan" else ""
        folder = ROOT / path.stem if up else ROOT
        path.write_text(relink(path.read_text("utf-8"), folder, up), "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
