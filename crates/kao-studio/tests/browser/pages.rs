//! What people do with the pages.

use crate::driver::Browser;
use crate::server::Server;
use serde_json::json;

const ARROW_RIGHT: &str = "\u{e014}";
const ESCAPE: &str = "\u{e00c}";
const TAB: &str = "\u{e004}";

#[test]
fn faces_form_and_one_is_looked_at() {
    let server = Server::start();
    let browser = Browser::open(1400, 900);
    browser.go(&server.url("create"));
    browser.wait_for("document.querySelector('.face.begun.forming')");
    browser.screenshot("create-forming");
    browser.wait_for("document.querySelectorAll('.face img').length === 16");
    browser.screenshot("create");
    let command = browser.run("return document.querySelector('.command code').textContent");
    assert!(command.as_str().unwrap().starts_with("kao sample "), "{command}");

    browser.click(".face:nth-child(4)");
    browser.wait_for("document.querySelector('.viewer input[type=range]')");
    let before = browser.run("return document.querySelector('.viewer .large').src");
    browser.screenshot("viewer");
    browser.set(".viewer input[type=range]", "5");
    assert_ne!(browser.run("return document.querySelector('.viewer .large').src"), before);
    browser.screenshot("viewer-process");
    let line = browser.run("return document.querySelector('.viewer code').textContent");
    assert!(line.as_str().unwrap().contains("--pick 3"), "{line}");
    browser.run("document.querySelector('.viewer h2').focus(); document.activeElement.blur()");
    browser.press(ESCAPE);
    browser.wait_for("!document.querySelector('.viewer')");

    for (width, scheme) in [(360, "dark"), (360, "light"), (800, "dark"), (1400, "dark")] {
        browser.resize(width, 900);
        browser.prefer(scheme, "reduce");
        let overflow = "return document.documentElement.scrollWidth - innerWidth";
        assert!(browser.run(overflow).as_i64().unwrap() <= 0, "wider than {width}");
        browser.screenshot(&format!("create-{width}-{scheme}"));
    }
    browser.is_clean(&server.host);
}

#[test]
fn a_long_job_is_cancelled() {
    let server = Server::start();
    let browser = Browser::open(1000, 800);
    browser.go(&server.url("create"));
    browser.wait_for("document.querySelectorAll('.face img').length === 16");
    browser.set("input[name=count]", "64");
    browser.set("input[name=steps]", "100");
    browser.click("form .primary");
    browser.wait_for("document.querySelector('.face.begun.forming')");
    browser.click(".progress button");
    browser.wait_for("document.querySelector('.summary').textContent === 'Cancelled.'");
    // The cores are free again.
    browser.set("input[name=count]", "1");
    browser.set("input[name=steps]", "2");
    browser.click("form .primary");
    browser.wait_for("document.querySelectorAll('.face img').length === 1");
    browser.is_clean(&server.host);
}

#[test]
fn all_of_it_by_keyboard() {
    let server = Server::start();
    let browser = Browser::open(1000, 800);
    browser.go(&server.url("create"));
    browser.wait_for("document.querySelectorAll('.face img').length === 16");
    // Everything that can be pressed is reached, and has a name.
    browser.run("document.activeElement.blur()");
    let mut reached = Vec::new();
    for _ in 0..60 {
        browser.press(TAB);
        let name = browser.run(
            "const e = document.activeElement; \
             return [e.tagName, e.getAttribute('aria-label') || e.labels?.[0]?.textContent || e.textContent]",
        );
        let name = name.as_array().unwrap().clone();
        if name[0] == "BODY" {
            break;
        }
        assert!(name[1].as_str().is_some_and(|text| !text.trim().is_empty()), "{name:?}");
        reached.push(name[0].as_str().unwrap().to_owned());
    }
    for kind in ["A", "SELECT", "INPUT", "BUTTON"] {
        assert!(reached.iter().any(|reached| reached == kind), "{kind}: {reached:?}");
    }
    browser.run("document.querySelector('.face').focus()");
    browser.press(ARROW_RIGHT);
    let second = "document.activeElement === document.querySelector('.face:nth-child(2)')";
    assert_eq!(browser.run(&format!("return {second}")), json!(true));
    // Values out of range are told at their field.
    browser.set("input[name=seed]", "-1");
    browser.click("form .primary");
    browser.wait_for("document.activeElement.name === 'seed'");
}

#[test]
fn samplers_are_compared() {
    let server = Server::start();
    let browser = Browser::open(1400, 900);
    browser.go(&server.url("compare"));
    browser.wait_for("document.querySelector('input[name=steps]')");
    browser.set("input[name=steps]", "2, 5");
    browser.set("input[name=count]", "3");
    browser.click("form .primary");
    browser.wait_for("document.querySelectorAll('.run img').length === 12");
    browser.wait_for("document.querySelector('.summary').textContent.includes('4 runs')");
    browser.screenshot("compare");
    browser.is_clean(&server.host);
}

#[test]
fn a_wall_goes_on() {
    let server = Server::start();
    let browser = Browser::open(1400, 900);
    browser.go(&server.url("explore"));
    browser.set_when_there("input[name=steps]", "4");
    browser.wait_for("document.querySelectorAll('.wall .face img').length >= 24");
    // The plane between four images is dragged, and gone over by keys.
    browser.wait_for("document.querySelector('.plane code')?.textContent.includes('--plane')");
    let line = "return document.querySelector('.plane code').textContent";
    let before = browser.run(line);
    browser.drag(".map", (-50, 0), (50, 30));
    browser.wait_for(&format!("document.querySelector('.plane code').textContent !== {before}"));
    let before = browser.run(line);
    browser.run("document.querySelector('.map').focus()");
    browser.press(ARROW_RIGHT);
    browser.wait_for(&format!("document.querySelector('.plane code').textContent !== {before}"));
    browser.screenshot("explore");
    browser.run("scrollTo(0, document.body.scrollHeight)");
    browser.wait_for("document.querySelectorAll('.wall .face img').length >= 48");
    browser.is_clean(&server.host);
}

#[test]
fn a_picture_is_edited() {
    let server = Server::start();
    let browser = Browser::open(1400, 1000);
    browser.go(&server.url("create"));
    browser.set_when_there("input[name=count]", "4");
    browser.click("form .primary");
    browser.wait_for("document.querySelectorAll('.face img').length === 4");
    browser.click(".face");
    browser.wait_for("document.querySelector('.viewer .actions button')");
    // Variations of a face are edits of its picture.
    browser.run(
        "[...document.querySelectorAll('.viewer .actions button')] \
         .find((button) => button.textContent === 'Variations').click()",
    );
    browser.wait_for("location.hash === '#/edit'");
    browser.wait_for("document.querySelectorAll('.edit .face img').length === 8");
    browser.screenshot("edit-variations");
    // A file that somebody chooses, and a mask that they paint.
    browser.choose("input[name=picture]", &server.picture());
    browser.wait_for(
        "document.querySelector('.work')?.getContext('2d').getImageData(9, 9, 1, 1).data[3] > 0",
    );
    browser.click("[data-mode=mask]");
    browser.drag(".work", (-60, -40), (60, 40));
    browser.wait_for("document.querySelector('form .primary').textContent === 'Fill the mask'");
    browser.set("input[name=count]", "3");
    browser.set("input[name=steps]", "6");
    browser.click("form .primary");
    browser.wait_for("document.querySelectorAll('.edit .face img').length === 3");
    browser.screenshot("edit-mask");
    browser.click(".edit .face");
    browser.wait_for("document.querySelector('.viewer')");
    browser.run("document.querySelector('.viewer .actions button').click()");
    browser.wait_for("document.querySelector('.viewer .large').src.includes('/original/')");
    browser.resize(360, 900);
    browser.press(ESCAPE);
    let overflow = "return document.documentElement.scrollWidth - innerWidth";
    assert!(browser.run(overflow).as_i64().unwrap() <= 0);
    browser.screenshot("edit-360");
    browser.is_clean(&server.host);
}

#[test]
fn a_training_is_begun_watched_and_stopped() {
    let server = Server::start();
    let browser = Browser::open(1400, 1000);
    browser.go(&server.url("train/new"));
    browser.set_when_there("input[name=name]", "first");
    browser.set("select[name=preset]", "tiny");
    browser.set("input[name=save_every]", "4");
    browser.set("input[name=batch_size]", "8");
    browser.run("document.querySelector('details').open = true");
    browser.click("form .primary");
    browser.wait_for("location.hash === '#/train/first'");
    browser.wait_for("document.querySelector('.chart .curve')");
    browser.wait_for("document.querySelector('img.samples')?.naturalWidth > 0");
    browser.screenshot("train");
    // Faces are made while it trains.
    browser.go(&server.url("create"));
    browser.wait_for("document.querySelectorAll('.face img').length === 16");
    browser.go(&server.url("train/first"));
    browser.wait_for("document.querySelector('[data-key=stop]')");
    browser.run("document.querySelector('[data-key=stop]').click()");
    browser.wait_for("document.querySelector('[data-key=resume]')");
    browser.run("document.querySelector('[data-key=resume]').click()");
    browser.wait_for("document.querySelector('[data-key=stop]')");
    browser.prefer("dark", "no-preference");
    browser.screenshot("train-dark");
    browser.resize(360, 900);
    let overflow = "return document.documentElement.scrollWidth - innerWidth";
    assert!(browser.run(overflow).as_i64().unwrap() <= 0);
    browser.screenshot("train-360");
    browser.is_clean(&server.host);
}

#[test]
fn pictures_are_looked_at() {
    let server = Server::start();
    let browser = Browser::open(1400, 900);
    browser.go(&server.url("data"));
    browser.wait_for("document.querySelectorAll('.thumb img').length === 96");
    browser.wait_for("document.querySelector('.thumb img').naturalWidth > 0");
    browser.click(".chip");
    browser.wait_for("document.querySelector('.chip[aria-pressed=true]')");
    browser.run("document.querySelector('form button').click()");
    browser.wait_for("document.querySelector('.own img')?.naturalWidth > 0");
    browser.screenshot("data");
    browser.is_clean(&server.host);
}
