#!/bin/sh
# Makes the pictures of the README from the built-in model and drawn faces:
#     docs/pictures.sh            (with `kao` on the path, or KAO=target/release/kao)
set -eu
kao=$(realpath "$(command -v "${KAO:-kao}")")
cd "$(dirname "$0")"

"$kao" sample --count 24 --columns 8 --out samples.png
"$kao" sample --rows "blonde hair, blue hair, pink hair, black hair" \
    --columns-of "happy, laughing, wink, surprised, closed eyes, glasses" --seed 3 --labels --out wishes.png
for steps in 10 100; do
    "$kao" sample --count 24 --steps $steps --columns 8 --out samples-$steps.png
done
"$kao" sample --count 8 --steps 10 --sampler ddim --out ddim-10.png
"$kao" sample --count 4 --out strip-grid.png --strip strip.png
rm strip-grid.png
for eta in 0 0.5 1; do
    "$kao" sample --count 8 --steps 20 --eta $eta --out eta-$eta.png
done

"$kao" sample --count 4 --out strip-grid.png --strip strip-x0.png --strip-of x0
rm strip-grid.png
"$kao" interpolate --between 3,17,42 --frames 12 --labels --out interpolation.png
"$kao" interpolate --between 3,17,42,3 --frames 12 --scale 2 --out interpolation.webp

# In a folder of its own, so that the commands in the pictures name no other.
docs=$PWD
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT
cd "$work"
"$kao" draw --count 400 --seed 12 --out faces
"$kao" recover --data faces --count 8 --t 300 --out "$docs/recover.png"
"$kao" recover --data faces --count 8 --t 300 --origin-bug --out "$docs/recover-origin-bug.png"

# Faces that the model has not seen, and a mask: the left half black, the right half white.
"$kao" draw --count 8 --seed 4242 --out unseen
cp unseen/face-000000.png one.png
cp unseen/face-000003.png two.png
printf 'BM\076\002\0\0\0\0\0\0\076\0\0\0\050\0\0\0\100\0\0\0\100\0\0\0\001\0\001\0' > mask.bmp
printf '\0\0\0\0\0\002\0\0\023\013\0\0\023\013\0\0\002\0\0\0\002\0\0\0' >> mask.bmp
printf '\0\0\0\0\377\377\377\0' >> mask.bmp
for row in $(seq 64); do
    printf '\0\0\0\0\377\377\377\377' >> mask.bmp
done
for strength in 0.3 0.6 0.9; do
    "$kao" edit one.png two.png --strength $strength --count 7 --out "$docs/edit-$strength.png"
done
"$kao" edit one.png two.png --mask mask.bmp --count 7 --out "$docs/edit-mask.png"
"$kao" encode unseen --count 4 --steps 50 --picture "$docs/encoded.png" --out latents.safetensors

# The pages of `kao studio`, by a test that drives them in Chromium (`apt install chromium
# chromium-driver`) and trains for some minutes.
screenshots=$work/screenshots
(cd "$docs/.." && KAO_SCREENSHOTS=$screenshots KAO_PICTURE_STEPS=180 cargo test --release --workspace \
    --features kao-studio/browser-tests --test browser -- the_pictures_of_the_readme)
cp "$screenshots/studio-create.png" "$screenshots/studio-train.png" "$docs"

# The table and the chart of samplers: 164,864 evaluations of the network, half an hour on busy cores.
"$kao" draw --count 2000 --seed 12 --out drawn
"$kao" compare --samplers dpm++,unipc,heun,dpm++-3m,ddim,dpm++-sde --evaluations 5,8,10,15,20,50 \
    --count 256 --data drawn --out samplers
cp samplers/chart.svg "$docs/samplers.svg"
