//! Words in a small bitmap font of our own, drawn in `font.txt`.

use super::picture::Picture;

/// Six bands of sixteen characters, from space to U+007F, eight lines each, `#` for ink. The last
/// line is for what hangs below the others.
const FONT: &str = include_str!("font.txt");
const N_PER_BAND: usize = 16;
const LETTER_WIDTH: usize = 5;
/// From one letter to the next, and from one band of the drawing to the next.
pub(super) const PITCH: usize = LETTER_WIDTH + 1;
/// Pixels from the top of a capital to the bottom of what hangs below.
pub(super) const HEIGHT: usize = 8;

/// Pixels that `text` is wide when it is not enlarged.
pub(super) fn width(text: &str) -> usize {
    (text.chars().count() * PITCH).saturating_sub(1)
}

/// Draws `text` with its upper left corner at `x`, `y`, each dot of a letter a square of `scale`
/// pixels. Characters outside ASCII become a block.
pub(super) fn draw(
    picture: &mut Picture,
    text: &str,
    [x, y]: [usize; 2],
    scale: usize,
    colour: [u8; 3],
) {
    for (n, letter) in text.chars().enumerate() {
        for row in 0..HEIGHT {
            for column in 0..LETTER_WIDTH {
                if is_ink(letter, row, column) {
                    let at = [x + (n * PITCH + column) * scale, y + row * scale];
                    picture.fill(at, [scale, scale], colour);
                }
            }
        }
    }
}

fn is_ink(letter: char, row: usize, column: usize) -> bool {
    let place = match letter {
        ' '..='~' => letter as usize - ' ' as usize,
        _ => '\x7f' as usize - ' ' as usize,
    };
    let line = FONT.lines().nth(place / N_PER_BAND * HEIGHT + row).unwrap_or_default();
    line.as_bytes().get(place % N_PER_BAND * PITCH + column) == Some(&b'#')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_drawing_has_a_place_for_every_character() {
        assert_eq!(FONT.lines().count(), 6 * HEIGHT);
        assert!(FONT.lines().all(|line| line.len() == N_PER_BAND * PITCH - 1));
        let has_ink =
            |letter| (0..HEIGHT).any(|row| (0..LETTER_WIDTH).any(|c| is_ink(letter, row, c)));
        assert!(('!'..='~').all(has_ink));
        assert!(!has_ink(' '));
        assert!(has_ink('顔'));
    }

    #[test]
    fn letters_stand_where_they_should() {
        let mut picture = Picture::new(width("LT"), HEIGHT, [0; 3]).unwrap();
        draw(&mut picture, "LT", [0, 0], 1, [255; 3]);
        let row = |y| -> String {
            (0..picture.width())
                .map(|x| if picture.pixel(x, y) == Some([255; 3]) { '#' } else { '.' })
                .collect()
        };
        assert_eq!(row(0), "#.....#####");
        assert_eq!(row(3), "#.......#..");
        assert_eq!(row(6), "#####...#..");
        assert_eq!(row(7), "...........");
    }
}
