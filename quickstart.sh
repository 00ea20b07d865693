#!/usr/bin/env bash
# From nothing to a grid of faces: builds Kao, draws faces to train on, trains the tiny preset
# briefly, samples. Run again, it goes on where it stopped. Leaves everything in `quickstart/`.
#
#   ./quickstart.sh [STEPS]
set -euo pipefail
cd "$(dirname "$0")"
steps=${1:-1500}
cargo build --release
kao=target/release/kao
out=quickstart
mkdir -p "$out"
"$kao" draw --count 3000 --out "$out/faces"
# Resume where a run is, start one where none is.
if compgen -G "$out/run/checkpoints/step-*.safetensors" > /dev/null; then
    "$kao" train --resume --out "$out/run" --steps "$steps"
else
    "$kao" train --data "$out/faces" --out "$out/run" --preset tiny --steps "$steps" --save-every 500
fi
"$kao" sample --model "$out/run" --out "$out/grid.png" --strip "$out/strip.png"
"$kao" recover --model "$out/run" --data "$out/faces" --out "$out/recover.png"
echo "open $out/grid.png"
