"""Write docs/configuration.md from the configuration's schema: `write_config_docs.py`."""

from pathlib import Path

import yaml

from mmneurons.artifacts.files import atomic
from mmneurons.config_docs import configuration_page

ROOT = Path(__file__).parents[1]

if __name__ == "__main__":
    text = (ROOT / "resources/schemas/config.schema.yaml").read_text(encoding="utf-8")
    with atomic(ROOT / "docs/configuration.md") as path:
        path.write_text(configuration_page(yaml.safe_load(text)), encoding="utf-8")
