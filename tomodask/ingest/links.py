"""Following the links inside HDF5 files, with errors that say where one leads nowhere."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TypeAlias

import h5py

from tomodask.errors import MissingInputError

Node: TypeAlias = "h5py.Group | h5py.Dataset"


def get_node(group: h5py.Group, name: str) -> Node | None:
    """The member of this name, None if there is none or its link leads nowhere."""
    try:
        node: Node = group[name]
    except (KeyError, OSError):  # OSError: the target file exists but can't be opened
        return None
    return node


def find_node(group: h5py.Group, name: str) -> Node:
    """The node at a path below `group`, link by link.

    Raises
    ------
    MissingInputError : a part of the path does not exist, or a link on it leads nowhere: names the
        link, the file that it points to and the path in there.
    """
    node: Node = group.file["/"] if name.startswith("/") else group
    for part in filter(None, name.split("/")):
        child = get_node(node, part) if isinstance(node, h5py.Group) else None
        if child is None:
            raise MissingInputError(_explain(node, part, name))
        node = child
    return node


def _explain(node: Node, part: str, name: str) -> str:
    """Why `part` can't be opened in `node`."""
    file = node.file.filename
    if isinstance(node, h5py.Dataset):
        return f"{file} has no {name}: {node.name} is a dataset"
    if not node.id.links.exists(part.encode()):
        near = difflib.get_close_matches(part, list(node), n=1)
        hint = f"did you mean {near[0]}?" if near else f"{node.name} holds {_names(node)}"
        return f"{file} has no {name}: {hint}"
    link = node.get(part, getlink=True)
    place = f"{file}: the link {node.name.rstrip('/')}/{part}"
    if isinstance(link, h5py.ExternalLink):
        return f"{place} points to {link.path} in {link.filename}, {_explain_target(node, link)}"
    return f"{place} points to {getattr(link, 'path', '?')}, which does not exist"


def _explain_target(node: h5py.Group, link: h5py.ExternalLink) -> str:
    """Where HDF5 looked for the target file of an external link, and what was wrong there."""
    folder = Path(node.file.filename).parent
    target = Path(link.filename)
    # where HDF5 looks: the name from the folder of the linking file, then its last part alone
    places = dict.fromkeys((folder / target, folder / target.name))
    for place in places:
        if place.exists():
            return f"which {place} does not hold or which can't be opened there"
    return (
        f"a file that does not exist (looked for {' and '.join(map(str, places))}): "
        f"copy it there, or mend the link"
    )


def _names(group: h5py.Group) -> str:
    names = list(group)
    shown = ", ".join(names[:8]) or "nothing"
    return shown + (f" and {len(names) - 8} more" if len(names) > 8 else "")
