#!/bin/sh
# Makes the pictures of the README from the built-in model and drawn faces:
#     docs/pictures.sh            (with `kao` on the path, or KAO=target/release/kao)
set -eu
kao=$(realpath "$(command -v "${KAO:-kao}")")
cd "$(dirname "$0")"

for steps in 10 20 100; do
    "$kao" sample --count 24 --steps $steps --columns 8 --out samples-$steps.png
done
"$kao" sample --count 8 --steps 10 --sampler ddim --out ddim-10.png
"$kao" sample --count 4 --steps 20 --out strip-grid.png --strip strip.png
rm strip-grid.png
for eta in 0 0.5 1; do
    "$kao" sample --count 8 --steps 20 --eta $eta --out eta-$eta.png
done

faces=$(mktemp -d)
trap 'rm -r "$faces"' EXIT
"$kao" draw --count 400 --seed 12 --out "$faces/faces"
"$kao" recover --data "$faces/faces" --count 8 --t 300 --out recover.png
"$kao" recover --data "$faces/faces" --count 8 --t 300 --origin-bug --out recover-origin-bug.png
"$kao" encode "$faces/faces" --count 4 --steps 50 --picture encoded.png --out "$faces/latents.safetensors"
