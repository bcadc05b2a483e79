"""Make the pictures of geometries.md: run its blocks of Python, one after the other.

python docs/make_gallery.py
"""

import os
import re
from pathlib import Path

from PIL import Image

PAGE = Path(__file__).parent / "geometries.md"


def make_gallery(folder: Path) -> dict[str, object]:
    """Run the page in `folder`, where the pictures go; returns the names that it defined."""
    (folder / "geometries").mkdir(exist_ok=True)
    names: dict[str, object] = {}
    before = Path.cwd()
    os.chdir(folder)
    try:
        for code in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL):
            exec(compile(code, str(PAGE), "exec"), names)
    finally:
        os.chdir(before)
    for picture in (folder / "geometries").glob("*.png"):
        image = Image.open(picture).convert("RGB")
        few = image.quantize(256, kmeans=2)  # a third of the bytes
        few.save(picture, optimize=True)
    return names


if __name__ == "__main__":
    make_gallery(PAGE.parent)
