"""How a value is shown: a table as html, a figure as a picture, the rest as its `repr`. Interpreter's side.

Objects say how they want to be shown by the field's own convention, IPython's `_repr_*_` methods. Matplotlib
is told, when it is imported, that figures are shown here: `plt.show()` sends them, and so does the end of a
run. A setting of the user's own (`MPLBACKEND`, `matplotlib.use`) goes before ours.

Pictures travel as data URIs, text and XML (also SVG) as they are.
"""

from __future__ import annotations

import base64
import builtins
import importlib
import importlib.machinery
import importlib.util
import io
import os
import sys
import types
from collections.abc import Callable, Mapping
from typing import Any

METHODS = {  # in the order in which they are preferred
    "text/html": "_repr_html_",
    "image/svg+xml": "_repr_svg_",
    "image/png": "_repr_png_",
    "image/jpeg": "_repr_jpeg_",
}
BACKEND = "refold_figures"  # the name by which matplotlib knows us


class Display:
    """Sends what is shown, with its kind."""

    def __init__(self, send: Callable[[str, Any], None]) -> None:
        self._send = send
        self._figures_shown: list[Any] = []
        sys.meta_path.insert(0, _Figures(self))

    def echo(self, value: object) -> None:
        """`sys.displayhook`: the last expression of a run."""
        if value is None:
            return
        setattr(builtins, "_", None)  # noqa: B010  (as Python's own: a repr may print `_`)
        if not self.show(value):
            print(repr(value))
        setattr(builtins, "_", value)  # noqa: B010

    def show(self, value: object) -> bool:
        """False if there is nothing but its repr to show."""
        figure = getattr(sys.modules.get("matplotlib.figure"), "Figure", None)
        if figure is not None and isinstance(value, figure):
            self._show_figure(value)
            return True
        if isinstance(value, type):  # its methods are about its instances
            return False
        item = best_of(_representations(value))
        if item is not None:
            self._send(*item)
        return item is not None

    def flush_figures(self) -> None:
        """Those that are open and were not shown in this run, each once; then they are closed."""
        pyplot = sys.modules.get("matplotlib.pyplot")
        if pyplot is None or BACKEND not in sys.modules:
            return
        if BACKEND not in str(getattr(sys.modules["matplotlib"], "rcParams")["backend"]):  # noqa: B009
            return  # the user chose another one
        try:
            for number in pyplot.get_fignums():
                figure = pyplot.figure(number)
                if not any(figure is shown for shown in self._figures_shown):
                    self._show_figure(figure)
        finally:
            pyplot.close("all")

    def forget_figures(self) -> None:
        """The run is over."""
        self._figures_shown.clear()

    def _show_figure(self, figure: Any) -> None:
        self._figures_shown.append(figure)
        picture = io.BytesIO()
        figure.savefig(picture, format="png", bbox_inches="tight")
        self._send("media", ["image/png", _portable("image/png", picture.getvalue())])


class _Figures:
    """Makes itself matplotlib's backend, without a word in the environment that subprocesses would inherit."""

    def __init__(self, display: Display) -> None:
        self._display = display
        self._looking = False

    def find_spec(self, name: str, path: object = None, target: object = None) -> Any:  # noqa: ARG002
        """Two modules are of interest: matplotlib itself, and our backend for it."""
        if name == BACKEND:
            return importlib.machinery.ModuleSpec(name, self)  # type: ignore[arg-type]
        if name != "matplotlib" or self._looking:
            return None
        self._looking = True
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self._looking = False
        if spec is not None and spec.loader is not None and "MPLBACKEND" not in os.environ:
            load = spec.loader.exec_module

            def load_with_backend(module: types.ModuleType) -> None:
                os.environ["MPLBACKEND"] = f"module://{BACKEND}"
                try:
                    load(module)
                finally:
                    del os.environ["MPLBACKEND"]

            spec.loader.exec_module = load_with_backend  # type: ignore[method-assign]
        return spec

    def create_module(self, spec: object) -> None:
        """An ordinary one."""

    def exec_module(self, module: types.ModuleType) -> None:
        """What matplotlib asks of a backend: Agg's canvas, and `show`."""
        agg = importlib.import_module("matplotlib.backends.backend_agg")
        bases = importlib.import_module("matplotlib.backend_bases")
        module.__dict__.update(FigureCanvas=agg.FigureCanvas, FigureManager=bases.FigureManagerBase, show=self._show)

    def _show(self, *_: object, **__: object) -> None:
        self._display.flush_figures()


def best_of(representations: Mapping[str, Any]) -> tuple[str, Any] | None:
    """Kind and content of a console item for the one that is preferred; None if only text is left."""
    for mime in METHODS:
        data = representations.get(mime)
        if mime == "text/html" and isinstance(data, str):
            return "html", data
        if mime != "text/html" and isinstance(data, (str, bytes)):
            return "media", [mime, _portable(mime, data)]
    return None


def _representations(value: object) -> Mapping[str, Any]:
    """By type. A method that fails has no say: the repr remains."""
    found: dict[str, Any] = {}
    bundle = _called(value, "_repr_mimebundle_")
    if isinstance(bundle, tuple) and bundle:
        bundle = bundle[0]
    if isinstance(bundle, Mapping):
        found.update(bundle)
    for mime, method in METHODS.items():
        if mime not in found:
            data = _called(value, method)
            found[mime] = data[0] if isinstance(data, tuple) and data else data
    return found


def _called(value: object, method: str) -> Any:
    try:
        return getattr(value, method)()
    except Exception:
        return None


def _portable(mime: str, data: str | bytes) -> str:
    if mime.startswith("text/") or mime.endswith("xml"):
        return data if isinstance(data, str) else data.decode("utf-8", "replace")
    if isinstance(data, str):  # base64 already, by IPython's convention
        return f"data:{mime};base64,{''.join(data.split())}"
    return f"data:{mime};base64,{base64.b64encode(data).decode()}"
