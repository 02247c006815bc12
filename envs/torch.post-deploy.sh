#!/usr/bin/env bash
# Without dependencies, as in requirements-no-deps.txt: the torchvision that grad-cam declares would replace torch, and an
# environment file cannot say so.
set -euo pipefail
python -m pip install --no-deps grad-cam==1.5.7 ttach==0.0.3
