"""Named statements out of a `.sql` file."""

import re
from importlib import resources

_MARK = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)


def load(package: str, file: str) -> dict[str, str]:
    """Statement text by name. A name given twice is refused with `ValueError`."""
    text = resources.files(package).joinpath(file).read_text("utf-8")
    _, *rest = _MARK.split(text)
    names, bodies = rest[::2], rest[1::2]
    if len(set(names)) != len(names):
        raise ValueError(f"{package}/{file} gives a name twice")
    return {name: body.strip() for name, body in zip(names, bodies, strict=True)}
