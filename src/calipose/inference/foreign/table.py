"""The one table of forms of other projects' models, and which of them a graph has."""

from __future__ import annotations

from calipose.errors import InputError
from calipose.inference.foreign.base import Form, Graph
from calipose.inference.foreign.detr import DETRPOSE, ECPOSE, ECPOSE_RAW, RFDETR
from calipose.inference.foreign.movenet import MOVENET
from calipose.inference.foreign.rtmo import RTMO
from calipose.inference.foreign.yolo import YOLO26_POSE, YOLO_POSE

FORMS: dict[str, Form] = {
    form.name: form for form in (YOLO_POSE, YOLO26_POSE, RTMO, DETRPOSE, ECPOSE, ECPOSE_RAW, RFDETR, MOVENET)
}


def find_form(graph: Graph, name: str = "") -> Form:
    """The form of a graph.

    Args:
        graph: an open model.
        name: of its form; by default the one that its inputs and outputs have.

    Raises:
        InputError: there is no such form; the graph has another; or none or several fit.
    """
    has = f"takes {_listed(graph.input_ports)} and gives {_listed(graph.output_ports)}"
    if name:
        if name not in FORMS:
            raise InputError(f"there is no form '{name}'; forms are {', '.join(FORMS)}")
        if not FORMS[name].fits(graph):
            raise InputError(f"{graph.path}: not of the form '{name}' ({FORMS[name].description}): it {has}")
        return FORMS[name]
    found = [form for form in FORMS.values() if form.fits(graph)]
    if len(found) == 1:
        return found[0]
    if not found:
        raise InputError(
            f"{graph.path}: neither a model that calipose export wrote nor one of a known form ({', '.join(FORMS)}): "
            f"it {has}"
        )
    either = "; ".join(f"{form.name}: {form.description}, {form.prepared}" for form in found)
    raise InputError(f"{graph.path}: inputs and outputs fit several forms; name one with --as or form= ({either})")


def _listed(ports: object) -> str:
    return ", ".join(map(str, ports))[:300]  # type: ignore[call-overload]
