#!/usr/bin/env bash
# Without dependencies, as in requirements-no-deps.txt: what it declares (numpy<2, pillow<10, torchvision) it does not need,
# and an environment file cannot say so.
set -euo pipefail
python -m pip install --no-deps simple-lama-inpainting==0.1.2
