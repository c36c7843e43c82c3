#!/usr/bin/env bash
# Installs the loaders that the tests of layouts run, outside the project's environment: optimum wants a transformers
# older than ours, transformers.js is a package of npm. Needs a package index each; what is there already stays.
#
#   tests/exporters/loaders/install.sh FOLDER [PYTHON]
#
# FOLDER gets python/ and node/; PYTHON is the interpreter with cutbert's dependencies, whose torch is used too.
set -euo pipefail
folder=$(mkdir -p "$1" && cd "$1" && pwd)
base=${2:-python3}
if [[ ! -e "$folder/python/.installed" ]]; then
    "$base" -m venv "$folder/python"
    site=$("$folder/python/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    "$base" -c 'import sysconfig; print(sysconfig.get_path("purelib"))' >"$site/base.pth" # after its own packages
    "$folder/python/bin/python" -m pip install -q --no-compile \
        "transformers>=4.57,<5" "datasets<5" sentence-transformers optimum-onnx fastembed openvino
    touch "$folder/python/.installed"
fi
if [[ ! -e "$folder/node/node_modules/@huggingface/transformers/package.json" ]] && command -v npm >/dev/null; then
    mkdir -p "$folder/node"
    # Scripts of the packages are not run: the native library is in the package itself.
    npm install --prefix "$folder/node" --ignore-scripts --no-fund --no-audit "@huggingface/transformers@^4" >/dev/null
fi
