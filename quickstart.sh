#!/usr/bin/env bash
# From nothing to a grid of faces: builds Kao, draws faces to train on, trains the tiny preset
# briefly, samples. Run again, it goes on where it stopped. Leaves everything in `quickstart/`.
#
#   ./quickstart.sh [STEPS]
set -euo pipefail
cd "$(dirname "$0")"
steps=${1:-1500}
if ! [[ $steps =~ ^[1-9][0-9]{0,8}$ ]]; then
    echo "error: steps $steps: must be a whole number, at least 1" >&2
    exit 2
fi
# The program, where it is built already.
kao=${KAO:-}
out=${QUICKSTART_OUT:-quickstart}

# The newest checkpoint's name says how far a run is; no checkpoint is no run.
steps_done() {
    local newest
    newest=$(compgen -G "$out/run/checkpoints/step-*.safetensors" | sort | tail -n 1) || true
    newest=${newest##*step-}
    newest=${newest%.safetensors}
    echo $((10#${newest:-0}))
}

done_before=$(steps_done)
left=$((steps > done_before ? steps - done_before : 0))
echo "What this takes on two cores:"
[[ -n $kao ]] || echo "  building   1 to 4 minutes the first time"
echo "  drawing    about 40 seconds for 3000 faces, the first time"
# 32 pictures a step, some 200 pictures a second.
echo "  training   about $((left * 32 / 200 / 60 + 1)) minutes for $left steps"
echo "  sampling   some seconds"

if [[ -z $kao ]]; then
    cargo build --release
    kao=target/release/kao
fi
mkdir -p "$out"
"$kao" draw --count "${QUICKSTART_FACES:-3000}" --out "$out/faces"
if ((left == 0)); then
    echo "trained for $done_before steps already"
elif ((done_before > 0)); then
    "$kao" train --resume --out "$out/run" --steps "$steps"
else
    "$kao" train --data "$out/faces" --out "$out/run" --preset tiny --steps "$steps" --save-every 500
fi
"$kao" sample --model "$out/run" --out "$out/grid.png" --strip "$out/strip.png"
"$kao" recover --model "$out/run" --data "$out/faces" --out "$out/recover.png"
echo "open $out/grid.png"
